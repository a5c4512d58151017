// A value as a tree that can be folded; long texts and lists are cut, and shown whole when asked for.

import { el } from "./dom.js";
import { Exact, isList, isObject, writeScalar } from "./json.js";
import { counted, cut, number } from "./text.js";

const LONG = 400;
const MANY = 50;
const UNFOLDED = 3;

/** Show *value*. */
export function tree(value) {
  return el("div", { class: "tree mono" }, node(value, 0));
}

function node(value, depth) {
  if (isList(value)) return branch(value.map((each, index) => [String(index), each]), "[", "]", counted(value.length, "item"), depth);
  if (isObject(value)) {
    const fields = Object.entries(value).map(([key, each]) => [writeScalar(cut(key, LONG)), each]);
    return branch(fields, "{", "}", counted(fields.length, "field"), depth);
  }
  return leaf(value);
}

function branch(fields, open, close, size, depth) {
  if (!fields.length) return el("span", { class: "mark" }, open + close);
  const list = el("ul");
  const show = (from) => {
    list.append(...fields.slice(from, from + MANY).map(([key, each]) => field(key, each, depth)));
    const left = fields.length - from - MANY;
    if (left > 0) {
      const more = el("button", { type: "button", class: "small" }, `${number(left)} more`);
      const place = el("li", {}, more);
      more.addEventListener("click", () => {
        place.remove();
        show(from + MANY);
      });
      list.append(place);
    }
  };
  show(0);
  if (depth === 0) return list;
  return el("details", { open: depth < UNFOLDED }, el("summary", {}, el("span", { class: "mark" }, open), el("span", { class: "size" }, ` ${size} `), el("span", { class: "mark" }, close)), list);
}

function field(key, value, depth) {
  return el("li", {}, el("bdi", { class: "key" }, key), el("span", { class: "mark" }, ": "), node(value, depth + 1));
}

function leaf(value) {
  if (typeof value !== "string") {
    const kind = value === null ? "null" : value instanceof Exact ? "number" : typeof value;
    return el("span", { class: kind }, writeScalar(value));
  }
  const text = el("bdi", { class: "string" }, writeScalar(cut(value, LONG)));
  if (value.length <= LONG) return text;
  const more = el("button", { type: "button", class: "small" }, `all ${number(value.length)} characters`);
  more.addEventListener("click", () => {
    text.textContent = writeScalar(value);
    more.remove();
  });
  return el("span", {}, text, " ", more);
}
