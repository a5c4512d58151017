// Messages per second over the last two minutes: applied messages, and on top of them rejected or lost ones.

import { byId, setText } from "./dom.js";
import { number } from "./text.js";

const SECONDS = 120;
const HEIGHT = 40;

const second = (at = Date.now()) => Math.floor(at / 1000);

export class Chart {
  constructor() {
    this.counts = new Map();
    this.svg = byId("chart");
    [this.ok, this.bad] = this.svg.querySelectorAll("path");
    this.labelled = 0;
  }

  clear() {
    this.counts.clear();
    this.draw();
  }

  /** Count messages in the second of *at*, epoch milliseconds. */
  add(ok, bad, at = Date.now()) {
    if (!ok && !bad) return;
    const key = second(at);
    const count = this.counts.get(key) ?? { ok: 0, bad: 0 };
    count.ok += ok;
    count.bad += bad;
    this.counts.set(key, count);
  }

  /** Add the requests before the page was opened, from the log. */
  recall(requests) {
    for (const request of requests) this.add(request.accepted, lost(request), Date.parse(request.received_at));
  }

  draw() {
    const now = second();
    for (const key of this.counts.keys()) if (key <= now - SECONDS) this.counts.delete(key);
    let peak = 0;
    for (const { ok, bad } of this.counts.values()) peak = Math.max(peak, ok + bad);
    const top = Math.max(peak, 5);
    let good = "";
    let refused = "";
    for (let at = now - SECONDS + 1; at <= now; at++) {
      const count = this.counts.get(at);
      if (!count) continue;
      const x = at - now + SECONDS - 1;
      const low = HEIGHT - (count.ok / top) * HEIGHT;
      if (count.ok) good += bar(x, low, HEIGHT);
      if (count.bad) refused += bar(x, low - (count.bad / top) * HEIGHT, low);
    }
    this.ok.setAttribute("d", good);
    this.bad.setAttribute("d", refused);
    this.label(now, peak);
  }

  label(now, peak) {
    // The current second is incomplete.
    const last = this.counts.get(now - 1);
    const rate = last ? last.ok + last.bad : 0;
    setText(byId("rate-now"), number(rate));
    setText(byId("rate-peak"), peak ? `peak ${number(peak)}` : "last 2 minutes");
    if (now - this.labelled >= 5) {
      this.labelled = now;
      this.svg.setAttribute("aria-label", `Messages per second over the last two minutes: now ${rate}, at most ${peak}`);
    }
  }
}

function bar(x, from, to) {
  return `M${x} ${to.toFixed(2)}V${from.toFixed(2)}h.8V${to.toFixed(2)}z`;
}

/** Number of messages of a request that were not applied. */
export function lost(request) {
  return request.status === null || request.status >= 400 ? Math.max(0, request.items - request.accepted) : 0;
}
