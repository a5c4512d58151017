// The current view, kept in the URL: `#events?workspace=…&q=…&open=contact:123456`. A view can be shared, and Back works.

export const TABS = ["events", "contacts", "accounts", "requests", "rejected"];
/** The name, in the URL, of all workspaces together. */
export const ALL = "all";

const listeners = [];
let view = read();

function read() {
  const [tab, query] = location.hash.slice(1).split(/\?(.*)/s);
  const given = new URLSearchParams(query ?? "");
  const open = given.get("open") ?? "";
  const at = open.indexOf(":");
  const workspace = given.get("workspace") ?? "";
  return {
    tab: TABS.includes(tab) ? tab : TABS[0],
    workspace: workspace === ALL || /^[0-9a-f]{16}$/.test(workspace) ? workspace : "",
    q: given.get("q") ?? "",
    open: at > 0 ? { kind: open.slice(0, at), id: open.slice(at + 1) } : null,
  };
}

function written(next) {
  const query = new URLSearchParams();
  if (next.workspace) query.set("workspace", next.workspace);
  if (next.q) query.set("q", next.q);
  if (next.open) query.set("open", `${next.open.kind}:${next.open.id}`);
  const text = query.toString();
  return `#${next.tab}${text ? `?${text}` : ""}`;
}

/** The current view. */
export const current = () => view;

/** Change the view; *replace* adds no step to the history. */
export function change(patch, replace = false) {
  const before = view;
  view = { ...view, ...patch };
  const hash = written(view);
  if (hash !== written(before) || !location.hash) {
    if (replace) history.replaceState(null, "", hash);
    else history.pushState(null, "", hash);
    tell(before);
  }
}

/** Call *listener* with the new and the old view after each change. */
export function onChange(listener) {
  listeners.push(listener);
}

function tell(before) {
  for (const listener of listeners) listener(view, before);
}

// Back, Forward, or another hash typed by hand.
addEventListener("popstate", () => {
  const before = view;
  view = read();
  if (written(view) !== written(before)) tell(before);
});
