// The drawer for faults and the rate limit.

import { get, send } from "./api.js";
import { byId, el, toast } from "./dom.js";
import { describe, fillForm, left, PRESETS, readForm } from "./fault-forms.js";
import { paced } from "./pace.js";
import { ALL, current } from "./view.js";

const WORKSPACE = "workspace";
const SERVER = "server";

export class Faults {
  constructor() {
    this.dialog = byId("faults-dialog");
    this.scripts = { [WORKSPACE]: [], [SERVER]: [] };
    this.limited = false;
    // What is done is done one after the other: a script is read, changed and written back.
    this.last = Promise.resolve();
    this.touched = paced(() => this.inTurn(() => this.load()), 250);
    byId("presets").append(
      ...PRESETS.map(([name, title, fault], index) => el("button", { type: "button", title, autofocus: index === 0, onclick: () => this.add(fault, name) }, name)),
    );
    fillForm(byId("fault-form"));
    byId("fault-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.add(readForm(event.target), "the fault");
    });
    byId("faults-close").addEventListener("click", () => this.dialog.close());
    byId("faults-clear").addEventListener("click", () => this.clear());
    byId("limit-switch").addEventListener("click", () => this.switchLimit());
    for (const id of ["limit-requests", "limit-per"]) byId(id).addEventListener("change", () => this.limited && this.limit());
    this.dialog.addEventListener("click", (event) => {
      // The backdrop is part of the dialog; its content is not the dialog itself.
      if (event.target === this.dialog) this.dialog.close();
    });
  }

  show() {
    this.problem("");
    const none = !this.hasWorkspace();
    byId("scope-workspace").disabled = none;
    byId(none || !byId("scope-server").checked ? (none ? "scope-server" : "scope-workspace") : "scope-server").checked = true;
    this.dialog.showModal();
    this.touched();
  }

  /** Process an update of the stream: each request with a fault has used it once. */
  update(update) {
    if (this.dialog.open || update.requests_skipped || update.requests.some((request) => request.fault)) this.touched();
  }

  inTurn(work) {
    const done = this.last.then(work);
    this.last = done.catch(() => {});
    return done;
  }

  async load() {
    const read = async (workspace) => (await get("faults", { workspace })).faults;
    const [server, own, limit] = await Promise.all([
      read(""),
      this.hasWorkspace() ? read(current().workspace) : [],
      get("rate-limit"),
    ]);
    this.scripts = { [WORKSPACE]: own, [SERVER]: server };
    this.limited = limit.rate_limit !== null;
    if (limit.rate_limit && !this.dialog.contains(document.activeElement?.closest("input"))) {
      byId("limit-requests").value = limit.rate_limit.requests;
      byId("limit-per").value = limit.rate_limit.per;
    }
    this.draw();
  }

  hasWorkspace() {
    return current().workspace !== "" && current().workspace !== ALL;
  }

  draw() {
    const entries = [WORKSPACE, SERVER].flatMap((scope) => this.scripts[scope].map((fault) => this.entry(scope, fault)));
    byId("fault-list").replaceChildren(...(entries.length ? entries : [el("li", { class: "faint" }, "None: everything is answered as it should be.")]));
    byId("faults-clear").disabled = !entries.length;
    byId("limit-switch").setAttribute("aria-checked", String(this.limited));
    const badge = byId("faults-badge");
    badge.hidden = !entries.length && !this.limited;
    badge.textContent = entries.length ? String(entries.length) : "limit";
    badge.title = `${entries.length} faults to come${this.limited ? ", and a rate limit" : ""}`;
  }

  entry(scope, fault) {
    return el(
      "li",
      {},
      el("span", { class: "what" }, describe(fault)),
      el("span", { class: "faint" }, ` ${left(fault.times)}${scope === SERVER ? ", whole server" : ""}`),
      el("button", { type: "button", class: "only-icon small", "aria-label": `Remove: ${describe(fault)}`, onclick: () => this.remove(scope, fault) }, "✕"),
    );
  }

  async add(fault, name) {
    const scope = byId("scope-server").checked ? SERVER : WORKSPACE;
    await this.do(async () => {
      await this.load();
      await this.put(scope, [...this.scripts[scope], fault]);
      toast(`To come: ${name}`);
    });
  }

  async remove(scope, fault) {
    await this.do(async () => {
      await this.load();
      // Requests may have used it since; then only its times and its position differ.
      const at = this.scripts[scope].findIndex((each) => describe(each) === describe(fault));
      if (at >= 0) await this.put(scope, this.scripts[scope].filter((_each, index) => index !== at));
    });
  }

  async clear() {
    await this.do(async () => {
      await this.put(SERVER, []);
      if (this.hasWorkspace()) await this.put(WORKSPACE, []);
      toast("No faults any more");
      byId("faults-close").focus();
    });
  }

  put(scope, faults) {
    return send("PUT", "faults", faults, { workspace: scope === SERVER ? "" : current().workspace });
  }

  switchLimit() {
    return this.limited ? this.do(() => send("DELETE", "rate-limit")) : this.limit();
  }

  limit() {
    const limit = { requests: Number(byId("limit-requests").value), per: Number(byId("limit-per").value) };
    return this.do(() => send("PUT", "rate-limit", limit));
  }

  /** Run an action and show the new state, or the error. */
  async do(work) {
    this.problem("");
    try {
      await this.inTurn(async () => {
        await work();
        await this.load();
      });
    } catch (error) {
      this.problem(error.message.replace(/^faults\[\d+\]: /, ""));
    }
  }

  problem(text) {
    byId("faults-problem").textContent = text;
  }
}
