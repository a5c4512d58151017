// The panel with the details of one record.

import { get, Refused } from "./api.js";
import { outcome } from "./columns.js";
import { buttons, copy } from "./copying.js";
import { statusClass } from "./counters.js";
import { byId, el } from "./dom.js";
import { entry } from "./entries.js";
import { describe } from "./fault-forms.js";
import { parse, write } from "./json.js";
import { nameOf } from "./names.js";
import { paced } from "./pace.js";
import { clock, counted, number, size, visible } from "./text.js";
import { Timeline } from "./timeline.js";
import { tree } from "./tree.js";
import { change } from "./view.js";

const MANY = 30;
const NAMES = { event: "Event", contact: "Contact", account: "Account", request: "Request", rejected: "Refused request" };

// Loading of each kind by its id in the URL, also when the table does not show it.
const FIND = {
  event: async (id) => {
    const [{ events }, { requests }] = await Promise.all([get("events", { after: Number(id) - 1, limit: 1 }), get("requests", { seq: id })]);
    const event = events.find((each) => String(each.seq) === id);
    return event && { ...event, request: requests[0] ?? null };
  },
  contact: async (id) => (await get("contacts", { uid: id })).contacts[0],
  account: async (id) => (await get("accounts", { uid: id })).accounts[0],
  request: (id) => get(`requests/${Number(id)}`),
  rejected: async (id) => (await get("rejected", { after: Number(id) - 1, limit: 1 })).rejected.find((each) => String(each.id) === id),
};
const NUMBERED = new Set(["event", "request", "rejected"]);

export class Details {
  /** @param onClose is called when the panel is closed by its button. */
  constructor(onClose) {
    this.panel = byId("details");
    this.onClose = onClose;
    this.open = null;
    this.item = null;
    this.timeline = null;
    this.drawn = "";
    this.touched = paced(() => this.reload(), 500);
  }

  /** Show what *open*, `{kind, id}`, names; null closes the panel. */
  async show(open) {
    this.open = open;
    this.item = null;
    this.timeline = null;
    this.drawn = "";
    this.panel.hidden = open === null;
    document.body.classList.toggle("detailed", open !== null);
    if (open === null) {
      this.panel.replaceChildren();
      return;
    }
    this.panel.scrollTop = 0;
    this.panel.setAttribute("aria-busy", "true");
    await this.reload();
    if (open === this.open) this.panel.setAttribute("aria-busy", "false");
  }

  focus() {
    byId("details-title")?.focus();
  }

  /** Load the record again. */
  async reload() {
    const open = this.open;
    if (open === null || this.reading()) return;
    const [item, problem] = await this.find(open);
    if (open !== this.open) return;
    if (!item) {
      this.panel.replaceChildren(this.head(open), el("p", { class: "problem" }, problem));
      this.drawn = "";
      return;
    }
    const text = write(item);
    this.item = item;
    if (text !== this.drawn) {
      this.drawn = text;
      if (open.kind === "contact") this.timeline ??= new Timeline({ contact_uid: item.contact_uid });
      if (open.kind === "account") this.timeline ??= new Timeline({ account_uid: item.account_uid });
      const top = this.panel.scrollTop;
      const focused = this.panel.contains(document.activeElement) ? document.activeElement.dataset.copy ?? document.activeElement.id : null;
      this.panel.replaceChildren(this.head(open, item), ...SHOW[open.kind](item), ...(this.timeline ? [this.timeline.element] : []));
      this.panel.scrollTop = top;
      if (focused) (this.panel.querySelector(`[data-copy="${CSS.escape(focused)}"]`) ?? byId(focused))?.focus();
    }
    await this.timeline?.load();
  }

  async find({ kind, id }) {
    if (!FIND[kind] || (NUMBERED.has(kind) && !/^[1-9]\d{0,14}$/.test(id))) return [null, "No such record."];
    try {
      const item = await FIND[kind](id);
      return [item, `This ${NAMES[kind].toLowerCase()} does not exist, or is not kept any more.`];
    } catch (error) {
      const gone = error instanceof Refused && error.status === 404;
      return [null, gone ? "It is not in the log any more, or never was." : `It could not be read: ${error.message}`];
    }
  }

