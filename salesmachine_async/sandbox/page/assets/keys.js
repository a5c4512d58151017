// Keyboard commands.

import { byId, el } from "./dom.js";

/** The keys in the help. */
const HELP = [
  [["/"], "filter"],
  [["1", "…", "5"], "events, contacts, accounts, requests, rejected"],
  [["j", "k"], "next and previous row; also ↓ ↑, PageDown, PageUp, Home, End"],
  [["Enter"], "details"],
  [["Esc"], "close, or clear the filter"],
  [["c"], "copy the details as JSON"],
  [["p"], "pause and resume"],
  [["f"], "faults"],
  [["n"], "events by name"],
  [["r"], "reset (asks first)"],
  [["w"], "workspace"],
  [["t"], "light or dark"],
  [["?"], "this help"],
];

/** Show the keys in the help. */
export function showKeys() {
  byId("keys").replaceChildren(...HELP.map(([keys, what]) => el("div", {}, el("dt", {}, keys.map((key) => el("kbd", {}, key))), el("dd", {}, what))));
}

/** Whether the focused element takes text. */
const typing = (target) => target.closest("input, textarea, select") !== null;

/**
 * Listen.
 *
 * @param commands maps a key to what it does; "move" and "escape" handle rows and Esc, "open" handles Enter.
 */
export function listen(commands) {
  const steps = {
    j: () => 1,
    ArrowDown: () => 1,
    k: () => -1,
    ArrowUp: () => -1,
    PageDown: commands.page,
    PageUp: () => -commands.page(),
    Home: () => -Infinity,
    End: () => Infinity,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    // A dialog has its own keys; the browser closes it at Esc.
    if (document.querySelector("dialog[open]")) return;
    const { key, target } = event;
    if (key === "Escape") commands.escape(event);
    else if (typing(target)) return;
    else if (Object.hasOwn(steps, key)) move(event, steps[key], commands);
    else if (key === "Enter" && (target.id === "grid" || target === document.body)) commands.open();
    else if (Object.hasOwn(commands.keys, key)) commands.keys[key]();
    else return;
    if (key !== "Escape" && key !== "Enter") event.preventDefault();
  });
}

function move(event, steps, commands) {
  // Elsewhere the arrows scroll, or choose a tab; letters never do.
  const letter = event.key.length === 1;
  if (!letter && event.target.id !== "grid" && event.target !== document.body) {
    event.stopPropagation();
    return;
  }
  commands.move(steps());
}
