/* The microphone of this device, streamed to the follower. */

import { Backoff, socketAddress } from "./link.js";

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
    this.backoff = new Backoff();
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
    try {
      this.context = new AudioContext({ latencyHint: "interactive" });
      const [stream] = await Promise.all([
        navigator.mediaDevices.getUserMedia({
          audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
        }),
        this.context.audioWorklet.addModule("/static/worklet.js"),
        this.context.resume(),
      ]);
      this.stream = stream;
      if (!this.wanted) return this.stop();
      const node = new AudioWorkletNode(this.context, "gather", {
        channelCount: 1,
        channelCountMode: "explicit",
      });
      node.port.onmessage = ({ data }) => this.send(data);
      this.context.createMediaStreamSource(stream).connect(node).connect(this.context.destination);
      stream.getAudioTracks()[0].onended = () =>
        this.fail("The microphone is gone. Listen again when it is back.");
      this.context.onstatechange = () => {
        if (this.wanted && this.context.state !== "running") this.context.resume();
      };
      this.connect();
    } catch (error) {
      this.fail(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
  }

  connect() {
    const socket = new WebSocket(socketAddress(`/sound?rate=${this.context.sampleRate}`));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onmessage = ({ data }) => {
      const { type } = JSON.parse(data);
      if (type === "listening") {
        this.backoff.reset();
        this.change("listening");
      }
    };
    socket.onclose = ({ code }) => {
      if (!this.wanted || socket !== this.socket) return;
      if (code === BUSY) return this.fail("Another microphone is listening. Stop it first.");
      this.change("waiting");
      this.timer = setTimeout(() => this.connect(), this.backoff.next());
    };
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
    const socket = this.socket;
    this.socket = null;
    if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "bye" }));
    socket?.close();
    this.stream?.getTracks().forEach((track) => track.stop());
    if (this.context?.state !== "closed") this.context?.close();
    this.stream = this.context = null;
    this.change("off", reason);
  }
}
