// The table of the current tab: rows, filter, and the text for an empty table.

import { columnsOf, KINDS } from "./columns.js";
import { byId, el, setText, toast } from "./dom.js";
import { Grid } from "./grid.js";
import { write } from "./json.js";
import { List } from "./list.js";
import { paced } from "./pace.js";
import { counted, number } from "./text.js";
import { change, current } from "./view.js";
import { needsOne, showNothing } from "./welcome.js";

const TYPED_MS = 200;
const MOST_DOWNLOADED = 100_000;

export class Rows {
  constructor(workspaces) {
    this.workspaces = workspaces;
    this.summary = null;
    this.list = null;
    this.shownColumns = "";
    this.onOpen = () => {};
    // Set while the keyboard moves from row to row.
    this.moving = false;
    this.grid = new Grid((row) => this.onOpen(row), () => this.more(), () => this.newer());
    this.touched = paced(() => this.refresh(), 400);
    byId("newer").addEventListener("click", () => {
      this.grid.toTop();
      this.newer();
    });
    byId("download").addEventListener("click", () => this.download().catch((error) => toast(`Not exported: ${error.message}`, true)));
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

  /** Show the current tab and filter from the beginning. */
  async open() {
    const { tab, q } = current();
    const filter = byId("filter");
    // Not while typing, because a trailing space would be lost.
    if (filter.value.trim() !== q) filter.value = q;
    const columns = columnsOf(tab, this.summary);
    const shown = `${tab} ${columns.map(([label]) => label)}`;
    if (shown !== this.shownColumns) this.grid.setKind(KINDS[tab], tab, columns);
    else this.grid.toTop();
    this.shownColumns = shown;
    this.mark();
    this.list?.close();
    this.list = new List(tab, q);
    byId("newer").hidden = true;
    await this.run((list) => list.load());
  }

  clearFilter() {
    // Also discard typed text that is not applied yet.
    clearTimeout(this.typed);
    byId("filter").value = "";
    change({ q: "" }, true);
  }

  /** Select the row of the open record, if this tab has it. */
  mark() {
    const { tab, open } = current();
    if (open?.kind === KINDS[tab].kind) this.grid.select(open.id);
  }

  /** Add new rows at the top, unless the table is scrolled down, where nothing may move. */
  async refresh() {
    if (!this.list) return;
    if (this.list.loaded && !this.grid.atTop()) byId("newer").hidden = false;
    else await this.run((list) => list.refresh());
  }

  /** Show the newer rows. */
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
        // Aborted for another list, or the server is gone, which the stream reports.
        if (list === this.list && error.status) await this.failed(error);
        return;
      }
    }
    if (list === this.list) this.draw();
  }

  async failed(error) {
    setText(byId("shown"), error.message);
    if (error.status !== 409) return;
    // A second workspace has been created.
    await this.workspaces.load();
    if (needsOne(this.workspaces.known)) {
      this.list.rows = [];
      this.list.next = null;
      this.draw();
    }
  }

  /** `60 of 50,000 events`; the total is unknown for requests, of which the latest are kept, and with a filter. */
  count(length, more, noun) {
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
    this.describe();
  }

  /** Show the counters; without rows, the text that explains why there are none. */
  setSummary(summary) {
    const planned = Boolean(this.summary?.plan) !== Boolean(summary?.plan);
    this.summary = summary;
    if (planned && this.list) this.open();
    else if (this.list?.rows.length) this.describe();
    else if (this.list?.loaded) showNothing(summary, this.workspaces.known);
  }

  /** Download the rows that match the filter as NDJSON. */
  async download() {
    const { tab } = current();
    const rows = await new List(tab, current().q).all(MOST_DOWNLOADED);
    const link = el("a", { download: `${tab}.ndjson` });
    const address = URL.createObjectURL(new Blob([rows.map((row) => `${write(row)}\n`).join("")], { type: "application/x-ndjson" }));
    link.setAttribute("href", address);
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
    toast(`Exported: ${counted(rows.length, KINDS[tab].noun)}`);
  }

  describe() {
    const { rows, next, kind } = this.list;
    setText(byId("shown"), rows.length ? this.count(rows.length, next !== null, kind.noun) : "");
  }
}
