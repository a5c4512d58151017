// Pausing of the view, and the state of the connection.

import { byId, setText, toast } from "./dom.js";
import { clock, counted } from "./text.js";

const total = (summary) => Object.values(summary?.requests ?? {}).reduce((sum, count) => sum + count, 0);

const NAMES = { connecting: "Connecting", live: "Live", paused: "Paused" };

export class Pausing {
  /** @param onResume is called when the view resumes. */
  constructor(onResume) {
    this.onResume = onResume;
    this.paused = false;
    this.state = "connecting";
    this.since = null;
    this.summary = null;
    this.messages = 0;
    this.requests = 0;
  }

  toggle() {
    this.paused = !this.paused;
    this.messages = this.requests = 0;
    const button = byId("pause");
    button.setAttribute("aria-pressed", String(this.paused));
    setText(byId("pause-text"), this.paused ? "Resume" : "Pause");
    this.draw();
    toast(this.paused ? "Paused: what arrives is counted, and shown when you resume" : "Live again");
    if (!this.paused) this.onResume();
  }

  /** Count an update that is not shown; returns whether the view is paused. */
  holds(update) {
    if (!this.paused) {
      this.summary = update.summary;
      return false;
    }
    // By the counters, so that what came while the stream was broken counts as well.
    this.messages = Math.max(0, update.summary.accepted - (this.summary?.accepted ?? 0));
    this.requests = Math.max(0, total(update.summary) - total(this.summary));
    this.draw();
    return true;
  }

  /** Set the state of the connection. */
  setState(state) {
    if (state === this.state) return;
    // It stays lost until it is live again, however often it is tried.
    if (state === "lost" && this.since === null) {
      this.since = new Date().toISOString();
      toast("The connection is lost; the page reconnects by itself", true);
    }
    if (state === "live") {
      if (this.since !== null) toast("Connected again");
      this.since = null;
    }
    this.state = state;
    this.draw();
  }

  draw() {
    const lost = this.since !== null;
    byId("connection").dataset.state = lost ? "lost" : this.paused ? "paused" : this.state;
    setText(byId("connection-text"), lost ? `Disconnected since ${clock(this.since).slice(0, 8)}` : this.paused ? this.waiting() : NAMES[this.state]);
    byId("connection").title = lost ? "The page reconnects by itself" : "";
  }

  waiting() {
    if (!this.messages && !this.requests) return NAMES.paused;
    return `${NAMES.paused}: ${counted(this.messages, "message")}, ${counted(this.requests, "request")} waiting`;
  }
}
