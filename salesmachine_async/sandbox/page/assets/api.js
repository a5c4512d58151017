// Requests to the control endpoints of the server of this page.

import { parse } from "./json.js";
import { ALL, current } from "./view.js";

/** An answer other than a success; its message is the API's own sentence. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

function url(path, query) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") given.set(name, value);
  }
  const text = given.toString();
  return `/_sandbox/${path}${text ? `?${text}` : ""}`;
}

/** The query that means the workspace looked at. */
export const ours = () => ({ workspace: current().workspace === ALL ? "" : current().workspace });

/** Read *path*, by default of the workspace looked at. */
export async function get(path, query = {}, signal = undefined) {
  return answer(await fetch(url(path, { ...ours(), ...query }), { signal, cache: "no-store" }));
}

/** Change something; *body* is sent as JSON. */
export async function send(method, path, body = undefined, query = ours()) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  return answer(await fetch(url(path, query), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) }));
}

/** Call the tracking API as an application would, with *token*. */
export async function track(token, body) {
  const headers = { "Content-Type": "application/json", Authorization: `Basic ${btoa(`${token}:`)}` };
  return answer(await fetch("/v1/track/event", { method: "POST", headers, body: JSON.stringify(body) }));
}

async function answer(response) {
  const text = await response.text();
  let data = null;
  try {
    data = parse(text);
  } catch {
    // Not the sandbox that answers, or it was cut off.
  }
  if (!response.ok || data === null) throw new Refused(response.status, data?.error ?? `HTTP ${response.status}`);
  return data;
}

/** The address of the stream of updates of *workspace*; empty means all. */
export const streamUrl = (workspace) => url("stream", { workspace });
