// The text of an empty table: the reason and the next step.

import { track } from "./api.js";
import { snippet } from "./copying.js";
import * as curl from "./curl.js";
import { byId, el, toast } from "./dom.js";
import { program } from "./python.js";
import { nameOf } from "./names.js";
import { counted, visible } from "./text.js";
import { ALL, change, current } from "./view.js";

const TOKEN = "sandbox";
const EVENT = { method: "event", contact_uid: "123456", event_uid: "user_registration", params: { plan: "pro" } };

/** The lines that point an application at this sandbox. */
export function snippets() {
  const url = location.origin;
  return [
    snippet("Environment", `export SALESMACHINE_API_URL=${curl.quote(url)} SALESMACHINE_API_TOKEN=${TOKEN}\n`),
    snippet("curl", curl.messages([EVENT], url)),
    snippet("Python", program([EVENT], url)),
  ];
}

function welcome() {
  return [
    el("h2", {}, "Waiting for the first request"),
    el("p", {}, "Point an application here, or send a request by hand; it appears by itself. Each API token has its own workspace; any token is valid."),
    el("div", { class: "snippets" }, snippets()),
    el("p", {}, el("button", { type: "button", class: "primary", onclick: sendOne }, "Send an event from here"), el("span", { class: "faint" }, ` with the token ${TOKEN}`)),
  ];
}

async function sendOne() {
  const { method: _method, ...body } = EVENT;
  try {
    await track(TOKEN, body);
  } catch (error) {
    toast(`Rejected: ${error.message}`, true);
  }
}

function filtered(q) {
  return [
    el("h2", {}, "Nothing matches"),
    el("p", {}, "No row contains ", el("bdi", { class: "mono" }, visible(q, 100)), "."),
    el("p", {}, el("button", { type: "button", onclick: () => change({ q: "" }) }, "Clear the filter")),
  ];
}

function several(workspaces) {
  return [
    el("h2", {}, "Choose a workspace"),
    el("p", {}, "Contacts, accounts and events are shown for one workspace at a time; requests for all."),
    el("ul", { class: "choices" }, workspaces.slice(-8).reverse().map(({ workspace, events }) => el("li", {}, el("button", { type: "button", class: "mono", onclick: () => change({ workspace }) }, `${nameOf(workspace)} · ${counted(events, "event")}`)))),
  ];
}

const NONE = {
  events: ["No events yet", "They appear here as they arrive."],
  contacts: ["No contacts yet", "The first call for a contact creates it, also an event."],
  accounts: ["No accounts yet", "The first call for an account creates it, or an account_uid in the params of a contact or an event."],
  requests: ["No requests yet", "Requests without a valid token belong to no workspace; “all workspaces” shows them."],
  rejected: ["Nothing was rejected", "Rejected requests appear here with the invalid item."],
};

/** Whether this tab needs a single workspace. */
export const needsOne = (workspaces) => current().workspace === ALL && workspaces.length > 1 && !["requests", "rejected"].includes(current().tab);

/** Explain why there are no rows. */
export function showNothing(summary, workspaces) {
  const { tab, q } = current();
  let content;
  let key = tab;
  if (needsOne(workspaces)) [key, content] = ["several", () => several(workspaces)];
  else if (q) [key, content] = [`q ${q}`, () => filtered(q)];
  else if (!summary || (summary.accepted === 0 && Object.keys(summary.requests).length === 0)) [key, content] = ["welcome", welcome];
  else content = () => [el("h2", {}, NONE[tab][0]), el("p", {}, NONE[tab][1])];
  const place = byId("nothing");
  place.hidden = false;
  // An unchanged text stays, because it may be in use.
  if (place.dataset.key !== key || key === "several") {
    place.dataset.key = key;
    place.replaceChildren(...content());
  }
}
