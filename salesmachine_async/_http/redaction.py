"""Redaction of credentials in the texts of a server, which may quote the request."""

from __future__ import annotations

import base64
import re
from typing import Final

__all__ = ["REDACTED", "Redactor"]

REDACTED: Final = "***"


class Redactor:
    """
    Replaces a token, a secret and their HTTP Basic form by `REDACTED`.

    It finds them in plain, percent-encoded and JSON-escaped form, for the whole text or for single characters.

    Args:
        token: The checked token.
        secret: The checked secret, which may be empty.
    """

    __slots__ = ("_pattern",)

    def __init__(self, token: str, secret: str) -> None:
        basic = base64.b64encode(f"{token}:{secret}".encode()).decode().rstrip("=")
        # The longest first, because one may be part of another.
        forms = sorted(filter(None, (token, secret, basic)), key=len, reverse=True)
        self._pattern = re.compile("|".join("".join(map(_spellings, form)) for form in forms))

    def __call__(self, text: str) -> str:
        """Return *text* without the credentials."""
        return self._pattern.sub(REDACTED, text)


def _spellings(character: str) -> str:
    """Return a pattern of all forms of a visible ASCII character."""
    plain, code = re.escape(character), f"{ord(character):02x}"
    escaped = "" if character.isalnum() else rf"|\\{plain}"
    return f"(?:{plain}|(?i:%{code}|\\\\u00{code}){escaped})"
