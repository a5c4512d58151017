// The history of a contact or an account: its events and the calls that changed it, latest first.

import { get } from "./api.js";
import { el } from "./dom.js";
import { entry } from "./entries.js";
import { number } from "./text.js";

const PAGE = 50;

export class Timeline {
  /** @param filter is `{contact_uid}` or `{account_uid}`. */
  constructor(filter) {
    this.filter = filter;
    this.events = [];
    this.changes = [];
    this.next = null;
    this.list = el("ol", { class: "timeline" });
    this.older = el("button", { type: "button", class: "small", hidden: true, onclick: () => this.more() }, "Older");
    this.element = el("section", {}, el("h3", {}, "Time line"), this.list, this.older);
  }

  /** Load the latest entries, at least as many as are shown. */
  async load() {
    const limit = Math.min(Math.max(PAGE, this.events.length), 10_000);
    const [{ events, next }, { changes }] = await Promise.all([
      get("events", { ...this.filter, order: "desc", limit }),
      get("changes", { ...this.filter, limit: 200 }),
    ]);
    const same = events.length === this.events.length && events[0]?.seq === this.events[0]?.seq && changes[0]?.number === this.changes[0]?.number;
    this.events = events;
    this.next = next;
    this.changes = changes;
    // Unchanged entries stay, because some may be expanded.
    if (!same || !this.list.children.length) this.draw();
  }

  async more() {
    if (this.next === null) return;
    const { events, next } = await get("events", { ...this.filter, order: "desc", limit: PAGE, after: this.next });
    this.events.push(...events);
    this.next = next;
    this.draw();
  }

  draw() {
    const oldest = this.next === null ? "" : this.events.at(-1).received_at;
    const happened = [
      ...this.events.map((event) => ({ at: event.received_at, made: event.created_at, event })),
      ...this.changes.filter((each) => each.received_at >= oldest).map((each) => ({ at: each.received_at, made: each.created_at, change: each })),
    ];
    // Of one request the later message comes first; a call before the event it was made for.
    happened.sort((one, other) => compare(other.at, one.at) || compare(other.made, one.made) || (one.event ? 0 : 1) - (other.event ? 0 : 1));
    const about = this.filter.contact_uid === undefined;
    this.list.replaceChildren(...happened.map((each) => entry(each.event ? { method: "event", ...each.event } : each.change, about)));
    if (!happened.length) this.list.append(el("li", { class: "faint" }, "No events, and no calls that are still in memory"));
    this.older.hidden = this.next === null;
    this.element.querySelector("h3").textContent = `Time line (${number(happened.length)}${this.next === null ? "" : "+"})`;
  }
}

const compare = (one, other) => (one < other ? -1 : one > other ? 1 : 0);
