// The counters at the top.

import { byId, el, setText } from "./dom.js";
import { number } from "./text.js";

const FIGURES = ["events", "contacts", "accounts", "duplicates", "rejected"];

/** Show a summary. */
export function showCounters(summary) {
  for (const name of FIGURES) setText(byId(`figure-${name}`), number(summary[name]));
  byId("figure-rejected").classList.toggle("bad", summary.rejected > 0);
  byId("plan-figure").hidden = !summary.plan;
  setText(byId("figure-bad"), number(summary.plan?.bad ?? 0));
  byId("figure-bad").classList.toggle("bad", Boolean(summary.plan?.bad));
  byId("figure-events").title = summary.evicted ? `${number(summary.evicted)} of the oldest were deleted` : "";
  const requests = Object.entries(summary.requests);
  setText(byId("figure-requests"), number(requests.reduce((sum, [, count]) => sum + count, 0)));
  const list = byId("statuses");
  const chips = requests.map(([status, count]) =>
    el("li", { class: `chip ${statusClass(status)}` }, el("b", {}, status), ` ${number(count)}`),
  );
  list.replaceChildren(...(chips.length ? chips : [el("li", { class: "none" }, "none yet")]));
}

/** The class of a status: good, odd or bad; null is a dropped connection. */
export function statusClass(status) {
  const first = status === null ? "" : String(status)[0];
  return { 2: "good", 3: "good", 4: "odd" }[first] ?? "bad";
}
