// JSON without loss. JavaScript rounds 12345678901234567890 and makes 1.0 of 1; values must be shown as they were sent.

import { cut, escapeHidden, visible } from "./text.js";

/** A number whose text JavaScript would change. */
export class Exact {
  constructor(text) {
    this.text = text;
  }
}

/** Parse; numbers keep their text if the browser provides it (Chrome 114, Firefox 135, Safari 18.4). */
export function parse(text) {
  return JSON.parse(text, (_key, value, context) =>
    typeof value === "number" && context?.source !== undefined && context.source !== String(value)
      ? new Exact(context.source)
      : value,
  );
}

export const isList = Array.isArray;

/** Whether *value* is a JSON object. */
export function isObject(value) {
  return value !== null && typeof value === "object" && !isList(value) && !(value instanceof Exact);
}

/** Write a text, a number, true, false or null. */
export function writeScalar(value) {
  return value instanceof Exact ? value.text : escapeHidden(JSON.stringify(value));
}

/** Write JSON, on one line or indented by *indent* spaces. */
export function write(value, indent = 0, margin = "") {
  const inner = margin + " ".repeat(indent);
  const [start, between, end] = indent ? [`\n${inner}`, `,\n${inner}`, `\n${margin}`] : ["", ",", ""];
  if (isList(value)) {
    return value.length ? `[${start}${value.map((each) => write(each, indent, inner)).join(between)}${end}]` : "[]";
  }
  if (isObject(value)) {
    const colon = indent ? ": " : ":";
    const fields = Object.entries(value).map(([key, each]) => writeScalar(key) + colon + write(each, indent, inner));
    return fields.length ? `{${start}${fields.join(between)}${end}}` : "{}";
  }
  return writeScalar(value);
}

/** A summary of params on one line: `plan: pro, amount: 9`. */
export function summarize(value, most = 160) {
  const parts = [];
  let length = 0;
  for (const [key, each] of Object.entries(value)) {
    const shown = isList(each) ? "[…]" : isObject(each) ? "{…}" : brief(each);
    parts.push(`${visible(key, 60)}: ${shown}`);
    length += parts.at(-1).length + 2;
    if (length > most) break;
  }
  return cut(parts.join(", "), most);
}

function brief(value) {
  return value instanceof Exact ? value.text : visible(value, 80);
}
