"""Identity of an account, so that a spool's messages are sent only to the account that they were tracked for."""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["destination_of"]


def destination_of(base_url: str, token: str) -> int:
    """Return a number that identifies an account; neither the URL nor the token can be derived from it."""
    return int.from_bytes(blake2b(f"{base_url.rstrip('/')}\0{token}".encode(), digest_size=8).digest(), "little")
