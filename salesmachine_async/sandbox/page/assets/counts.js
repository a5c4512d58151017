// Counts per event name over time, in a dialog.

import { get } from "./api.js";
import { byId, el, setText } from "./dom.js";
import { paced } from "./pace.js";
import { counted, number, visible } from "./text.js";
import { change } from "./view.js";

const MOST = 200;
const HEIGHT = 20;

export class Counts {
  constructor() {
    this.dialog = byId("counts-dialog");
    this.seconds = byId("counts-seconds");
    this.touched = paced(() => this.load(), 1000);
    this.seconds.addEventListener("change", () => this.load());
    byId("counts").addEventListener("click", () => this.show());
    byId("counts-close").addEventListener("click", () => this.dialog.close());
  }

  show() {
    this.dialog.showModal();
    return this.load();
  }

  /** Update an open dialog. */
  update() {
    if (this.dialog.open) this.touched();
  }

  async load() {
    let data;
    try {
      data = await get("counts", { seconds: this.seconds.value });
    } catch (error) {
      byId("counts-list").replaceChildren();
      setText(byId("counts-text"), error.message);
      return;
    }
    const total = data.events.reduce((sum, each) => sum + each.total, 0);
    setText(byId("counts-text"), `${counted(total, "event")}, ${counted(data.events.length, "name")}`);
    const peak = Math.max(1, ...data.events.flatMap((each) => each.counts));
    byId("counts-list").replaceChildren(...data.events.slice(0, MOST).map((each) => this.row(each, peak)));
  }

  row({ event_uid: name, total, counts }, peak) {
    const go = () => {
      this.dialog.close();
      change({ tab: "events", q: `event_uid=${name}`, open: null });
    };
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, el("button", { type: "button", class: "link", onclick: go }, el("bdi", {}, visible(name, 80)))),
      el("td", { class: "mono" }, number(total)),
      el("td", {}, bars(counts, peak, `${number(total)}, at most ${number(Math.max(...counts))} in one interval`)),
    );
  }
}

function bars(counts, peak, label) {
  // A copy of the chart's elements, which have the namespace of SVG.
  const svg = byId("chart").cloneNode(false);
  svg.removeAttribute("id");
  svg.setAttribute("viewBox", `0 0 ${counts.length} ${HEIGHT}`);
  svg.setAttribute("aria-label", label);
  const path = byId("chart").querySelector("path").cloneNode(false);
  path.setAttribute("d", counts.map((count, x) => (count ? `M${x} ${HEIGHT}V${(HEIGHT - (count / peak) * HEIGHT).toFixed(2)}h.8V${HEIGHT}z` : "")).join(""));
  svg.append(path);
  return svg;
}
