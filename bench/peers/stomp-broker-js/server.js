// stomp-broker-js as its README sets it up: one process, every destination a topic.
const http = require("http");
const StompServer = require("stomp-broker-js");

const server = http.createServer();
new StompServer({ server, path: "/ws", heartbeat: [0, 0] });
server.listen(Number(process.argv[2] || 0), "127.0.0.1", () => {
  console.log(`listening on ws://127.0.0.1:${server.address().port}/ws`);
});
