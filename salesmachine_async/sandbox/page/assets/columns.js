// Columns of the tables.

import { statusClass } from "./counters.js";
import { el } from "./dom.js";
import { describe } from "./fault-forms.js";
import { summarize } from "./json.js";
import { nameOf } from "./names.js";
import { clock, counted, number, size, visible } from "./text.js";
import { ALL, current } from "./view.js";

const text = (value, attributes = {}) => el("span", attributes, visible(value));
const faint = (value) => el("span", { class: "faint" }, value);
const time = (iso) => el("time", { class: "mono", datetime: iso }, clock(iso));
const params = (value) => el("span", { class: "mono params" }, summarize(value));
const uid = (value) => el("bdi", { class: "mono" }, visible(value));

function status(request) {
  return el("span", { class: `chip ${statusClass(request.status)}` }, el("b", {}, request.status === null ? "dropped" : String(request.status)));
}

/** The outcome of a request in a few words. */
export function outcome(request) {
  if (request.fault) return `fault: ${describe(request.fault)}`;
  if (request.error) return visible(request.error, 300);
  if (request.accepted || request.duplicates) {
    const again = request.duplicates ? `, ${counted(request.duplicates, "duplicate")}` : "";
    return `${number(request.accepted)} applied${again}`;
  }
  return "";
}

const workspace = ["Workspace", "w-uid less", (row) => (row.workspace === null ? faint("none") : el("bdi", { title: row.workspace }, nameOf(row.workspace)))];
const verdict = ["Plan", "w-plan", (row) => (row.problems ? el("span", { class: `chip ${row.problems.length ? "bad" : "good"}`, title: visible(row.problems.map(({ path, reason }) => `${path}: ${reason}`).join("\n"), 500) }, row.problems.length ? "bad" : "good") : faint("–"))];

/** The columns of a tab: of requests the workspace if all are shown, of events the verdict if there is a plan. */
export function columnsOf(tab, summary) {
  const { columns } = KINDS[tab];
  if (tab === "events" && summary?.plan) return [...columns.slice(0, 2), verdict, ...columns.slice(2)];
  if (["requests", "rejected"].includes(tab) && current().workspace === ALL) return [columns[0], workspace, ...columns.slice(1)];
  return columns;
}

/**
 * For each tab: `key` identifies a row; `kind` is the kind of its details; `columns` are [name, class, cell]. Columns of
 * class "less" are hidden on narrow screens, "least" first.
 */
export const KINDS = {
  events: {
    kind: "event",
    noun: "event",
    key: (row) => String(row.seq),
    columns: [
      ["Received", "w-time", (row) => time(row.received_at)],
      ["Event", "w-name", (row) => text(row.event_uid, { class: "strong" })],
      ["Contact", "w-uid", (row) => uid(row.contact_uid)],
      ["Account", "w-uid less", (row) => (row.account_uid === null ? faint("–") : uid(row.account_uid))],
      ["Params", "w-rest least", (row) => params(row.params)],
    ],
  },
  contacts: {
    kind: "contact",
    noun: "contact",
    key: (row) => row.contact_uid,
    columns: [
      ["Contact", "w-uid", (row) => uid(row.contact_uid)],
      ["Params", "w-rest", (row) => params(row.params)],
      ["Accounts", "w-uid less", (row) => (row.accounts.length ? text(row.accounts.slice(0, 20).join(", "), { class: "mono" }) : faint("–"))],
      ["Also known as", "w-uid least", (row) => (row.uids.length > 1 ? text(row.uids.slice(1, 20).join(", "), { class: "mono" }) : faint("–"))],
      ["Updated", "w-time less", (row) => time(row.updated_at)],
    ],
  },
  accounts: {
    kind: "account",
    noun: "account",
    key: (row) => row.account_uid,
    columns: [
      ["Account", "w-uid", (row) => uid(row.account_uid)],
      ["Contacts", "w-count", (row) => el("span", { class: "mono" }, number(row.contacts.length))],
      ["Params", "w-rest", (row) => params(row.params)],
      ["Updated", "w-time less", (row) => time(row.updated_at)],
    ],
  },
  requests: {
    kind: "request",
    noun: "request",
    key: (row) => String(row.id),
    columns: [
      ["Received", "w-time", (row) => time(row.received_at)],
      ["Status", "w-status", status],
      ["Request", "w-name", (row) => el("span", { class: "mono" }, faint(`${visible(row.method, 20)} `), visible(row.path))],
      ["Items", "w-count less", (row) => el("span", { class: "mono" }, number(row.items))],
      ["Size", "w-count least", (row) => el("span", { class: "mono" }, size(row.bytes))],
      ["Outcome", "w-rest least", (row) => el("span", { class: row.error || row.fault ? "" : "faint" }, outcome(row))],
    ],
  },
  rejected: {
    kind: "rejected",
    noun: "rejected request",
    key: (row) => String(row.id),
    columns: [
      ["Received", "w-time", (row) => time(row.received_at)],
      ["Status", "w-status less", status],
      ["Request", "w-name less", (row) => text(row.path, { class: "mono" })],
      ["Why", "w-why", (row) => text(row.error ?? "")],
      ["What", "w-rest least", (row) => text(row.excerpt, { class: "mono params" })],
    ],
  },
};
