// A value as a tree that can be folded; long texts and lists are truncated until they are expanded.

import { el } from "./dom.js";
import { fieldFilter } from "./filter.js";
import { Exact, isList, isObject, writeScalar } from "./json.js";
import { counted, cut, number } from "./text.js";

const LONG = 400;
const MANY = 50;
const UNFOLDED = 3;

/** Show *value*; a click on a value in objects calls *pick* with its path and text. */
export function tree(value, pick = null) {
  return el("div", { class: "tree mono" }, node(value, 0, pick && { pick, path: "" }));
}

function node(value, depth, at) {
  if (isList(value)) return branch(value.map((each, index) => [String(index), each, null]), "[", "]", counted(value.length, "item"), depth);
  if (isObject(value)) {
    const fields = Object.entries(value).map(([key, each]) => [writeScalar(cut(key, LONG)), each, at && { ...at, path: at.path ? `${at.path}.${key}` : key }]);
    return branch(fields, "{", "}", counted(fields.length, "field"), depth);
  }
  return picked(leaf(value), value, at);
}

/** A button around a value that selects all rows with it. */
function picked(shown, value, at) {
  const filter = at && fieldFilter(at.path, typeof value === "string" ? value : writeScalar(value));
  if (!filter || (typeof value === "string" && value.length > LONG)) return shown;
  return el("button", { type: "button", class: "pick", title: "Show all with this value", onclick: () => at.pick(filter) }, shown);
}

function branch(fields, open, close, size, depth) {
  if (!fields.length) return el("span", { class: "mark" }, open + close);
  const list = el("ul");
  const show = (from) => {
    list.append(...fields.slice(from, from + MANY).map(([key, each, at]) => field(key, each, depth, at)));
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

function field(key, value, depth, at) {
  return el("li", {}, el("bdi", { class: "key" }, key), el("span", { class: "mark" }, ": "), node(value, depth + 1, at));
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
