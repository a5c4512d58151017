"""
The floor: the least that a tracking call can do in Python and still keep the message.

A plain function that takes the arguments of the call, builds the message's dict (timestamp and id given), encodes it
once and appends the bytes to a bytearray, which keeps them. No check, no bound, no clock, no id, no batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

CREATED_AT: Final = "2026-11-22T07:32:22.123Z"
MESSAGE_ID: Final = "3f2c9f5a-8b1d-4c77-9a11-100000000001"


class Floor:
    """
    Floors of the calls, over one buffer.

    Attributes:
        track: As `Agent.track`.
        contact: As `Agent.contact`.
        kept: Returns everything that was appended.
    """

    def __init__(self, default: Callable[[Any], Any] | None = None) -> None:
        self.track, self.contact, self.kept = _floors(default)


def _floors(
    default: Callable[[Any], Any] | None,
) -> tuple[Callable[[str, str, dict[str, Any]], None], Callable[[str, dict[str, Any]], None], Callable[[], bytearray]]:
    # Closures over local names: the cheapest functions there are.
    buffer = bytearray()
    dumps = orjson.dumps

    def track(contact_uid: str, event_uid: str, params: dict[str, Any]) -> None:
        nonlocal buffer
        buffer += dumps(
            {
                "method": "event",
                "contact_uid": contact_uid,
                "event_uid": event_uid,
                "params": params,
                "created_at": CREATED_AT,
                "messageId": MESSAGE_ID,
            },
            default,
        )
        buffer += b","

    def contact(contact_uid: str, params: dict[str, Any]) -> None:
        nonlocal buffer
        buffer += dumps(
            {
                "method": "contact",
                "contact_uid": contact_uid,
                "params": params,
                "created_at": CREATED_AT,
                "messageId": MESSAGE_ID,
            },
            default,
        )
        buffer += b","

    return track, contact, lambda: buffer


def message(contact_uid: str, event_uid: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the message that `Floor.track` encodes."""
    return {
        "method": "event",
        "contact_uid": contact_uid,
        "event_uid": event_uid,
        "params": params,
        "created_at": CREATED_AT,
        "messageId": MESSAGE_ID,
    }
