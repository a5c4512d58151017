// Copying of records as JSON, curl and Python.

import * as curl from "./curl.js";
import { el, toast } from "./dom.js";
import { parse, write } from "./json.js";
import { program } from "./python.js";

/** The record as the messages that would create it; null if they are unknown. */
function messagesOf(kind, item) {
  switch (kind) {
    case "event":
      return [{ method: "event", ...item, request: undefined, problems: undefined }];
    case "contact":
      return [{ method: "contact", contact_uid: item.contact_uid, params: item.params }];
    case "account":
      return [{ method: "account", account_uid: item.account_uid, params: item.params }];
    case "request":
      return item.messages.length && item.messages.length === item.accepted ? item.messages : null;
    default:
      return null;
  }
}

/** The record without what the page has added. */
function withoutExtras({ request: _request, ...item }) {
  return item;
}

/** The texts to copy, by name; null if unavailable. */
function texts(kind, item, url) {
  const messages = messagesOf(kind, item);
  // A batch cannot contain an alias.
  const aliased = messages?.length > 1 && messages.some((message) => message.method === "alias");
  return {
    JSON: () => `${write(withoutExtras(item), 2)}\n`,
    curl: messages && !aliased ? () => curl.messages(messages, url) : refused(item, url),
    Python: messages ? () => program(messages, url) : null,
  };
}

/** The command that sends a rejected item again, if it was kept completely. */
function refused(item, url) {
  if (!item.excerpt) return null;
  try {
    const body = parse(item.excerpt);
    return () => curl.post(item.path, item.index === null ? body : [body], url);
  } catch {
    return null;
  }
}

/** Create the buttons. */
export function buttons(kind, item) {
  return Object.entries(texts(kind, item, location.origin)).map(([name, make]) =>
    el(
      "button",
      {
        type: "button",
        class: "small copy",
        disabled: make === null,
        "data-copy": name,
        title: make ? `Copy as ${name}` : "Its messages are not kept any more, or there are none",
        onclick: () => copy(make(), name),
      },
      name,
    ),
  );
}

/** A block of code with its own button. */
export function snippet(label, text) {
  return el(
    "div",
    { class: "snippet" },
    el("div", { class: "snippet-head" }, el("span", {}, label), el("button", { type: "button", class: "small copy", "aria-label": `Copy: ${label}`, onclick: () => copy(text, label) }, "Copy")),
    el("pre", { tabindex: "0" }, el("code", {}, text)),
  );
}

/** Copy *text* and confirm it. */
export async function copy(text, name) {
  try {
    await put(text);
    toast(`Copied: ${name}`);
  } catch {
    toast("The browser did not let the page copy", true);
  }
}

async function put(text) {
  // Browsers have it on https and on the loopback only; a sandbox may be elsewhere.
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = el("textarea", { class: "unseen", readonly: true });
  area.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("not copied");
  return undefined;
}
