"""Remove credentials from what a server quotes of a request."""

from __future__ import annotations

import base64
import re
from typing import Final

__all__ = ["REDACTED", "Redactor"]

REDACTED: Final = "***"


class Redactor:
    """
    Replaces a token, a secret and their HTTP Basic form by `REDACTED`.

    They are found as they are, percent-encoded and escaped as in JSON, wholly or character by character.

    Args:
        token: The token, checked.
        secret: The secret, checked; may be empty.
    """

    __slots__ = ("_pattern",)

    def __init__(self, token: str, secret: str) -> None:
        basic = base64.b64encode(f"{token}:{secret}".encode()).decode().rstrip("=")
        # The longest first: one may be part of another.
        forms = sorted(filter(None, (token, secret, basic)), key=len, reverse=True)
        self._pattern = re.compile("|".join("".join(map(_spellings, form)) for form in forms))

    def __call__(self, text: str) -> str:
        """Return *text* without the credentials."""
        return self._pattern.sub(REDACTED, text)


def _spellings(character: str) -> str:
    """Return a pattern of the forms in which a visible ASCII character may be written."""
    plain, code = re.escape(character), f"{ord(character):02x}"
    escaped = "" if character.isalnum() else rf"|\\{plain}"
    return f"(?:{plain}|(?i:%{code}|\\\\u00{code}){escaped})"
