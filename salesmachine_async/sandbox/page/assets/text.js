// Formatting of texts for display.

// What would not be seen, or would turn the text around it: controls, bidi marks and overrides, invisible characters,
// surrogates without their other half. Joiners stay: emoji and Persian words are made with them.
const HIDDEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\u{e0000}-\u{e0fff}]/gu;

/** Escape what would not be seen as JSON and Python escape it, `\u202e`. */
export function escapeHidden(text) {
  return text.replace(HIDDEN, (found) =>
    Array.from({ length: found.length }, (_, at) => `\\u${found.charCodeAt(at).toString(16).padStart(4, "0")}`).join(""),
  );
}

/** Show *text* in one line, at most *most* characters of it. */
export function visible(text, most = 200) {
  return escapeHidden(cut(String(text), most).replace(/[\n\r\t]+/g, " "));
}

/** Cut a long text, not within a surrogate pair. */
export function cut(text, most) {
  if (text.length <= most) return text;
  const last = text.charCodeAt(most - 1);
  return `${text.slice(0, last >= 0xd800 && last <= 0xdbff ? most - 1 : most)}…`;
}

/** `1,234`. */
export function number(value) {
  return value.toLocaleString("en-US");
}

/** `1 event`, `2 events`. */
export function counted(value, noun) {
  return `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** `3.2 kB`. */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

const two = (value) => String(value).padStart(2, "0");

/** The local time of day of an instant, with the date when it is not today. */
export function clock(iso) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return iso;
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const day = `${String(at.getFullYear()).padStart(4, "0")}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const today = new Date();
  const same = at.toDateString() === today.toDateString();
  return same ? `${time}.${String(at.getMilliseconds()).padStart(3, "0")}` : `${day} ${time}`;
}
