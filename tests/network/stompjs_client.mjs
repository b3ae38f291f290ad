// Drives @stomp/stompjs under node against a server: node stompjs_client.mjs URL SCENARIO
//
// Prints one line of JSON with what happened; tests/network/test_stompjs_node.py judges it.

import { Client } from "@stomp/stompjs";
import { createHash } from "node:crypto";
import { WebSocket } from "ws";

const [url, scenario] = process.argv.slice(2);
const DESTINATION = "/topic/node";
const result = { scenario };

const limit = setTimeout(() => {
  console.error(`no end within 25 seconds; so far: ${JSON.stringify(result)}`);
  process.exit(3);
}, 25_000);

function fail(error) {
  console.error(error);
  process.exit(1);
}

function connect(options = {}) {
  const sizes = { in: [], out: [] };
  const client = new Client({
    webSocketFactory: () => {
      const socket = new WebSocket(url, ["v12.stomp", "v11.stomp", "v10.stomp"]);
      const send = socket.send.bind(socket);
      socket.send = (data) => {
        sizes.out.push({ binary: typeof data !== "string", size: data.length ?? data.byteLength });
        send(data);
      };
      socket.on("message", (data, isBinary) => sizes.in.push({ binary: isBinary, size: data.length }));
      return socket;
    },
    reconnectDelay: 0,
    heartbeatIncoming: 0,
    heartbeatOutgoing: 0,
    ...options,
  });
  client.sizes = sizes;
  client.closed = new Promise((resolve) => {
    client.onWebSocketClose = (event) =>
      resolve({ code: event.code, reason: String(event.reason), clean: event.wasClean });
  });
  return new Promise((resolve, reject) => {
    client.onConnect = (frame) => {
      result.connected = frame.headers;
      result.subprotocol = client.webSocket.protocol;
      resolve(client);
    };
    client.onStompError = (frame) => fail(new Error(frame.headers.message));
    client.onWebSocketError = (event) => reject(event.error ?? new Error("WebSocket error"));
    client.activate();
  });
}

/** Subscribe; settled once the server has confirmed it. */
function subscribe(client, destination, onMessage) {
  return new Promise((resolve) => {
    client.watchForReceipt("subscribed", resolve);
    client.subscribe(destination, onMessage, { receipt: "subscribed" });
  });
}

/** Publish, and give what arrives and when its receipt came. */
async function roundTrip(client, publication) {
  let onMessage;
  const arrived = new Promise((resolve) => (onMessage = resolve));
  await subscribe(client, DESTINATION, onMessage);
  const confirmed = new Promise((resolve) => client.watchForReceipt("sent", resolve));
  client.publish({ destination: DESTINATION, ...publication, headers: { ...publication.headers, receipt: "sent" } });
  const [message, receipt] = await Promise.all([arrived, confirmed]);
  result.headers = message.headers;
  result.receipt = receipt.headers["receipt-id"];
  result.length = message.binaryBody.length;
  result.sha256 = createHash("sha256").update(message.binaryBody).digest("hex");
  return message;
}

async function disconnect(client) {
  await client.deactivate(); // DISCONNECT, its RECEIPT, close
  result.closed = await client.closed;
}

const MEBIBYTE = 1024 * 1024;
const text = (size) => "0123456789abcdef".repeat(size / 16);

const scenarios = {
  async chat() {
    const client = await connect();
    const message = await roundTrip(client, { body: "grüße 👋", headers: { "content-type": "text/plain", mood: "a:b\nc" } });
    result.body = message.body;
    await disconnect(client);
  },

  async large() {
    const client = await connect();
    await roundTrip(client, { body: text(MEBIBYTE) });
    await disconnect(client);
  },

  async split() {
    const client = await connect({ splitLargeFrames: true, maxWebSocketChunkSize: 1024 });
    await roundTrip(client, { body: text(64 * 1024) });
    result.largestOut = Math.max(...client.sizes.out.map(({ size }) => size));
    result.messagesOut = client.sizes.out.length;
    await disconnect(client);
  },

  async binary_frames() {
    const client = await connect({ forceBinaryWSFrames: true });
    const message = await roundTrip(client, { body: "sent as binary, gets back as text" });
    result.body = message.body;
    result.outBinary = client.sizes.out.every(({ binary }) => binary);
    result.inText = client.sizes.in.every(({ binary }) => !binary);
    await disconnect(client);
  },

  async binary_body() {
    const client = await connect();
    const binaryBody = Uint8Array.from({ length: 1024 }, (_, index) => (index * 7) & 0xff);
    result.sent = createHash("sha256").update(binaryBody).digest("hex");
    await roundTrip(client, { binaryBody, headers: { "content-type": "application/octet-stream" } });
    result.inBinary = client.sizes.in.some(({ binary }) => binary);
    await disconnect(client);
  },

  async heart_beats() {
    const client = await connect({ heartbeatIncoming: 200, heartbeatOutgoing: 200 });
    const beats = { in: 0, out: 0 };
    client.webSocket.addEventListener("message", ({ data }) => (beats.in += data === "\n" || data.byteLength === 1));
    await new Promise((resolve) => {
      const look = setInterval(() => {
        beats.out = client.sizes.out.filter(({ size }) => size === 1).length;
        if (beats.in >= 3 && beats.out >= 3) resolve(clearInterval(look));
      }, 20);
    });
    result.beats = beats;
    await disconnect(client);
  },

  async error() {
    const client = await connect();
    const failed = new Promise((resolve) => (client.onStompError = resolve));
    client.publish({ destination: "/nowhere/x", body: "?", headers: { receipt: "r1" } });
    result.error = (await failed).headers;
    result.closed = await client.closed;
  },
};

try {
  await scenarios[scenario]();
  console.log(JSON.stringify(result));
  clearTimeout(limit);
} catch (error) {
  fail(error);
}
