// The chat's page: @stomp/stompjs over the WebSocket at /ws of the host that served it.
//
// Rule 1: what came over the network goes into the page as textContent, never as HTML.
// Rule 2: a room is joined anew on every connection: live first, then the snapshot, doubles dropped by id.

const STOMPJS = [
  { src: "/stompjs/stomp.umd.min.js" },
  {
    // Where node_modules is not there. The hash is the released file's, so that a CDN cannot give another.
    src: "https://cdn.jsdelivr.net/npm/@stomp/stompjs@7.5.0/bundles/stomp.umd.min.js",
    integrity: "sha384-kQjQD4X78U0SNVeFmVuyOn7JuHmYlQ/CaFvAm/Omtfa8/ev8Iu1Ur9grrK53Vp/z",
  },
];
const SHOWN = 500; // messages in the page; older ones are taken out

const $ = (id) => document.getElementById(id);

function loadScript({ src, integrity }) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = src;
    if (integrity) {
      script.integrity = integrity;
      script.crossOrigin = "anonymous";
    }
    script.onload = resolve;
    script.onerror = () => reject(new Error(`cannot load ${src}`));
    document.head.append(script);
  });
}

async function loadStompJs() {
  for (const source of STOMPJS) {
    try {
      await loadScript(source);
      return window.StompJs;
    } catch (error) {
      console.warn(error.message);
    }
  }
  throw new Error("@stomp/stompjs cannot be loaded, neither from here nor from the CDN");
}

// Who reads the newest messages goes on doing so, whatever comes and however the page is folded; who has
// scrolled up stays there.
let isAtEnd = true;

