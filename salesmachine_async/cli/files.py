"""
Files that the commands replace or remove.

A command replaces and removes only files whose content it recognises. Temporary files have random names and are created
with ``O_EXCL`` and ``O_NOFOLLOW``, so that no existing file is opened for writing and no symbolic link is followed.
"""

import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

# The commands write no larger files, so that a larger one is never read completely.
_MAX_BYTES = 2**20


class ForeignFile(OSError):
    """A file that was not written by this program."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(0, f"{path} exists and is not {what}; choose another file, or delete it")


def check(path: Path, is_ours: Callable[[bytes], bool], what: str) -> None:
    """
    Check that *path* is absent, or a file that may be replaced.

    Args:
        path: The file.
        is_ours: Recognises the content.
        what: The expected content, for the error.

    Raises:
        ForeignFile: If it is another file, or not a regular one.
        OSError: If it cannot be read.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise ForeignFile(path, what)
    # O_NONBLOCK and a second look, because a pipe may have taken its place.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ForeignFile(path, what)
        content = file.read(_MAX_BYTES)
    if not is_ours(content):
        raise ForeignFile(path, what)


def replace(path: Path, content: bytes, is_ours: Callable[[bytes], bool], what: str) -> None:
    """
    Write a file atomically and durably: after a power failure there is the old content or the new.

    Raises:
        ForeignFile: If another file is in its place.
        OSError: If it cannot be written.
    """
    check(path, is_ours, what)
    temporary = create_temporary(path, content)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        # The entry of the directory is written separately.
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def create_temporary(path: Path, content: bytes = b"") -> Path:
    """
    Create a file with a random name beside *path*.

    Raises:
        OSError: If it cannot be created or written.
    """
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return temporary


def remove(path: Path, is_ours: Callable[[bytes], bool], what: str) -> None:
    """
    Remove a file; an absent one is no error.

    Raises:
        ForeignFile: If it is another file.
        OSError: If it cannot be removed.
    """
    check(path, is_ours, what)
    path.unlink(missing_ok=True)
