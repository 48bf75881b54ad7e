/* The microphone of this device, streamed to the follower. */

import { Backoff, Watch, socketAddress } from "./link.js";

const BUSY = 4009;
const MOST_WAITING = 1 << 20; // bytes not yet sent, of which newer sound is left out

const REASONS = {
  NotAllowedError: "The microphone was refused. Allow it for this page in the browser's settings.",
  NotFoundError: "There is no microphone on this device.",
  NotReadableError: "The microphone cannot be opened. Another program may use it.",
};

export class Microphone {
  /** `change(state, reason)`: "off", "asking", "listening", "waiting"; `reason` where it failed. */
  constructor(change) {
    this.change = change;
    this.wanted = false;
    this.context = null;
    this.backoff = new Backoff();
    this.watch = new Watch(() => this.again());
    this.name = `${Date.now()}-${Math.random()}`; // known by it when the network is back
  }

  /** Call it from a click: browsers start sound only then. */
  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      return this.fail(
        "Browsers give the microphone only to pages over HTTPS or on the same computer. " +
          "Start the stand with --tls, or let the computer listen with --mic.",
      );
    }
    this.wanted = true;
    this.change("asking");
    let context = null;
    try {
      context = this.context = new AudioContext({ latencyHint: "interactive" });
      const [stream] = await Promise.all([
        navigator.mediaDevices.getUserMedia({
          audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
        }),
        context.audioWorklet.addModule("/static/worklet.js"),
        context.resume(),
      ]);
      if (this.context !== context) return stream.getTracks().forEach((track) => track.stop());
      this.stream = stream;
      const node = new AudioWorkletNode(context, "gather", {
        channelCount: 1,
        channelCountMode: "explicit",
      });
      node.port.onmessage = ({ data }) => this.send(data);
      context.createMediaStreamSource(stream).connect(node).connect(context.destination);
      stream.getAudioTracks()[0].onended = () =>
        this.fail("The microphone is gone. Listen again when it is back.");
      context.onstatechange = () => {
        if (this.context === context && context.state !== "running") context.resume();
      };
      this.connect();
    } catch (error) {
      if (this.context !== context) return;
      this.fail(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
  }

  connect() {
    const { sampleRate } = this.context;
    const socket = new WebSocket(socketAddress(`/sound?rate=${sampleRate}&from=${this.name}`));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.heard = false;
    this.watch.sign();
    socket.onmessage = ({ data }) => {
      if (JSON.parse(data).type !== "listening" || socket !== this.socket) return;
      this.watch.sign();
      if (this.heard) return;
      this.heard = true;
      this.backoff.reset();
      this.change("listening");
    };
    socket.onclose = ({ code }) => {
      if (socket !== this.socket) return;
      if (code === BUSY) return this.fail("Another microphone is listening. Stop it first.");
      this.again();
    };
  }

  /** Hangs up, also where the other end would never know, and tries anew soon. */
  again() {
    this.hangUp();
    this.change("waiting");
    this.timer = setTimeout(() => this.connect(), this.backoff.next());
  }

  hangUp() {
    this.watch.end();
    const { socket } = this;
    this.socket = null;
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "bye" }));
    socket?.close();
  }

  send(block) {
    const socket = this.socket;
    if (socket?.readyState === WebSocket.OPEN && socket.bufferedAmount < MOST_WAITING) {
      socket.send(block);
    }
  }

  fail(reason) {
    this.stop(reason);
  }

  stop(reason = null) {
    this.wanted = false;
    clearTimeout(this.timer);
    this.hangUp();
    this.stream?.getTracks().forEach((track) => track.stop());
    if (this.context?.state !== "closed") this.context?.close();
    this.stream = this.context = null;
    this.change("off", reason);
  }
}
