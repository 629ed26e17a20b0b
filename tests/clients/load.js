// An application at work: it writes, reads, counts and passes jobs through cluster clients, without a pause, and keeps
// books on everything that was acknowledged.
//
// What a client may see when a node dies under it: it sends again what got no reply, so an increment or a job may count
// twice; and a job that was popped but whose reply was lost is gone. Both at most once per command under way.
"use strict";

const { Redis, assert, nodes, sleep } = require("./script");

/** Milliseconds between two operations of one worker: continuous, and polite to a machine that runs other tests. */
const PACE_MS = 2;

class Load {
  constructor(options) {
    this.options = options;
    this.written = [];
    this.increments = 0;
    this.pushed = new Set();
    this.popped = new Set();
    this.operations = 0;
    this.errors = [];
    this.stopping = false;
    this.longest = 0;
    this.clients = [];
  }

  start() {
    // A blocked connection answers nothing else: the taker has its own.
    const [app, taker] = [this.connect(), this.connect()];
    this.producers = [
      this.repeat("write and read", () => this.writeAndRead(app)),
      this.repeat("count", () => this.count(app)),
      this.repeat("push", () => this.push(app)),
    ];
    this.taking = this.repeat("pop", () => this.pop(taker));
  }

  connect() {
    const client = this.options ? new Redis.Cluster(nodes, this.options) : new Redis.Cluster(nodes);
    client.on("error", (error) => this.errors.push(`error event: ${error.message}`));
    this.clients.push(client);
    return client;
  }

  /** Does `operation` again and again, noting failures and the longest time from one success to the next. */
  async repeat(name, operation) {
    let last;
    while (!this.stopping || (name === "pop" && this.backlog())) {
      try {
        await operation();
        const now = performance.now();
        if (last !== undefined) this.longest = Math.max(this.longest, now - last);
        last = now;
        this.operations += 1;
      } catch (error) {
        this.errors.push(`${name}: ${error.message}`);
      }
      await sleep(PACE_MS);
    }
  }

  async writeAndRead(app) {
    const n = this.written.length;
    await app.set(`drill:${n}`, `value ${n}`);
    this.written.push(n);
    const read = await app.get(`drill:${n}`);
    // Acknowledged by a node that died in the same instant: the final count decides whether it is there.
    if (read !== null) assert(read === `value ${n}`, `drill:${n} holds ${read}`);
  }

  async count(app) {
    await app.incr("drill:counter");
    this.increments += 1;
  }

  async push(app) {
    const job = `job ${this.pushed.size}`;
    await app.lpush("drill:jobs", job);
    this.pushed.add(job);
  }

  async pop(taker) {
    const reply = await taker.blpop("drill:jobs", 0.2);
    if (reply) this.popped.add(reply[1]);
    else if (this.stopping) this.drained = true;
  }

  backlog() {
    return !this.drained && [...this.pushed].some((job) => !this.popped.has(job));
  }

  /** Lets `ms` pass with everything at work, and sees that it was. */
  async go(ms) {
    const before = this.operations;
    await sleep(ms);
    assert(this.operations > before + 20, `only ${this.operations - before} operations in ${ms} ms`);
  }

  /** Stops the producers, lets the taker empty the queue, and disconnects. */
  async stop() {
    this.stopping = true;
    await Promise.all(this.producers);
    await this.taking;
    for (const client of this.clients) client.disconnect();
  }

  /** What of the books is not on a node. */
  async missing(node) {
    const pipeline = node.pipeline();
    for (const n of this.written) pipeline.get(`drill:${n}`);
    const replies = await pipeline.exec();
    const lost = replies.filter(([error, value], n) => error || value !== `value ${this.written[n]}`).length;
    return { lost, counter: Number(await node.get("drill:counter")) };
  }

  /** All the numbers, after the nodes have settled. */
  async found(views) {
    const seen = await Promise.all(views.map((node) => this.missing(node)));
    return {
      operations: this.operations,
      errors: this.errors.length,
      first_error: this.errors[0] ?? "none",
      longest_gap_ms: Math.ceil(this.longest),
      written: this.written.length,
      lost: Math.max(...seen.map(({ lost }) => lost)),
      // Negative: increments that are gone. Positive: sent again.
      counter_off: Math.max(...seen.map(({ counter }) => Math.abs(counter - this.increments))),
      counter_short: Math.max(0, ...seen.map(({ counter }) => this.increments - counter)),
      jobs: this.pushed.size,
      jobs_lost: [...this.pushed].filter((job) => !this.popped.has(job)).length,
    };
  }
}

module.exports = { Load };
