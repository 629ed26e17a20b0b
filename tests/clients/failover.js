// Node A dies and comes back empty, then node B: the application goes on and loses nothing. The counter may be off by one
// per death: ioredis sends an increment again whose reply died with the node.
"use strict";

const { alone, ask, assert, run } = require("./script");
const { Load } = require("./load");

run(async () => {
  const load = new Load();
  load.start();
  await load.go(1000);
  for (const index of [0, 1]) {
    await ask(`kill ${index}`);
    await load.go(1000);
    const before = load.written.length;
    // The answer comes when the node says that it is refilled.
    await ask(`start ${index}`);
    const node = alone(index);
    const keys = await node.dbsize();
    assert(keys >= before, `node ${index} holds ${keys} keys after its return, ${before} were written before`);
    node.disconnect();
    await load.go(500);
  }
  await load.stop();
  await ask("settle");
  const views = [alone(0), alone(1)];
  return load.found(views);
});
