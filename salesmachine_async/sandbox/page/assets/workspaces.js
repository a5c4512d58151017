// Which workspace is looked at.

import { get } from "./api.js";
import { byId, el, setText } from "./dom.js";
import { paced } from "./pace.js";
import { counted } from "./text.js";
import { ALL, change, current } from "./view.js";

// The menu of a server that served thousands of tests, each with a token of its own, must still open at once.
const MOST = 200;

export class Workspaces {
  constructor() {
    this.select = byId("workspace");
    this.known = [];
    this.look = paced(() => this.load(), 1500);
    this.select.addEventListener("change", () => {
      change({ workspace: this.select.value, open: null });
      byId("grid").focus();
    });
    this.select.addEventListener("focus", this.look);
  }

  /** Read which there are; choose one if none is chosen. */
  async load() {
    const [{ workspaces }, { requests }] = await Promise.all([
      get("workspaces", { workspace: "" }),
      get("requests", { workspace: "", order: "desc", limit: 1 }),
    ]);
    this.known = workspaces;
    if (!current().workspace && workspaces.length) {
      const latest = requests[0]?.workspace;
      const names = workspaces.map((each) => each.workspace);
      change({ workspace: names.includes(latest) ? latest : names.at(-1) }, true);
    }
    this.draw();
  }

  draw() {
    const { workspace } = current();
    const shown = this.known.slice(-MOST).reverse();
    if (workspace && workspace !== ALL && !shown.some((each) => each.workspace === workspace)) {
      shown.unshift(this.known.find((each) => each.workspace === workspace) ?? { workspace, events: 0 });
    }
    const options = shown.map((each) => [each.workspace, `${each.workspace} · ${counted(each.events, "event")}`]);
    if (!workspace) options.unshift(["", "no workspace yet"]);
    options.push([ALL, "all workspaces"]);
    this.fill(options);
    if (this.select.value !== workspace) this.select.value = workspace;
  }

  /** Change only what differs: the menu may be open, and somebody about to choose. */
  fill(options) {
    const old = new Map([...this.select.options].map((option) => [option.value, option]));
    options.forEach(([value, text], at) => {
      const option = old.get(value) ?? el("option", { value });
      setText(option, text);
      if (this.select.options[at] !== option) this.select.insertBefore(option, this.select.options[at] ?? null);
      old.delete(value);
    });
    for (const option of old.values()) option.remove();
  }
}
