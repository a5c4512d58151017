// A table of any length, with only the visible rows in the document.
//
// The focus stays on the table and aria-activedescendant names the current row, so that rows can be replaced.

import { byId, el } from "./dom.js";

// As in page.css.
const ROW = 34;
const SPARE = 8;

export class Grid {
  /**
   * @param onOpen is called with a row to open.
   * @param onEnd is called when the end of the rows becomes visible.
   * @param onTop is called when the beginning becomes visible again.
   */
  constructor(onOpen, onEnd, onTop) {
    this.onOpen = onOpen;
    this.onEnd = onEnd;
    this.onTop = onTop;
    this.rows = [];
    this.kind = null;
    this.selected = null;
    this.scroller = byId("scroller");
    this.table = byId("grid");
    this.body = byId("window");
    this.frame = 0;
    this.scroller.addEventListener("scroll", () => {
      this.later();
      if (this.atTop()) this.onTop();
    });
    new ResizeObserver(() => this.later()).observe(this.scroller);
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr[data-index]");
      // Selecting text in a row is not a click on it.
      if (row && !String(getSelection())) this.choose(Number(row.dataset.index), true);
    });
  }

  /** Show rows of another kind, or with other columns. */
  setKind(kind, label, columns = kind.columns) {
    this.kind = kind;
    this.columns = columns;
    this.table.setAttribute("aria-label", label);
    byId("columns").replaceChildren(...columns.map(([name, style]) => el("th", { scope: "col", class: style }, name)));
    this.table.setAttribute("aria-colcount", String(columns.length));
    this.selected = null;
    this.scroller.scrollTop = 0;
    this.setRows([], null);
  }

  /** Show these rows; *more* is whether further rows exist. */
  setRows(rows, more) {
    this.rows = rows;
    this.table.setAttribute("aria-rowcount", String(more ? -1 : rows.length + 1));
    this.draw();
  }

  atTop() {
    return this.scroller.scrollTop < ROW;
  }

  toTop() {
    this.scroller.scrollTop = 0;
  }

  index() {
    return this.selected === null ? -1 : this.rows.findIndex((row) => this.kind.key(row) === this.selected);
  }

  /** Select the row with this key. */
  select(key) {
    this.selected = key;
    this.draw();
  }

  /** Move the selection by *steps*; returns the row. */
  move(steps) {
    if (!this.rows.length) return null;
    const from = this.index();
    const near = from < 0 && Number.isFinite(steps);
    const to = near ? this.firstInSight() : from + steps;
    return this.choose(Math.min(Math.max(to, 0), this.rows.length - 1), false);
  }

  choose(index, open) {
    const row = this.rows[index];
    if (!row) return null;
    this.selected = this.kind.key(row);
    this.reveal(index);
    this.draw();
    if (open) this.onOpen(row);
    return row;
  }

  openSelected() {
    const row = this.rows[this.index()];
    if (row) this.onOpen(row);
  }

  pageSize() {
    return Math.max(1, Math.floor(this.scroller.clientHeight / ROW) - 2);
  }

  firstInSight() {
    return Math.ceil(this.scroller.scrollTop / ROW);
  }

  reveal(index) {
    const { scrollTop, clientHeight } = this.scroller;
    const top = index * ROW;
    // The header covers the height of the first row.
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + 2 * ROW > scrollTop + clientHeight) this.scroller.scrollTop = top + 2 * ROW - clientHeight;
  }

  later() {
    if (!this.frame) {
      this.frame = requestAnimationFrame(() => {
        this.frame = 0;
        this.draw();
      });
    }
  }

  draw() {
    if (!this.kind) return;
    const { scrollTop, clientHeight } = this.scroller;
    const first = Math.max(0, Math.floor(scrollTop / ROW) - SPARE);
    const last = Math.min(this.rows.length, Math.ceil((scrollTop + clientHeight) / ROW) + SPARE);
    const drawn = this.rows.slice(first, last).map((row, at) => this.row(row, first + at));
    this.body.replaceChildren(this.gap(first), ...drawn, this.gap(this.rows.length - last));
    const index = this.index();
    if (index >= first && index < last) this.table.setAttribute("aria-activedescendant", `row-${index}`);
    else this.table.removeAttribute("aria-activedescendant");
    if (this.rows.length && last > this.rows.length - SPARE) this.onEnd();
  }

  row(row, index) {
    const selected = this.kind.key(row) === this.selected;
    const cells = this.columns.map(([, style, cell]) => el("td", { class: style }, cell(row)));
    return el("tr", { id: `row-${index}`, "data-index": index, "aria-rowindex": index + 2, "aria-selected": String(selected) }, cells);
  }

  gap(rows) {
    const space = el("tr", { class: "gap", "aria-hidden": "true" });
    space.style.height = `${Math.max(0, rows) * ROW}px`;
    return space;
  }
}
