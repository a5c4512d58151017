// The rows of one tab: loaded page by page, newest first, and kept up to date from the top.

import { get } from "./api.js";
import { KINDS } from "./columns.js";
import { filterQuery } from "./filter.js";

const PAGE = 60;
// Limit of the rows kept while the table is at its top.
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
    // The last event that a filter has been applied to.
    this.head = 0;
    this.abort = new AbortController();
  }

  /** Abort loading, because another list is shown. */
  close() {
    this.abort.abort();
  }

  async page(query) {
    const data = await get(this.tab, { order: "desc", limit: PAGE, ...filterQuery(this.tab, this.q), ...query }, this.abort.signal);
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

  /** Load the next page; returns whether there was one. */
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

  /** Add new rows. */
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

  // Only new events are searched again, because there may be a million.

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
    const { events } = await get("events", { after: this.head, limit: 10_000, ...filterQuery(this.tab, this.q) }, this.abort.signal);
    const known = this.keys();
    this.rows = [...events.reverse().filter((row) => !known.has(this.kind.key(row))), ...this.rows];
    this.head = head;
    this.rest();
    return undefined;
  }

  /** Load all rows that match, at most *most*. */
  async all(most) {
    const rows = [];
    let next = null;
    do {
      const page = await get(this.tab, { order: "desc", limit: 10_000, after: next, ...filterQuery(this.tab, this.q) }, this.abort.signal);
      rows.push(...page[this.tab]);
      next = page.next;
    } while (next !== null && rows.length < most);
    return rows.slice(0, most);
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
