/* The connection to the follower; lost, it is made again by itself. */

const FIRST_WAIT = 500;
const LONGEST_WAIT = 8000;

export class Backoff {
  constructor() {
    this.reset();
  }

  reset() {
    this.wait = FIRST_WAIT;
  }

  /** Milliseconds until the next try. */
  next() {
    const wait = this.wait * (0.8 + 0.4 * Math.random());
    this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
    return wait;
  }
}

export const socketAddress = (path) =>
  `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;

export class Link {
  /** `hear(message)` for each message, `score(score)` before the first of a connection,
   *  `change(state)`: "open", "closed" or "refused". */
  constructor({ hear, score, change }) {
    Object.assign(this, { hear, score, change });
    this.backoff = new Backoff();
    this.timer = 0;
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  async connect() {
    clearTimeout(this.timer);
    this.timer = 0;
    try {
      const answer = await fetch("/api/score", { cache: "no-store" });
      if (answer.status === 401 || answer.status === 403) return this.again("refused");
      if (!answer.ok) return this.again("closed");
      this.score(await answer.json());
    } catch {
      return this.again("closed");
    }
    const socket = new WebSocket(socketAddress("/ws"));
    this.socket = socket;
    socket.onopen = () => {
      this.backoff.reset();
      this.change("open");
    };
    socket.onmessage = (message) => this.hear(JSON.parse(message.data));
    socket.onclose = () => this.again("closed");
  }

  again(state) {
    this.socket = null;
    this.change(state);
    this.timer = setTimeout(() => this.connect(), this.backoff.next());
  }

  hurry() {
    if (this.timer) this.connect();
  }

  /** Whether the wish could be sent. */
  send(wish) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(wish));
    return true;
  }
}
