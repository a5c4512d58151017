// The language of the filter: `params.plan=pro` compares a field, any other text is searched.

const FIELD = /^(params\.[^=]{1,180}|event_uid|contact_uid|account_uid|plan)=(.*)$/s;
const NAMES = { events: () => true, contacts: (name) => name.startsWith("params."), accounts: (name) => name.startsWith("params.") };

/** The query parameters of the filter *q* in the list *tab*. */
export function filterQuery(tab, q) {
  const found = FIELD.exec(q);
  return found && NAMES[tab]?.(found[1]) ? { [found[1]]: found[2] } : { q };
}

/** The filter that selects rows with this value at *path* of the params; null if the filter cannot express it. */
export function fieldFilter(path, text) {
  const filter = `params.${path}=${text}`;
  return FIELD.test(filter) && !path.includes("=") && filter.length <= 500 ? filter : null;
}
