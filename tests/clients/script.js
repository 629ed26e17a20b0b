// The wire between a script and the test that runs it (main.rs): the script asks for what happens to the nodes, one
// line each way, and ends with what it found.
"use strict";

const readline = require("node:readline");

const [client, portA, portB, password] = process.argv.slice(2);
const Redis = require(client);
const ports = [Number(portA), Number(portB)];
const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** The nodes as an application lists them. */
const nodes = ports.map((port) => ({ host: "127.0.0.1", port, ...(password && { password }) }));

/** Asks the test for `kill 0`, `start 0`, `pause 0`, `resume 0` or `settle`; returns when it is done. */
async function ask(line) {
  process.stdout.write(`${line}\n`);
  const { value } = await answers.next();
  if (value !== "done") throw new Error(`${line}: ${value}`);
}

/** Runs a script and reports what it returns, one `name=value` each, to the test. */
async function run(main) {
  try {
    const found = await main();
    for (const [name, value] of Object.entries(found)) process.stdout.write(`found ${name}=${value}\n`);
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
}

/** One node by itself, as a plain client sees it. */
function alone(index) {
  return new Redis(nodes[index]);
}

function assert(condition, claim) {
  if (!condition) throw new Error(claim);
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(claim, condition) {
  for (const start = Date.now(); !(await condition()); await sleep(5)) {
    assert(Date.now() - start < 20_000, `waited in vain: ${claim}`);
  }
}

module.exports = { Redis, alone, ask, assert, nodes, run, sleep, until };
