// Presets and the form of faults, and their descriptions.

import { el } from "./dom.js";
import { summarize } from "./json.js";
import { visible } from "./text.js";

/** Presets: [name, meaning, fault]. */
export const PRESETS = [
  ["503 ×2", "The next two requests are answered 503", { status: 503, times: 2 }],
  ["429, wait 2 s", "The next request is answered 429 with Retry-After: 2", { status: 429, retry_after: 2, times: 1 }],
  ["Drop after accepting", "The next request is applied, but the connection ends without an answer: a retry makes a duplicate", { drop: "after", times: 1 }],
  ["Drop before", "The next connection ends before anything is applied", { drop: "before", times: 1 }],
  ["Slow 2 s", "The next request waits two seconds", { latency: 2, times: 1 }],
  ["Accept half", "Of the next batch one message is applied, then it is answered 500", { partial: 1, status: 500, times: 1 }],
  ["400", "The next request is answered 400", { status: 400, times: 1 }],
  ["401", "The next request is answered 401", { status: 401, times: 1 }],
  ["413", "The next request is answered 413: too large", { status: 413, times: 1 }],
  ["Flaky 20 %", "One request in five is answered 500, until removed", { status: 500, probability: 0.2, times: null }],
  ["Outage", "Every request is answered 503, until removed", { status: 503, times: null }],
];

const NUMBER = "number";
const FIELDS = [
  { name: "status", type: NUMBER, label: "Status", min: 200, max: 599, placeholder: "as usual" },
  { name: "times", type: NUMBER, label: "Times", min: 1, value: 1, placeholder: "until removed" },
  { name: "path", type: "text", label: "Path", placeholder: "any; /v1/* for some", wide: true },
  { name: "retry_after", type: "text", label: "Retry-After", placeholder: "seconds or text" },
  { name: "probability", type: NUMBER, label: "Probability", min: 0, max: 1, step: "any", placeholder: "1" },
  { name: "latency", type: NUMBER, label: "Wait first, s", min: 0, step: "any", placeholder: "0" },
  { name: "slow", type: NUMBER, label: "Trickle over, s", min: 0, step: "any", placeholder: "0" },
  { name: "partial", type: NUMBER, label: "Apply only", min: 0, placeholder: "all messages" },
  { name: "seed", type: NUMBER, label: "Seed of chance", placeholder: "none" },
  { name: "drop", type: "choice", label: "Drop", choices: ["", "before", "during", "after"] },
  { name: "commit", type: "checkbox", label: "Apply, though it fails" },
  { name: "body", type: "text", label: "Body of the answer", placeholder: "as usual", wide: true },
];

/** Create the fields of the form. */
export function fillForm(form) {
  for (const field of FIELDS) {
    const id = `fault-${field.name}`;
    form.append(el("label", { for: id, class: field.wide ? "wide" : field.type === "checkbox" ? "check" : null }, el("span", {}, field.label), input(field, id)));
  }
  form.append(el("div", { class: "buttons wide" }, el("button", { type: "submit", class: "primary" }, "Add this fault")));
}

function input({ name, type, label: _label, choices, wide: _wide, ...attributes }, id) {
  if (type === "choice") return el("select", { id, name }, choices.map((each) => el("option", { value: each }, each || "no")));
  return el("input", { id, name, type, autocomplete: "off", spellcheck: "false", ...(type === NUMBER ? { step: 1 } : {}), ...attributes });
}

/** Read the fault from the form; empty fields take the defaults of the server. */
export function readForm(form) {
  const fault = {};
  for (const { name, type } of FIELDS) {
    const field = form.elements.namedItem(name);
    if (type === "checkbox") {
      if (field.checked) fault[name] = true;
    } else if (field.value.trim() !== "") {
      fault[name] = type === NUMBER ? Number(field.value) : field.value.trim();
    }
  }
  // An empty number of times is no end, and not the default of one.
  fault.times ??= null;
  if (fault.retry_after !== undefined && Number(fault.retry_after) >= 0) fault.retry_after = Number(fault.retry_after);
  return fault;
}

/** Describe a fault. */
export function describe({ times: _times, ...fault }) {
  const said = [];
  const take = (name, say) => {
    if (fault[name] !== undefined && fault[name] !== null) said.push(say(visible(String(fault[name]), 80)));
    delete fault[name];
  };
  take("status", (value) => `answer ${value}`);
  take("retry_after", (value) => `Retry-After ${value}`);
  take("drop", (value) => `drop ${value}`);
  take("latency", (value) => `wait ${value} s`);
  take("slow", (value) => `trickle over ${value} s`);
  take("partial", (value) => `apply only ${value}`);
  take("commit", () => "apply nevertheless");
  take("probability", (value) => `by a chance of ${value}`);
  take("path", (value) => `at ${value}`);
  if (Object.keys(fault).length) said.push(summarize(fault, 200));
  return said.length ? said.join(", ") : "let through";
}

/** Describe how often a fault still applies. */
export const left = (times) => (times === null ? "until removed" : times === 1 ? "once" : `${times} times`);
