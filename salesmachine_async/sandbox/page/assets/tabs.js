// Tabs after the ARIA practices: one tab is in the focus order, arrow keys reach the others.

import { byId, el } from "./dom.js";
import { change, current, TABS } from "./view.js";

const NAMES = { events: "Events", contacts: "Contacts", accounts: "Accounts", requests: "Requests", rejected: "Rejected" };

/** Create the tabs. */
export function makeTabs() {
  const tabs = TABS.map((tab, index) =>
    el("button", { type: "button", role: "tab", id: `tab-${tab}`, "aria-controls": "rows", "aria-keyshortcuts": String(index + 1), title: `${NAMES[tab]} (${index + 1})`, onclick: () => change({ tab }) }, NAMES[tab]),
  );
  const list = byId("tabs");
  list.append(...tabs);
  list.addEventListener("keydown", (event) => {
    const at = TABS.indexOf(current().tab);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: TABS.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    change({ tab: TABS.at(to % TABS.length) });
    byId(`tab-${current().tab}`).focus();
  });
}

/** Mark the current tab. */
export function showTab() {
  for (const tab of TABS) {
    const chosen = tab === current().tab;
    const button = byId(`tab-${tab}`);
    button.setAttribute("aria-selected", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
    if (chosen) {
      byId("rows").setAttribute("aria-labelledby", button.id);
      button.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }
}
