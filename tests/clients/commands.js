// What cluster clients are known to stumble over: keys of all slots in one transaction, pipeline or command, and
// messages published on the node where nobody listens.
"use strict";

const { Redis, alone, assert, nodes, run, until } = require("./script");

const MESSAGES = 20;

run(async () => {
  const cluster = new Redis.Cluster(nodes);
  const found = { ...(await keys(cluster)), ...(await messages(cluster)) };
  cluster.disconnect();
  return found;
});

async function keys(cluster) {
  const names = Array.from({ length: 200 }, (_, n) => `random:${n}:${Math.random()}`);

  const pipeline = cluster.pipeline();
  for (const name of names) pipeline.set(name, name).get(name);
  const replies = await pipeline.exec();
  replies.forEach(([error, reply], n) => {
    const expected = n % 2 ? names[(n - 1) / 2] : "OK";
    assert(!error && reply === expected, `pipeline: reply ${n} is ${error ?? reply}`);
  });

  const multi = cluster.multi();
  for (const name of names) multi.append(name, "+");
  for (const [error] of await multi.exec()) assert(!error, `MULTI: ${error}`);
  const values = await cluster.mget(names);
  values.forEach((value, n) => assert(value === `${names[n]}+`, `MGET: ${names[n]} holds ${value}`));
  assert((await cluster.del(names)) === names.length, "DEL of keys in all slots");
  return { pipelined: replies.length };
}

/** Cluster clients subscribe on whichever node they like. */
async function messages(cluster) {
  const publishers = [alone(0), alone(1), cluster];
  const subscribers = [new Redis.Cluster(nodes), new Redis.Cluster(nodes), alone(0), alone(1)];
  const received = subscribers.map(() => []);
  await Promise.all(
    subscribers.map(async (subscriber, index) => {
      subscriber.on("message", (_, text) => received[index].push(text));
      subscriber.on("pmessage", (_, channel, text) => received[index].push(text));
      await (index % 2 ? subscriber.psubscribe("drill:new*") : subscriber.subscribe("drill:news"));
    }),
  );
  const sent = [];
  for (let n = 0; n < MESSAGES; n++) {
    sent.push(`news ${n}`);
    await publishers[n % publishers.length].publish("drill:news", sent[n]);
  }
  await until("every message arrives", () => received.every((texts) => texts.length >= MESSAGES));
  for (const texts of received) {
    assert(texts.sort().join() === [...sent].sort().join(), `received: ${texts}`);
  }
  for (const client of [...publishers.slice(0, 2), ...subscribers]) client.disconnect();
  return { messages: received.flat().length };
}