  /** Whether text in the panel is selected, and must not be replaced. */
  reading() {
    const selection = getSelection();
    return this.drawn !== "" && !selection.isCollapsed && this.panel.contains(selection.anchorNode);
  }

  /** Process an update of the stream. */
  update(update) {
    if (this.item === null) return;
    const { kind } = this.open;
    if (kind !== "contact" && kind !== "account") return;
    const uids = new Set(kind === "contact" ? this.item.uids : [this.item.account_uid]);
    const touches = (message) =>
      uids.has(message.contact_uid) || uids.has(message.account_uid) || uids.has(message.alias) || uids.has(String(message.params?.account_uid)) || (kind === "account" && this.item.contacts.includes(message.contact_uid));
    if (update.messages_skipped || update.messages.some(touches)) this.touched();
  }

  head(open, item = null) {
    return el(
      "header",
      {},
      el("div", { class: "heading" }, el("h2", { id: "details-title", tabindex: "-1" }, NAMES[open.kind] ?? "Nothing"), item ? el("div", { class: "copies", role: "group", "aria-label": "Copy as" }, buttons(open.kind, item)) : null, el("button", { type: "button", class: "small", id: "details-link", title: "Copy a link to this", onclick: () => copy(location.href, "link") }, "Link"), el("button", { type: "button", id: "details-close", class: "only-icon", "aria-label": "Close (Esc)", onclick: this.onClose }, "✕")),
      el("p", { class: "name" }, el("bdi", {}, visible(name(open, item), 600))),
    );
  }
}

function name(open, item) {
  if (open.kind === "event") return item?.event_uid ?? `number ${open.id}`;
  if (open.kind === "request" || open.kind === "rejected") return item ? `${item.method ?? "POST"} ${item.path}` : `number ${open.id}`;
  return open.id;
}

/** A button that opens another thing in the panel. */
function link(kind, id) {
  return el("button", { type: "button", class: "link mono", onclick: () => change({ open: { kind, id } }) }, el("bdi", {}, visible(id, 120)));
}

function links(kind, ids) {
  const shown = ids.slice(0, MANY).map((id) => link(kind, id));
  if (ids.length > MANY) shown.push(el("span", { class: "faint" }, `and ${number(ids.length - MANY)} more`));
  return shown.length ? el("span", { class: "links" }, shown) : el("span", { class: "faint" }, "none");
}

function facts(pairs) {
  const rows = pairs.filter(([, value]) => value !== null && value !== undefined);
  return el("dl", { class: "facts" }, rows.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))));
}

const time = (iso) => el("time", { class: "mono", datetime: iso, title: iso }, clock(iso));
const section = (title, ...content) => el("section", {}, el("h3", {}, title), content);
const pick = (tab) => (filter) => change({ tab, q: filter });
const empty = (value, tab) => (Object.keys(value).length ? tree(value, pick(tab)) : el("p", { class: "faint" }, "none"));

