/* The connection to the follower; lost, it is made again by itself. */

const FIRST_WAIT = 500;
const LONGEST_WAIT = 8000;
const LONGEST_SILENCE = 10000; // milliseconds; the stand gives a sign every two seconds
const LONGEST_ANSWER = 20000;

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

/** Runs `lost` where no sign comes for so long. */
export class Watch {
  constructor(lost) {
    this.lost = lost;
  }

  sign(patience = LONGEST_SILENCE) {
    clearTimeout(this.timer);
    this.timer = setTimeout(this.lost, patience);
  }

  end() {
    clearTimeout(this.timer);
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
    this.watch = new Watch(() => this.again("closed"));
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  async connect() {
    clearTimeout(this.timer);
    this.asking?.abort();
    const asking = new AbortController();
    this.asking = asking;
    this.watch.sign(LONGEST_ANSWER);
    try {
      const answer = await fetch("/api/score", { cache: "no-store", signal: asking.signal });
      if (answer.status === 401 || answer.status === 403) return this.again("refused");
      if (!answer.ok) return this.again("closed");
      const score = await answer.json();
      if (asking.signal.aborted) return;
      this.score(score);
    } catch {
      return asking.signal.aborted || this.again("closed");
    }
    const socket = new WebSocket(socketAddress("/ws"));
    this.socket = socket;
    socket.onopen = () => {
      this.backoff.reset();
      this.watch.sign();
      this.change("open");
    };
    socket.onmessage = (message) => {
      this.watch.sign();
      this.hear(JSON.parse(message.data));
    };
    socket.onclose = () => this.again("closed");
  }

  /** Hangs up, also where the other end would never know, and tries anew soon. */
  again(state) {
    this.watch.end();
    this.asking.abort();
    const { socket } = this;
    this.socket = null;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    this.change(state);
    this.timer = setTimeout(() => this.connect(), this.backoff.next());
  }

  hurry() {
    if (!this.socket) this.connect();
  }

  /** Whether the wish could be sent. */
  send(wish) {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(JSON.stringify(wish));
    return true;
  }
}
