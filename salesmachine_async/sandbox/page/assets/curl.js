// Requests as curl commands.

import { write } from "./json.js";

/** Quote *text* for a POSIX shell. */
export function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Write the command that posts *body* to *path*. JSON contains neither line breaks nor NUL, so it is safe in any shell. */
export function post(path, body, url) {
  const json = write(body);
  return `curl -u "$SALESMACHINE_API_TOKEN:" -H 'Content-Type: application/json' \\\n  -d ${quote(json)} \\\n  ${quote(url + address(path))}\n`;
}

// encodeURI leaves characters that are special for a server or for the globbing of curl.
function address(path) {
  return encodeURI(path.toWellFormed ? path.toWellFormed() : path).replace(/[?#[\]{}]/g, encodeURIComponent);
}

/** Write the command for messages: a single call for one, a batch for several. */
export function messages(list, url) {
  if (list.length > 1) return post("/v1/batch", list.map(batched), url);
  const [message] = list;
  const { method, ...body } = batched(message);
  const path = method === "event" ? "/v1/track/event" : `/v1/${method}`;
  return post(path, body, url);
}

/** The message as sent, without its id, because the API would ignore a duplicate. */
function batched(message) {
  const fields = { method: message.method };
  for (const name of ["contact_uid", "event_uid", "account_uid", "alias", "params", "created_at"]) {
    if (message[name] === undefined) continue;
    if (name === "account_uid" && message.method !== "account") continue;
    if (name === "created_at" && message.method === "alias") continue;
    fields[name] = message[name];
  }
  return fields;
}
