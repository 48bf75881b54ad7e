/* Gathers the microphone's quanta into blocks of about 20 ms of mono float32. */

const SECONDS = 0.02;

class Gather extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(Math.round(SECONDS * sampleRate));
    this.filled = 0;
  }

  process([[quantum]]) {
    let from = 0;
    while (quantum && from < quantum.length) {
      const count = Math.min(quantum.length - from, this.block.length - this.filled);
      this.block.set(quantum.subarray(from, from + count), this.filled);
      from += count;
      this.filled += count;
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block, [this.block.buffer]);
        this.block = new Float32Array(Math.round(SECONDS * sampleRate));
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("gather", Gather);
