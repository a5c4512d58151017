// Names of workspaces that a person recognises.

import { clock, counted, visible } from "./text.js";

const names = new Map();

/** Keep the names of *workspaces*, as `/_sandbox/workspaces` lists them. */
export function remember(workspaces) {
  for (const each of workspaces) names.set(each.workspace, title(each));
}

/** The label, or the ends of the token and its length; the public name if the token is unknown. */
export function title({ workspace, label, token, token_length: length }) {
  if (label) return visible(label, 60);
  if (token) return `${visible(token, 10)} (${length})`;
  return length ? `${counted(length, "character")} · ${workspace.slice(0, 6)}` : workspace;
}

/** The name of the workspace with this public name. */
export const nameOf = (workspace) => names.get(workspace) ?? workspace;

/** One line for the menu: the name, the counts, and the last use. */
export function menuLine(each) {
  const used = each.used_at ? ` · ${clock(each.used_at).slice(0, -4)}${each.used_by ? ` by ${visible(each.used_by, 40)}` : ""}` : "";
  return `${title(each)} · ${counted(each.events, "event")}${used}`;
}
