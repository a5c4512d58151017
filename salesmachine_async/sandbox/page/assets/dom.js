// Building the document. Texts become text nodes, so that data of programs is never markup.

export const byId = (id) => document.getElementById(id);

/**
 * Make an element: `el("button", { class: "small", onclick: go }, "Go")`.
 *
 * Functions are listeners; true, false and null set or leave out an attribute. No value of an attribute may come from
 * what was sent where a browser would follow or run it: there is no `href`, `src` or `style` here.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Set the text of an element if it differs, because unchanged nodes need no layout. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

let hiding = 0;

/** Show a short message, also to screen readers. */
export function toast(text, bad = false) {
  const place = byId("toast");
  place.textContent = text;
  place.classList.toggle("bad", bad);
  place.classList.add("on");
  clearTimeout(hiding);
  hiding = setTimeout(() => place.classList.remove("on"), bad ? 6000 : 2500);
}
