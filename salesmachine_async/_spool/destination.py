"""Identity of an account, by which a spool's messages are only ever sent to where they were meant to go."""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["destination_of"]


def destination_of(base_url: str, token: str) -> int:
    """Return a number that identifies an account; neither the URL nor the token can be derived from it."""
    return int.from_bytes(blake2b(f"{base_url.rstrip('/')}\0{token}".encode(), digest_size=8).digest(), "little")
