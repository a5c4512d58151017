"""The file of the rows that were rejected, which can be imported again when they are mended."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, Any

import orjson

from salesmachine_async.cli.importing.mapping import REJECT_KEYS
from salesmachine_async.cli.importing.rows import InputRow
from salesmachine_async.cli.importing.source import InputProblem


class RejectsFile:
    """
    Lines of NDJSON, one for each rejected row.

    Each has its file, line and text, why it was rejected, and, if it can be read, the row.

    Args:
        path: The file.
        keep_bytes: Go on behind so many bytes of it; None: it is of no import that is gone on with.
        add: Whether to add to it even then.

    Raises:
        InputProblem: It cannot be written, or holds something that would be lost.
    """

    def __init__(self, path: Path, keep_bytes: int | None = None, *, add: bool = False) -> None:
        self.path = path
        try:
            if keep_bytes is None:
                _check_free(path, add=add)
            self._file: IO[bytes] = path.open("ab")
            # Behind it stands what was noted after the last checkpoint, and will be noted again. A file that is
            # shorter was moved or mended meanwhile: then it is only added to.
            if keep_bytes is not None and self._file.tell() > keep_bytes:
                self._file.truncate(keep_bytes)
        except OSError as error:
            raise InputProblem(f"cannot write the rejected rows to {path}: {error.strerror}") from None

    def add(self, name: str, row: InputRow, record: dict[str, Any] | None, reason: str) -> None:
        """Note one row."""
        text = row.text.decode(errors="backslashreplace")
        line: dict[str, Any] = dict(zip(REJECT_KEYS, (name, row.line, reason, text), strict=False))
        if record is not None:
            line["row"] = record
        self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def sync(self) -> int:
        """Put all of it on the disk; returns how many bytes that are."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Give the file back. What cannot be written was told by `sync`, and is in no checkpoint."""
        with contextlib.suppress(OSError):
            self._file.close()


def _check_free(path: Path, *, add: bool) -> None:
    """Refuse what may be the only copy of something: another file, or rows that somebody has mended."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        first = file.readline(2**22)
    if not first:
        return
    try:
        ours = {*orjson.loads(first)} >= {*REJECT_KEYS[:4]}
    except (ValueError, TypeError):
        ours = False
    if not ours:
        raise InputProblem(f"{path} exists and is no file of rejected rows; name another with --rejects")
    if not add:
        raise InputProblem(
            f"{path} holds the rejected rows of an earlier import, which may have been mended; "
            "name another file with --rejects, or delete it"
        )
