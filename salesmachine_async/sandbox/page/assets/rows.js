// The table of the tab looked at: its rows, its filter, and what is said when there are none.

import { KINDS } from "./columns.js";
import { byId, setText } from "./dom.js";
import { Grid } from "./grid.js";
import { List } from "./list.js";
import { paced } from "./pace.js";
import { counted, number } from "./text.js";
import { change, current } from "./view.js";
import { needsOne, showNothing } from "./welcome.js";

const TYPED_MS = 200;

export class Rows {
  constructor(workspaces) {
    this.workspaces = workspaces;
    this.summary = null;
    this.list = null;
    this.shownTab = "";
    this.onOpen = () => {};
    // Set while the keyboard goes from row to row.
    this.moving = false;
    this.grid = new Grid((row) => this.onOpen(row), () => this.more(), () => this.newer());
    this.touched = paced(() => this.refresh(), 400);
    byId("newer").addEventListener("click", () => {
      this.grid.toTop();
      this.newer();
    });
    this.typed = 0;
    byId("filter").addEventListener("input", (event) => {
      clearTimeout(this.typed);
      this.typed = setTimeout(() => change({ q: event.target.value.trim() }, true), TYPED_MS);
    });
    byId("filter").addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "ArrowDown") return;
      event.preventDefault();
      clearTimeout(this.typed);
      change({ q: event.target.value.trim() }, true);
      byId("grid").focus();
    });
  }

  /** Show the tab and the filter that are looked at now, from the beginning. */
  async open() {
    const { tab, q } = current();
    const filter = byId("filter");
    // Not while it is typed in: what is behind the last letter would be lost.
    if (filter.value.trim() !== q) filter.value = q;
    if (tab !== this.shownTab) this.grid.setKind(KINDS[tab], tab);
    else this.grid.toTop();
    this.shownTab = tab;
    this.mark();
    this.list?.close();
    this.list = new List(tab, q);
    byId("newer").hidden = true;
    await this.run((list) => list.load());
  }

  clearFilter() {
    // Also what was typed and not looked for yet.
    clearTimeout(this.typed);
    byId("filter").value = "";
    change({ q: "" }, true);
  }

  /** Stand on the row of what is open, if it is of this tab. */
  mark() {
    const { tab, open } = current();
    if (open?.kind === KINDS[tab].kind) this.grid.select(open.id);
  }

  /** Take in what is new, unless somebody reads further down, where nothing must move. */
  async refresh() {
    if (!this.list) return;
    if (this.list.loaded && !this.grid.atTop()) byId("newer").hidden = false;
    else await this.run((list) => list.refresh());
  }

  /** Show the newer rows that were told of. */
  newer() {
    const button = byId("newer");
    if (button.hidden) return;
    button.hidden = true;
    this.touched();
  }

  async more() {
    if (this.list?.next !== null) await this.run((list) => list.more());
  }

  async run(work) {
    const list = this.list;
    if (needsOne(this.workspaces.known)) {
      list.rows = [];
      list.next = null;
    } else {
      try {
        const moved = await work(list);
        if (moved === false) return;
      } catch (error) {
        // Given up for another list, or the server is gone, which the stream tells.
        if (list === this.list && error.status) await this.failed(error);
        return;
      }
    }
    if (list === this.list) this.draw();
  }

  async failed(error) {
    setText(byId("shown"), error.message);
    if (error.status !== 409) return;
    // The workspaces have become several meanwhile.
    await this.workspaces.load();
    if (needsOne(this.workspaces.known)) {
      this.list.rows = [];
      this.list.next = null;
      this.draw();
    }
  }

  /** `60 of 50,000 events`; of requests only the latest are kept, and of what a filter finds nobody knows how many. */
  told(length, more, noun) {
    const { tab, q } = current();
    const all = q || !this.summary ? undefined : tab === "events" ? this.summary.events - this.summary.evicted : this.summary[tab];
    if (!more) return counted(length, noun);
    return typeof all === "number" && all >= length && tab !== "rejected" ? `${number(length)} of ${counted(all, noun)}` : `${counted(length, noun)}, more below`;
  }

  draw() {
    const { rows, next } = this.list;
    this.grid.setRows(rows, next !== null);
    byId("scroller").hidden = rows.length === 0;
    if (rows.length) byId("nothing").hidden = true;
    else showNothing(this.summary, this.workspaces.known);
    this.tell();
  }

  /** Take in what the counters say. */
  setSummary(summary) {
    this.summary = summary;
    if (this.list?.rows.length) this.tell();
  }

  tell() {
    const { rows, next, kind } = this.list;
    setText(byId("shown"), rows.length ? this.told(rows.length, next !== null, kind.noun) : "");
  }
}
