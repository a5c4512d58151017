"""A real file system that is soon full, or read-only."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """Mount a file system of 4 MiB for a while; skips the test where that is not allowed."""
    place.mkdir(mode=0o700)
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=4m,mode=0700", "spool-test", str(place)]
    if os.geteuid() or mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs root, and the right to mount")
    yield place
    busy = subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode
    if busy:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
    assert not busy, "a file was left open"


def fill(path: Path) -> None:
    """Write to a file until the disk is full."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as exc:
            assert exc.errno == errno.ENOSPC  # noqa: PT017


def remount(place: Path, option: str) -> None:
    """Mount it again, ``ro`` or ``rw``."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)
