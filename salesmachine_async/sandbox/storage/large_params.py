"""
Params of events in memory, beside SQLite.

A row that is larger than a quarter of a page takes whole further pages, and one that is larger than half a page fills
it alone: params of 1,000 bytes took 5,099. Here each takes its own size.
"""

from __future__ import annotations

# Longer params are kept here.
MIN_CHARACTERS = 700
# Events whose params share one list, which is deleted as a whole.
BLOCK = 256


class LargeParams:
    """Encoded params by workspace and `seq`."""

    def __init__(self) -> None:
        # By workspace and block, because a list takes 8 bytes for an entry, and a dict 100.
        self._blocks: dict[int, dict[int, list[bytes | None]]] = {}

    def add(self, workspace: int, seq: int, text: str) -> None:
        """Keep the params of an event."""
        blocks = self._blocks.setdefault(workspace, {})
        block = blocks.setdefault(seq // BLOCK, [None] * BLOCK)
        block[seq % BLOCK] = text.encode()

    def get(self, workspace: int, seq: int) -> str:
        """Return the params of an event, which must be kept here."""
        params = self._blocks[workspace][seq // BLOCK][seq % BLOCK]
        assert params is not None
        return params.decode()

    def delete_before(self, workspace: int, seq: int) -> None:
        """Delete the params of the events before *seq*."""
        blocks = self._blocks.get(workspace, {})
        for number in [number for number in blocks if number <= seq // BLOCK]:
            if number < seq // BLOCK:
                del blocks[number]
            else:
                blocks[number][: seq % BLOCK] = [None] * (seq % BLOCK)

    def delete_workspace(self, workspace: int) -> None:
        """Delete everything of a workspace."""
        self._blocks.pop(workspace, None)
