// Messages as expandable entries of a list.

import { el } from "./dom.js";
import { isObject, summarize } from "./json.js";
import { clock, visible } from "./text.js";
import { tree } from "./tree.js";
import { change } from "./view.js";

const CHANGES = { contact: "contact updated", account: "account updated", alias: "alias" };

/** An entry for one message; *about* adds the contact or account. */
export function entry(message, about = false) {
  const event = message.method === "event";
  const uid = message.contact_uid ?? message.account_uid;
  const head = [
    el("time", { class: "mono", datetime: message.received_at, title: `created ${message.created_at}` }, clock(message.received_at)),
    el("bdi", { class: "title" }, visible(event ? message.event_uid : CHANGES[message.method] ?? message.method, 120)),
    about ? el("bdi", { class: "about mono" }, visible(uid, 80)) : null,
  ].filter(Boolean);
  if (event && message.seq) head.push(el("button", { type: "button", class: "link small", title: "Open this event", onclick: () => change({ open: { kind: "event", id: String(message.seq) } }) }, "open"));
  if (message.problems?.length) head.push(el("span", { class: "chip bad" }, "bad"));
  const params = message.params ?? {};
  const said = message.method === "alias" ? visible(`${message.contact_uid} = ${message.alias}`, 200) : summarize(params, 200);
  return el("li", { class: event ? "event" : "change" }, isObject(params) && Object.keys(params).length ? unfolding(head, said, params) : [el("div", {}, head), said ? line(said) : null]);
}

const line = (text) => el("p", { class: "mono faint" }, text);

/** The tree is created when the entry is expanded, because there may be hundreds of entries. */
function unfolding(head, said, params) {
  const details = el("details", {}, el("summary", {}, head, line(said)));
  details.addEventListener("toggle", () => {
    if (details.open && !details.querySelector(".tree")) details.append(tree(params));
  });
  return details;
}
