// The entry point of the page.

import { get, ours, streamUrl } from "./api.js";
import { Chart, lost } from "./chart.js";
import { KINDS } from "./columns.js";
import { showCounters } from "./counters.js";
import { Counts } from "./counts.js";
import { Details } from "./details.js";
import { byId } from "./dom.js";
import { Faults } from "./faults.js";
import { listen, showKeys } from "./keys.js";
import { Live } from "./live.js";
import { Pausing } from "./pausing.js";
import { makeReset } from "./reset.js";
import { Rows } from "./rows.js";
import { makeTabs, showTab } from "./tabs.js";
import { switchTheme } from "./theme.js";
import { change, current, onChange, TABS } from "./view.js";
import { snippets } from "./welcome.js";
import { Workspaces } from "./workspaces.js";

const chart = new Chart();
const workspaces = new Workspaces();
const faults = new Faults();
const rows = new Rows(workspaces);
const details = new Details(() => closeDetails());
const counts = new Counts();
const pausing = new Pausing(() => catchUp());
const live = new Live(() => streamUrl(ours().workspace), onUpdate, (state) => pausing.setState(state));
let summary = null;

function onUpdate(update) {
  if (pausing.holds(update)) return;
  const news = update.reset || update.requests.length + update.messages.length + update.messages_skipped > 0;
  show(update.summary);
  const refused = update.requests.reduce((sum, request) => sum + lost(request), 0);
  chart.add(update.messages.length + update.messages_skipped, refused);
  chart.draw();
  faults.update(update);
  details.update(update);
  if (news) counts.update();
  if (update.reset) reload();
  else if (news) rows.touched();
  // The update may concern another workspace, also a new one.
  workspaces.look();
}

function show(next) {
  summary = next;
  showCounters(next);
  rows.setSummary(next);
}

/** Reload all parts. */
function reload() {
  rows.open();
  faults.touched();
  workspaces.look();
  details.touched();
}

/** Load what arrived while the page was hidden or paused. */
async function catchUp() {
  chart.clear();
  reload();
  try {
    const [fresh, { requests }] = await Promise.all([get("summary"), get("requests", { order: "desc", limit: 2000 })]);
    show(fresh);
    chart.clear();
    chart.recall(requests);
    chart.draw();
  } catch {
    // The stream reports a lost connection.
  }
}

function closeDetails() {
  change({ open: null });
  byId("grid").focus();
}

function openRow(row) {
  const kind = KINDS[current().tab];
  change({ open: { kind: kind.kind, id: kind.key(row) } });
}

rows.onOpen = openRow;

onChange(async (view, before) => {
  const moved = view.workspace !== before.workspace;
  const { moving } = rows;
  if (moved) {
    workspaces.draw();
    live.start();
    catchUp();
  } else if (view.tab !== before.tab || view.q !== before.q) {
    rows.open();
  }
  showTab();
  if (moved || JSON.stringify(view.open) !== JSON.stringify(before.open)) {
    rows.mark();
    await details.show(view.open);
    // Moving from row to row keeps the focus on the table.
    if (view.open && !moving) details.focus();
  }
});

function move(steps) {
  const grid = byId("grid");
  if (document.activeElement !== grid) grid.focus({ preventScroll: true });
  const row = rows.grid.move(steps);
  if (row && current().open) {
    rows.moving = true;
    const kind = KINDS[current().tab];
    change({ open: { kind: kind.kind, id: kind.key(row) } }, true);
    rows.moving = false;
  }
}

function escape(event) {
  const filter = byId("filter");
  if (event.target === filter && filter.value) {
    event.preventDefault();
    rows.clearFilter();
  } else if (event.target === filter) byId("grid").focus();
  else if (current().open) closeDetails();
}

const reset = makeReset(() => summary, () => workspaces.known.length);

function help() {
  byId("help-dialog").showModal();
}

function wire() {
  byId("pause").addEventListener("click", () => pausing.toggle());
  byId("faults").addEventListener("click", () => faults.show());
  byId("reset").addEventListener("click", reset);
  byId("theme").addEventListener("click", switchTheme);
  byId("help").addEventListener("click", help);
  byId("help-close").addEventListener("click", () => byId("help-dialog").close());
  byId("snippets").append(...snippets());
  makeTabs();
  showKeys();
  listen({
    move,
    escape,
    page: () => rows.grid.pageSize(),
    open: () => rows.grid.openSelected(),
    keys: {
      "/": () => byId("filter").select(),
      p: () => pausing.toggle(),
      f: () => faults.show(),
      n: () => counts.show(),
      r: reset,
      w: () => byId("workspace").focus(),
      t: switchTheme,
      c: () => document.querySelector("[data-copy=JSON]")?.click(),
      "?": help,
      ...Object.fromEntries(TABS.map((tab, index) => [String(index + 1), () => change({ tab })])),
    },
  });
  setInterval(() => {
    if (!document.hidden && !pausing.paused) chart.draw();
  }, 1000);
  document.addEventListener("visibilitychange", () => {
    // A hidden page closes its connection, because browsers allow six for all pages of one server.
    if (document.hidden) live.stop();
    else {
      live.start();
      if (!pausing.paused) catchUp();
    }
  });
}

async function start() {
  wire();
  showTab();
  try {
    await workspaces.load();
  } catch {
    workspaces.draw();
  }
  // Selecting a workspace has started all this already.
  if (live.source === null) {
    live.start();
    catchUp();
    details.show(current().open);
  }
}

start();