const SHOW = {
  event: (item) => [
    facts([
      ["Contact", link("contact", item.contact_uid)],
      ["Account", item.account_uid === null ? null : link("account", item.account_uid)],
      ["Created", time(item.created_at)],
      ["Received", time(item.received_at)],
      ["Number", el("span", { class: "mono" }, number(item.seq))],
      ["Request", item.request ? link("request", String(item.request.id)) : el("span", { class: "faint" }, "not in the log any more")],
      ["Message id", item.message_id === null ? null : el("span", { class: "mono" }, visible(item.message_id, 400))],
    ]),
    ...verdict(item),
    section("Params", empty(item.params, "events")),
  ],
  contact: (item) => [
    facts([
      ["Also known as", item.uids.length > 1 ? el("span", { class: "mono" }, visible(item.uids.slice(1, MANY).join(", "), 2000)) : null],
      ["Accounts", links("account", item.accounts)],
      ["Created", time(item.created_at)],
      ["Updated", time(item.updated_at)],
    ]),
    section("Params, merged", empty(item.params, "contacts")),
  ],
  account: (item) => [
    facts([
      [`Contacts (${number(item.contacts.length)})`, links("contact", item.contacts)],
      ["Created", time(item.created_at)],
      ["Updated", time(item.updated_at)],
    ]),
    section("Params, merged", empty(item.params, "accounts")),
  ],
  request: (item) => [
    facts([
      ["Status", el("span", { class: `chip ${statusClass(item.status)}` }, el("b", {}, item.status === null ? "dropped" : String(item.status)))],
      ["Error", item.error === null ? null : visible(item.error, 1000)],
      ["Fault", item.fault === null ? null : describe(item.fault)],
      ["Outcome", item.error || item.fault ? null : outcome(item)],
      ["Messages", `${number(item.items)} sent, ${number(item.accepted)} applied, ${counted(item.duplicates, "duplicate")}`],
      ["Size", size(item.bytes)],
      ["Received", time(item.received_at)],
      ["Number", el("span", { class: "mono" }, number(item.id))],
      ["Workspace", item.workspace === null ? "none: the credentials are missing or wrong" : el("span", { class: "mono", title: item.workspace }, nameOf(item.workspace))],
    ]),
    item.excerpt === null ? null : refused(item),
    messages(item),
    section("Headers", el("dl", { class: "headers mono" }, item.headers.map(([header, value]) => el("div", {}, el("dt", {}, visible(header, 200)), el("dd", {}, el("bdi", {}, visible(value, 4000))))))),
  ].filter(Boolean),
  rejected: (item) => [
    facts([
      ["Why", visible(item.error ?? "", 1000)],
      ["Status", el("span", { class: `chip ${statusClass(item.status)}` }, el("b", {}, item.status === null ? "dropped" : String(item.status)))],
      ["At fault", item.index === null ? "the body" : `item ${item.index} of ${item.items}`],
      ["Received", time(item.received_at)],
      ["Request", link("request", String(item.id))],
    ]),
    refused(item),
  ],
};

/** The verdict of the tracking plan, if there is one. */
function verdict(item) {
  if (!item.problems) return [];
  if (!item.problems.length) return [section("Tracking plan", el("p", {}, el("span", { class: "chip good" }, "good")))];
  const reasons = item.problems.map(({ path, reason }) => el("li", {}, el("bdi", { class: "mono" }, visible(path, 300)), " ", el("bdi", {}, visible(reason, 300))));
  return [section("Tracking plan", el("p", {}, el("span", { class: "chip bad" }, "bad")), el("ul", { class: "problems" }, reasons))];
}

function refused(item) {
  let shown;
  try {
    shown = tree(parse(item.excerpt));
  } catch {
    // Truncated, or invalid JSON.
    shown = el("p", { class: "mono excerpt" }, el("bdi", {}, visible(item.excerpt, 1001)));
  }
  return section(item.index === null ? "What was sent" : `What was sent: item ${item.index}`, shown);
}

function messages(item) {
  if (!item.messages.length) {
    return item.accepted ? section("Messages", el("p", { class: "faint" }, "not kept any more")) : null;
  }
  const list = el("ol", { class: "timeline" });
  const show = (from) => {
    list.append(...item.messages.slice(from, from + MANY).map((message) => entry(message, true)));
    const left = item.messages.length - from - MANY;
    if (left > 0) list.append(more(left, () => show(from + MANY)));
  };
  show(0);
  return section(`Messages (${number(item.messages.length)})`, list);
}

function more(left, show) {
  const place = el("li", { class: "faint" }, el("button", { type: "button", class: "small", onclick: () => {
    place.remove();
    show();
  } }, `${number(left)} more`));
  return place;
}