function keepAtEnd() {
  const list = $("messages");
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

/** The messages of one room, in the order of their ids, each once. */
class Log {
  constructor(list, myName) {
    this.list = list;
    this.myName = myName;
    this.ids = new Set();
    list.replaceChildren();
    isAtEnd = true;
    $("empty").hidden = false;
  }

  add(said) {
    if (this.ids.has(said.id)) return;
    this.ids.add(said.id);
    $("empty").hidden = true;
    let before = null; // nearly always at the end; a snapshot that comes after a live message goes before it
    for (let item = this.list.lastElementChild; item && Number(item.dataset.id) > said.id; ) {
      before = item;
      item = item.previousElementSibling;
    }
    this.list.insertBefore(this.item(said), before);
    while (this.list.children.length > SHOWN) this.list.firstElementChild.remove();
    if (said.user === this.myName) isAtEnd = true;
    keepAtEnd();
  }

  item(said) {
    const item = document.createElement("li");
    const header = document.createElement("header");
    const name = document.createElement("span");
    const time = document.createElement("time");
    const text = document.createElement("p");
    item.className = said.user === this.myName ? "message mine" : "message";
    item.dataset.id = said.id;
    name.className = "name";
    name.textContent = said.user;
    name.style.setProperty("--hue", hueOf(said.user));
    const at = new Date(said.at * 1000);
    time.dateTime = at.toISOString();
    time.textContent = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    text.textContent = said.text;
    header.append(name, time);
    item.append(header, text);
    return item;
  }
}

function hueOf(name) {
  let hue = 0;
  for (const character of name) hue = (hue * 31 + character.codePointAt(0)) % 360;
  return hue;
}

/** One connection to one room, which comes back when it is lost. */
class Chat {
  constructor(StompJs, nickname, room) {
    this.nickname = nickname;
    this.room = room;
    this.log = null;
    this.client = new StompJs.Client({
      brokerURL: `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`,
      connectHeaders: { login: nickname },
      reconnectDelay: 1000,
      reconnectTimeMode: StompJs.ReconnectionTimeMode.EXPONENTIAL,
      maxReconnectDelay: 15000,
      onConnect: () => this.joined(),
      onStompError: (frame) => this.refused(frame.headers.message),
      onWebSocketClose: () => this.show("connecting"),
    });
  }

  start() {
    this.show("connecting");
    this.client.activate();
  }

  stop() {
    this.client.deactivate();
  }

  joined() {
    const { client, room } = this;
    this.log = new Log($("messages"), this.nickname);
    const read = (frame) => JSON.parse(frame.body);
    client.subscribe("/user/queue/errors", (frame) => this.problem(read(frame)));
    client.subscribe("/user/queue/weather", (frame) => this.forecast(read(frame)));
    client.subscribe(`/topic/chat/${room}`, (frame) => this.log.add(read(frame)));
    client.subscribe(`/app/chat/${room}`, (frame) => read(frame).forEach((said) => this.log.add(said)));
    this.show("connected");
  }

  refused(reason) {
    this.stop(); // else it would try again, in vain
    leave(`The server says: ${reason}`);
  }

  send(destination, payload) {
    if (!this.client.connected) return false;
    this.client.publish({
      destination,
      body: JSON.stringify(payload),
      headers: { "content-type": "application/json" },
    });
    return true;
  }

  say(text) {
    return this.send(`/app/chat/${this.room}`, { text });
  }

  sayNothing() {
    return this.send(`/app/chat/${this.room}`, {});
  }

  ask(place) {
    if (!this.send("/app/weather", { place })) return false;
    const item = document.createElement("li");
    const where = document.createElement("span");
    const answer = document.createElement("span");
    item.className = "waiting";
    item.dataset.place = place;
    where.textContent = place;
    answer.className = "said";
    answer.textContent = "asking …";
    item.append(where, answer);
    $("answers").prepend(item);
    while ($("answers").children.length > 5) $("answers").lastElementChild.remove();
    return true;
  }

  forecast({ place, text, took }) {
    const item = this.waiting().find((each) => each.dataset.place === place);
    if (!item) return;
    item.classList.remove("waiting");
    item.querySelector(".said").textContent = `${text}, after ${took.toFixed(1)} s`;
  }

  /** The questions without an answer, the oldest first. */
  waiting() {
    return [...$("answers").querySelectorAll(".waiting")].reverse();
  }

  problem({ code, message, destination, correlation_id }) {
    $("notice-text").textContent = message;
    $("notice-detail").textContent = `${code} from ${destination}; in the server's log: ${correlation_id}`;
    $("notice").hidden = false;
    if (destination === "/app/weather") this.waiting()[0]?.remove();
  }

  show(state) {
    const isConnected = state === "connected";
    $("status").dataset.state = state;
    $("status").textContent = isConnected ? "connected" : "connecting …";
    for (const button of document.querySelectorAll("#composer button, #weather button, #invalid")) {
      button.disabled = !isConnected;
    }
  }
}

let chat = null;

function enter(StompJs, nickname, room) {
  $("join-problem").textContent = "";
  $("room-name").textContent = room;
  $("my-name").textContent = nickname;
  $("answers").replaceChildren();
  $("notice").hidden = true;
  $("join-view").hidden = true;
  $("chat-view").hidden = false;
  $("text").focus();
  document.title = `#${room} - trio-stomp chat`;
  history.replaceState(null, "", `?room=${encodeURIComponent(room)}`);
  chat = new Chat(StompJs, nickname, room);
  chat.start();
}

function leave(problem = "") {
  chat?.stop();
  chat = null;
  $("chat-view").hidden = true;
  $("join-view").hidden = false;
  $("join-problem").textContent = problem;
  document.title = "trio-stomp chat";
  $("nickname").focus();
}

function onSubmit(form, input, act) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = $(input).value.trim();
    if (text && act(text)) $(input).value = "";
    $(input).focus();
  });
}

const stompJs = loadStompJs();
stompJs.catch((error) => ($("join-problem").textContent = error.message));

$("join").addEventListener("submit", async (event) => {
  event.preventDefault();
  const nickname = $("nickname").value.trim();
  if (nickname) enter(await stompJs, nickname, $("room").value);
});
onSubmit("composer", "text", (text) => chat.say(text));
onSubmit("weather", "place", (place) => chat.ask(place));
$("invalid").addEventListener("click", () => chat.sayNothing());
$("leave").addEventListener("click", () => leave());
$("messages").addEventListener("scroll", () => {
  const { scrollHeight, scrollTop, clientHeight } = $("messages");
  isAtEnd = scrollHeight - scrollTop - clientHeight < 60;
});
new ResizeObserver(keepAtEnd).observe($("messages"));
$("notice-close").addEventListener("click", () => ($("notice").hidden = true));

const asked = new URLSearchParams(location.search).get("room");
if (asked && /^[A-Za-z0-9_-]{1,40}$/.test(asked)) $("room").value = asked;
$("side").open = matchMedia("(min-width: 52rem)").matches;
