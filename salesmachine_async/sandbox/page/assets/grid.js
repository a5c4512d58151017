// A table of any length of which only the rows in sight are in the document.
//
// The focus stays on the table; the row it stands on is told by aria-activedescendant, so that rows can come and go.

import { byId, el } from "./dom.js";

// As in page.css.
const ROW = 34;
const SPARE = 8;

export class Grid {
  /**
   * @param onOpen is called with a row to be opened.
   * @param onEnd is called when the end of the rows comes into sight.
   * @param onTop is called when the beginning comes back into sight.
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
      // Marking text in a row is no click on it.
      if (row && !String(getSelection())) this.choose(Number(row.dataset.index), true);
    });
  }

  /** Show things of another kind. */
  setKind(kind, label) {
    this.kind = kind;
    this.table.setAttribute("aria-label", label);
    byId("columns").replaceChildren(...kind.columns.map(([name, style]) => el("th", { scope: "col", class: style }, name)));
    this.table.setAttribute("aria-colcount", String(kind.columns.length));
    this.selected = null;
    this.scroller.scrollTop = 0;
    this.setRows([], null);
  }

  /** Show these rows; *more* tells whether there are others behind them. */
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

  /** Stand on the row that *key* names. */
  select(key) {
    this.selected = key;
    this.draw();
  }

  /** Go up or down by *steps*; tells the row. */
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
    // The head of the table lies over the first row's height.
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
    const cells = this.kind.columns.map(([, style, cell]) => el("td", { class: style }, cell(row)));
    return el("tr", { id: `row-${index}`, "data-index": index, "aria-rowindex": index + 2, "aria-selected": String(selected) }, cells);
  }

  gap(rows) {
    const space = el("tr", { class: "gap", "aria-hidden": "true" });
    space.style.height = `${Math.max(0, rows) * ROW}px`;
    return space;
  }
}
