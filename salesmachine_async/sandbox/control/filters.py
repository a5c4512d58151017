"""Filters of the lists of events, contacts and accounts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from salesmachine_async.sandbox.control.matching import Pattern

if TYPE_CHECKING:
    from collections.abc import Mapping

    from salesmachine_async.sandbox.storage.store import EventRow, StoredRow

# Limits of field filters, because each is compared with each row.
MAX_FIELDS = 20
MAX_PATH = 200


@dataclass(frozen=True, slots=True)
class Filters:
    """
    Conditions that are checked row by row.

    Attributes:
        text: A text that the uids, the name or the params contain, ignoring case.
        fields: Values of params by path, such as `params.plan`, as text: `pro`, `9.5`, `true`, `null`.
        verdict: Accepts a row by its verdict under the tracking plan.
    """

    text: str | None = None
    fields: Mapping[str, str] | None = None
    verdict: Callable[[str, str, Any], bool] | None = None

    @property
    def accept_event(self) -> Callable[[EventRow], bool] | None:
        """The condition for events; None if all are accepted."""
        if self.text is None and not self.fields and self.verdict is None:
            return None
        matches = self._matcher()
        verdict = self.verdict

        def accept(row: EventRow) -> bool:
            if not self._contains(row.contact_uid, row.event_uid, row.params) or not matches(row.params):
                return False
            return verdict is None or verdict("event", row.event_uid, orjson.loads(row.params))

        return accept

    @property
    def accept_record(self) -> Callable[[StoredRow], bool] | None:
        """The condition for contacts and accounts; None if all are accepted."""
        if self.text is None and not self.fields:
            return None
        matches = self._matcher()
        return lambda row: self._contains(row.uid, row.params) and matches(row.params)

    def _contains(self, *values: str) -> bool:
        return self.text is None or self.text.lower() in " ".join(values).lower()

    def _matcher(self) -> Callable[[str], bool]:
        if not self.fields:
            return lambda _: True
        pattern = Pattern(self.fields, equals_text)
        return lambda text: pattern.fits({"params": orjson.loads(text)})


def equals_text(found: object, wanted: object) -> bool:
    """Return whether a JSON value has the text *wanted*: strings without quotes, other values as JSON."""
    if isinstance(found, str):
        return found == wanted
    return orjson.dumps(found).decode() == wanted
