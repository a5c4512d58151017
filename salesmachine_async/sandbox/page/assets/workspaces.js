// The menu of workspaces.

import { get } from "./api.js";
import { byId, el, setText } from "./dom.js";
import { menuLine, remember } from "./names.js";
import { paced } from "./pace.js";
import { ALL, change, current } from "./view.js";

// Limit of the menu, because a server can have thousands of workspaces, one for each test.
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

  /** Load the workspaces, and select one if none is selected. */
  async load() {
    const [{ workspaces }, { requests }] = await Promise.all([
      get("workspaces", { workspace: "" }),
      get("requests", { workspace: "", order: "desc", limit: 1 }),
    ]);
    this.known = workspaces;
    remember(workspaces);
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
    const options = shown.map((each) => [each.workspace, each.used_at === undefined ? each.workspace : menuLine(each)]);
    if (!workspace) options.unshift(["", "no workspace yet"]);
    options.push([ALL, "all workspaces"]);
    this.fill(options);
    if (this.select.value !== workspace) this.select.value = workspace;
  }

  /** Change only what differs, because the menu may be open. */
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
