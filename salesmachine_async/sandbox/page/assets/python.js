// Values and calls as Python source.

import { Exact, isList, isObject, write } from "./json.js";

const WIDTH = 100;

/** Write *value* as a Python literal, on one line if it fits, otherwise indented by *margin*. */
function literal(value, margin = "") {
  const line = flat(value);
  if (line.length + margin.length <= WIDTH || !(isList(value) || isObject(value))) return line;
  const inner = `${margin}    `;
  if (isList(value)) return `[\n${value.map((each) => `${inner}${literal(each, inner)},\n`).join("")}${margin}]`;
  const fields = Object.entries(value).map(([key, each]) => `${inner}${flat(key)}: ${literal(each, inner)},\n`);
  return `{\n${fields.join("")}${margin}}`;
}

function flat(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "string") return quote(value);
  if (isList(value)) return `[${value.map(flat).join(", ")}]`;
  if (isObject(value)) return `{${Object.entries(value).map(([key, each]) => `${flat(key)}: ${flat(each)}`).join(", ")}}`;
  return value instanceof Exact ? value.text : String(value);
}

/** Python has the escapes of JSON, except for surrogate pairs, which Python would not combine. */
function quote(text) {
  return write(text).replace(/\\(?:u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|.)/g, (found, high, low) =>
    high === undefined ? found : `\\U${joined(high, low).toString(16).padStart(8, "0")}`,
  );
}

function joined(high, low) {
  return String.fromCharCode(Number.parseInt(high, 16), Number.parseInt(low, 16)).codePointAt(0);
}

/** Write one call of `agent` for a message. */
function call(message) {
  const margin = " ".repeat(8);
  const [name, ...uids] = nameAndUids(message);
  const given = uids.map((uid) => literal(uid));
  if (message.params && Object.keys(message.params).length) given.push(literal(message.params, margin));
  if (message.created_at) given.push(`created_at=datetime.fromisoformat(${literal(message.created_at)})`);
  return `${margin}agent.${name}(${given.join(", ")})`;
}

function nameAndUids(message) {
  switch (message.method) {
    case "contact":
      return ["contact", message.contact_uid];
    case "account":
      return ["account", message.account_uid];
    case "alias":
      return ["alias", message.contact_uid, message.alias];
    default:
      return message.event_uid === "pageview"
        ? ["pageview", message.contact_uid]
        : ["track", message.contact_uid, message.event_uid];
  }
}

/** Write a whole program that makes these calls against *url*. */
export function program(messages, url) {
  const dated = messages.some((message) => message.created_at);
  return [
    "import asyncio",
    ...(dated ? ["from datetime import datetime"] : []),
    "",
    "from salesmachine_async import Agent",
    "",
    "",
    "async def main() -> None:",
    "    # The token is taken from SALESMACHINE_API_TOKEN.",
    `    async with Agent(base_url=${literal(url)}) as agent:`,
    ...messages.map(call),
    "",
    "",
    "asyncio.run(main())",
    "",
  ].join("\n");
}
