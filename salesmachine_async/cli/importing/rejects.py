"""The file of rejected rows, which can be imported again after their correction."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import IO, Any

import orjson

from salesmachine_async.cli.importing.mapping import REJECT_KEYS
from salesmachine_async.cli.importing.rows import InputRow
from salesmachine_async.cli.importing.source import InputProblem

_MAX_LINE_BYTES = 2**22


class RejectsFile:
    """
    A file with one line of NDJSON for each rejected row: its file, line, text and reason, and the row if readable.

    A pipe or a device serves too; it is only written to.

    Args:
        path: The file.
        keep_bytes: The size recorded in a checkpoint, to which the file is cut; None if no checkpoint names the file.
        add: Whether to append to an earlier file.

    Attributes:
        path: The file.
        regular: Whether it is a regular file, which can be resumed.

    Raises:
        InputProblem: If it cannot be written, or has content that would be lost.
    """

    def __init__(self, path: Path, keep_bytes: int | None = None, *, add: bool = False) -> None:
        self.path = path
        try:
            self.regular = not path.exists() or stat.S_ISREG(path.stat().st_mode)
            self._file = self._open_regular(keep_bytes, add=add) if self.regular else path.open("wb")
        except OSError as error:
            raise InputProblem(f"cannot write the rejected rows to {path}: {error.strerror}") from None

    def _open_regular(self, keep_bytes: int | None, *, add: bool) -> IO[bytes]:
        path = self.path
        if path.is_symlink() and not path.exists():
            raise InputProblem(f"--rejects: {path} is a symbolic link to a file that does not exist; name the file")
        # The target of a link is checked like any other file; no link is followed after that.
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path.resolve(), flags, 0o666), "a+b")
        try:
            self._check_content(file, add=add or keep_bytes is not None)
            # Lines after the recorded size were written after the last checkpoint, and will be written again. A file
            # that is shorter was replaced in the meantime, and is only appended to.
            if keep_bytes is not None and file.seek(0, os.SEEK_END) > keep_bytes:
                file.truncate(keep_bytes)
            file.seek(0, os.SEEK_END)
        except BaseException:
            file.close()
            raise
        return file

    def _check_content(self, file: IO[bytes], *, add: bool) -> None:
        """Raise InputProblem for a file that may be the only copy of something."""
        file.seek(0)
        first = file.readline(_MAX_LINE_BYTES)
        if not first:
            return
        try:
            is_ours = {*orjson.loads(first)} >= {*REJECT_KEYS[:4]}
        except (ValueError, TypeError):
            is_ours = False
        if not is_ours:
            raise InputProblem(f"{self.path} exists and is not a file of rejected rows; name another with --rejects")
        if not add:
            raise InputProblem(
                f"{self.path} holds the rejected rows of an earlier import, which may have been corrected; "
                "name another file with --rejects, or delete it"
            )

    def add(self, name: str, row: InputRow, record: dict[str, Any] | None, reason: str) -> None:
        """
        Write one row.

        Raises:
            OSError: If it cannot be written.
        """
        text = row.text.decode(errors="backslashreplace")
        line: dict[str, Any] = dict(zip(REJECT_KEYS, (name, row.line, reason, text), strict=False))
        if record is not None:
            try:
                self._file.write(orjson.dumps({**line, "row": record}, option=orjson.OPT_APPEND_NEWLINE))
                return
            except TypeError:
                # orjson reads objects nested more deeply than it writes; the text of the row has it all.
                pass
        self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def sync(self) -> int:
        """
        Write everything to the disk; return the size of the file, 0 for a pipe.

        Raises:
            OSError: If it cannot be written.
        """
        self._file.flush()
        if not self.regular:
            return 0
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file; `sync` has reported what cannot be written."""
        with contextlib.suppress(OSError):
            self._file.close()
