// The stream of updates, with reconnection and its state.

import { parse } from "./json.js";

const AGAIN_MS = 1500;

export class Live {
  /**
   * @param address makes the URL to listen to.
   * @param onUpdate is called with each update.
   * @param onState is called with "connecting", "live" or "lost".
   */
  constructor(address, onUpdate, onState) {
    this.address = address;
    this.onUpdate = onUpdate;
    this.onState = onState;
    this.source = null;
    this.timer = 0;
  }

  start() {
    this.stop();
    this.onState("connecting");
    this.open();
  }

  stop() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  open() {
    const source = new EventSource(this.address());
    this.source = source;
    source.addEventListener("update", (event) => {
      if (source !== this.source) return;
      this.onState("live");
      this.onUpdate(parse(event.data));
    });
    source.addEventListener("error", () => {
      if (source !== this.source) return;
      this.onState("lost");
      // The browser tries again by itself, unless the answer was no stream at all.
      if (source.readyState === EventSource.CLOSED) this.timer = setTimeout(() => this.open(), AGAIN_MS);
    });
  }
}
