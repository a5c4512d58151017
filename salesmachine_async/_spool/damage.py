"""Unreadable spans of the log: counted, and kept for inspection."""

from __future__ import annotations

import logging

from salesmachine_async._log import RateLimitedLogger
from salesmachine_async._spool.directory import Directory
from salesmachine_async._spool.root import Root
from salesmachine_async._spool.segment import Loaded

__all__ = ["Damage"]


class Damage:
    """
    Counts the gaps of segments, each once.

    Attributes:
        damaged_bytes: Of records that something has changed; they are kept in the directory's ``damaged/``.
        torn_bytes: Of records that a crash has cut off.
    """

    __slots__ = ("_log", "_root", "_seen", "damaged_bytes", "torn_bytes")

    def __init__(self, root: Root, log: RateLimitedLogger) -> None:
        self._root = root
        self._log = log
        self._seen: set[tuple[str, int, int]] = set()
        self.damaged_bytes = 0
        self.torn_bytes = 0

    def note(self, directory: Directory, loaded: Loaded) -> None:
        """Count the gaps of a segment that was read, and keep their bytes if there is room."""
        for gap in loaded.gaps:
            key = (directory.name, loaded.number, gap.start)
            if key in self._seen:
                continue
            self._seen.add(key)
            if gap.torn:
                self.torn_bytes += gap.end - gap.start
                continue
            self.damaged_bytes += gap.end - gap.start
            self._log("spool damage", logging.ERROR, _TEXT, directory.name, loaded.number, gap.start, gap.end)
            self._keep(directory, f"{loaded.number:08d}-{gap.start}.bin", loaded.data[gap.start : gap.end])

    def _keep(self, directory: Directory, name: str, span: bytes) -> None:
        try:
            with self._root.locked() as root:
                self._root.make_room(root, len(span) + 2 * 4096)
                directory.keep_damaged(name, span)
        except OSError as exc:
            self._log(
                "spool damage kept", logging.WARNING, "damaged bytes of the spool were not kept: %s", exc.strerror
            )


_TEXT = "the spool is damaged: directory %s, segment %d, bytes %d to %d are not readable and were skipped"
