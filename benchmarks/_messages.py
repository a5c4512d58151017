"""What the benchmarks track: the same messages for everyone."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

EVENT: Final = "user_registration"

# Five properties, one of them nested: about 300 bytes on the wire.
SMALL: Final[dict[str, Any]] = {
    "account_uid": "78910",
    "display_name": "Registration",
    "plan": "pro",
    "amount": 42.5,
    "source": {"campaign": "spring", "medium": "email"},
}
# Two kilobytes on the wire: the small ones and what a form of twenty-six fields adds.
LARGE: Final[dict[str, Any]] = {
    **SMALL,
    **{f"field_{number:02}": f"the visitor's answer to question {number:02}, as typed by hand" for number in range(26)},
}
# A value that JSON does not know: it takes orjson's hook.
ODD: Final[dict[str, Any]] = {**SMALL, "amount": Decimal("42.50")}

PARAMS: Final = {"small": SMALL, "large": LARGE, "odd": ODD}


def contact_uids(count: int) -> list[str]:
    """Return *count* different uids, as an application has them: texts made long before the call."""
    return [f"{100_000 + number}" for number in range(count)]


def numbered(number: int) -> dict[str, Any]:
    """Return the small params with a number, by which the sink tells the messages apart."""
    return {**SMALL, "seq": number}
