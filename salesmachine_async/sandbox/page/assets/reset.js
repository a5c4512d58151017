// Reset of a workspace, after a confirmation.

import { send } from "./api.js";
import { nameOf } from "./names.js";
import { byId, toast } from "./dom.js";
import { counted } from "./text.js";
import { ALL, change, current } from "./view.js";

/**
 * Create the function that asks for confirmation.
 *
 * @param summary tells what is there.
 * @param workspaces tells how many there are.
 */
export function makeReset(summary, workspaces) {
  const dialog = byId("reset-dialog");
  byId("reset-cancel").addEventListener("click", () => dialog.close());
  byId("reset-confirm").addEventListener("click", async () => {
    dialog.close();
    try {
      await send("POST", "reset");
      change({ open: null }, true);
      toast("Everything was forgotten");
    } catch (error) {
      toast(error.message, true);
    }
  });
  return () => {
    const { workspace } = current();
    if (workspace === ALL && workspaces() > 1) {
      toast("Choose one workspace first: a reset is of one", true);
      return;
    }
    const found = summary() ?? { events: 0, contacts: 0, accounts: 0 };
    const what = [counted(found.events, "event"), counted(found.contacts, "contact"), counted(found.accounts, "account")].join(", ");
    byId("reset-text").textContent = `${what}, with the log of requests and the faults of ${workspace && workspace !== ALL ? `workspace ${nameOf(workspace)}` : "this workspace"}. This cannot be undone.`;
    // Digits and letters only, see view.js.
    byId("reset-export").setAttribute("href", workspace && workspace !== ALL ? `/_sandbox/export?workspace=${workspace}` : "/_sandbox/export");
    dialog.showModal();
  };
}
