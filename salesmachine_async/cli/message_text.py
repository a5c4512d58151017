"""One message as one line for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from salesmachine_async.cli.terminal import harmless

if TYPE_CHECKING:
    from rich.text import Text

_STYLES = {"contact": "green", "account": "magenta", "event": "cyan", "alias": "yellow"}


def message_text(time: str, method: str, message: Mapping[str, Any]) -> Text:
    """
    Return a message as a line that cannot control the terminal.

    Args:
        time: When it was received or written, as shown.
        method: The method; an alias has none in its body.
        message: The message as the API takes it.
    """
    from rich.text import Text  # noqa: PLC0415 - --help does not need it

    line = Text.assemble((f"{time}  ", "dim"), (f"{harmless(method):<8}", _STYLES.get(method, "")))
    line.append("  ".join(harmless(part) for part in _uids(message)))
    if params := message.get("params"):
        line.append(f"  {harmless(json.dumps(params, ensure_ascii=False))}", "dim")
    return line


def _uids(message: Mapping[str, Any]) -> Iterator[str]:
    for name in ("account_uid", "contact_uid", "event_uid", "alias"):
        if name in message:
            yield str(message[name])
