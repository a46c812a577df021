// Speaks Socket.IO 5 over Engine.IO 4 on the browser's own WebSocket: snapshot, then every change.

const RETRY_FIRST_MS = 500;
const RETRY_MOST_MS = 10000;
const FETCH_EVERY_MS = 10000; // only while no socket can be had

export class Live {
  /** `handlers`: snapshot({seq, status}), change({seq, section, data}), state("live" | "not-live" | "off"). */
  constructor(handlers) {
    this.handlers = handlers;
    this.failures = 0;
    this.silence = 45000;
    addEventListener("pagehide", () => this.socket?.close());
    addEventListener("pageshow", (event) => event.persisted && this.connect());
  }

  connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/socket.io/?EIO=4&transport=websocket`);
    this.socket = socket;
    socket.onmessage = (event) => this.read(socket, event.data);
    socket.onclose = () => socket === this.socket && this.lost();
    this.listen();
  }

  read(socket, text) {
    this.listen();
    if (text[0] === "0") {
      const hello = JSON.parse(text.slice(1));
      this.silence = hello.pingInterval + hello.pingTimeout;
      socket.send("40");
    } else if (text[0] === "2") socket.send("3");
    else if (text.startsWith("42")) this.event(...JSON.parse(text.slice(2)));
  }

  event(name, data) {
    if (name === "snapshot") {
      this.failures = 0;
      clearTimeout(this.fetching);
      this.handlers.state("live");
      this.handlers.snapshot(data);
    } else if (name === "change") this.handlers.change(data);
  }

  /** A socket that stays silent longer than the server's pings allow is dead. */
  listen() {
    clearTimeout(this.watchdog);
    this.watchdog = setTimeout(() => this.socket.close(), this.silence);
  }

  lost() {
    clearTimeout(this.watchdog);
    this.failures += 1;
    const wait = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** (this.failures - 1)) * (0.75 + Math.random() / 2);
    setTimeout(() => this.connect(), wait);
    this.handlers.state("off");
    if (this.failures >= 2) this.fetch();
  }

  /** Without a socket, ask for the status now and then, and say so. */
  async fetch() {
    clearTimeout(this.fetching);
    this.fetching = setTimeout(() => this.failures && this.fetch(), FETCH_EVERY_MS);
    try {
      const answer = await fetch("/api/status", { cache: "no-cache" });
      if (!answer.ok || !this.failures) return;
      this.handlers.snapshot({ seq: 0, status: await answer.json() });
      this.handlers.state("not-live");
    } catch {
      this.handlers.state("off");
    }
  }
}
