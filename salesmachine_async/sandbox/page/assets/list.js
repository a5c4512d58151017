// The rows of one tab: loaded page by page, newest first, and kept up to date from the top.

import { get } from "./api.js";
import { KINDS } from "./columns.js";

const PAGE = 60;
// While nobody scrolls, old rows are let go again.
const MOST_AT_REST = 600;

export class List {
  constructor(tab, q) {
    this.tab = tab;
    this.q = q;
    this.kind = KINDS[tab];
    this.rows = [];
    this.next = null;
    this.loaded = false;
    this.loading = false;
    // Of events looked for by a text: up to which number all were looked at.
    this.head = 0;
    this.abort = new AbortController();
  }

  /** Stop asking: something else is looked at. */
  close() {
    this.abort.abort();
  }

  async page(query) {
    const data = await get(this.tab, { order: "desc", limit: PAGE, q: this.q, ...query }, this.abort.signal);
    return { rows: data[this.tab], next: data.next };
  }

  /** Load the first page. */
  async load() {
    if (this.searches()) this.head = await this.newestEvent();
    const page = await this.page({});
    this.rows = page.rows;
    this.next = page.next;
    this.loaded = true;
  }

  /** Load the next page; tells whether there was one. */
  async more() {
    if (this.next === null || this.loading) return false;
    this.loading = true;
    try {
      const page = await this.page({ after: this.next });
      const known = this.keys();
      this.rows = [...this.rows, ...page.rows.filter((row) => !known.has(this.kind.key(row)))];
      this.next = page.next;
      return true;
    } finally {
      this.loading = false;
    }
  }

  /** Take in what is new. */
  async refresh() {
    if (!this.loaded) return this.load();
    if (this.searches()) return this.search();
    const page = await this.page({});
    const fresh = new Map(page.rows.map((row) => [this.kind.key(row), row]));
    const overlaps = this.rows.some((row) => fresh.has(this.kind.key(row)));
    if (!overlaps || page.next === null) {
      this.rows = page.rows;
      this.next = page.next;
    } else {
      this.rows = [...page.rows, ...this.rows.filter((row) => !fresh.has(this.kind.key(row)))];
      this.rest();
    }
    return undefined;
  }

  // There may be a million events: only the new ones are searched again.

  searches() {
    return this.tab === "events" && this.q !== "";
  }

  async newestEvent() {
    const { events } = await get("events", { order: "desc", limit: 1 }, this.abort.signal);
    return events[0]?.seq ?? 0;
  }

  async search() {
    const head = await this.newestEvent();
    if (head < this.head) return this.load();
    if (head === this.head) return undefined;
    const { events } = await get("events", { after: this.head, limit: 10_000, q: this.q }, this.abort.signal);
    const known = this.keys();
    this.rows = [...events.reverse().filter((row) => !known.has(this.kind.key(row))), ...this.rows];
    this.head = head;
    this.rest();
    return undefined;
  }

  keys() {
    return new Set(this.rows.map(this.kind.key));
  }

  rest() {
    if (this.rows.length <= MOST_AT_REST) return;
    this.rows = this.rows.slice(0, MOST_AT_REST);
    const last = this.rows.at(-1);
    this.next = last.seq ?? last.id ?? last.contact_uid ?? last.account_uid;
  }
}
