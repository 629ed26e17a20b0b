// The owner freezes: its sockets stay open and say nothing. The client needs the timeouts of the README. Until the socket's
// has passed, commands go to the frozen node and come back with theirs: errors that the application has asked for.
"use strict";

const { alone, ask, nodes, run } = require("./script");
const { Load } = require("./load");

run(async () => {
  const redisOptions = { connectTimeout: 500, commandTimeout: 500, socketTimeout: 1000 };
  const load = new Load({ redisOptions });
  const views = [alone(0), alone(1)];
  const [[, , owner]] = await views[0].cluster("SLOTS");
  const index = nodes.findIndex(({ port }) => port === owner[1]);
  load.start();
  await load.go(1000);
  await ask(`pause ${index}`);
  await load.go(4000);
  await ask(`resume ${index}`);
  await load.go(1000);
  await load.stop();
  await ask("settle");
  return load.found(views);
});
