"""What is kept of an import beside its file, so that it can be gone on with."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from salesmachine_async.cli.importing.ledger import Settled
from salesmachine_async.cli.importing.source import InputProblem

SUFFIX = ".smckpt"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """
    How far an import has come.

    Attributes:
        settled: The rows that are answered for.
        options: A digest of how its rows were read; another reading would make other messages.
        url: Where they went.
        rejects: The file of the rejected rows; empty without one.
        rejects_bytes: How long it is with the rows that are settled.
    """

    settled: Settled
    options: str
    url: str
    rejects: str = ""
    rejects_bytes: int = 0


def beside(file: Path) -> Path:
    """Name the checkpoint of *file*."""
    return file.with_name(file.name + SUFFIX)


def replacement(path: Path) -> Path:
    """Name what becomes the checkpoint *path* when it is whole."""
    return path.with_name(path.name + ".new")


def load(path: Path) -> Checkpoint | None:
    """
    Read a checkpoint; None when there is none.

    Raises:
        InputProblem: What is there is none of ours.
    """
    try:
        found: dict[str, Any] = orjson.loads(path.read_bytes())
        if found.pop("version") != _VERSION:
            raise InputProblem(f"{path} is a checkpoint of another version; delete it to start from the beginning")
        settled: dict[str, Any] = found.pop("settled")
        _check_types(Settled, settled)
        _check_types(Checkpoint, found)
        return Checkpoint(settled=Settled(**settled), **found)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputProblem(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputProblem(f"{path} is no checkpoint; delete it, or name another with --checkpoint") from None


def _check_types(made: type[Settled | Checkpoint], values: dict[str, Any]) -> None:
    kinds = {field.name: field.type for field in fields(made)}
    for name, value in values.items():
        # Texts and counts; a field that is none of ours is found where it is made.
        if type(value).__name__ != kinds.get(name, type(value).__name__) or (type(value) is int and value < 0):
            raise ValueError(name)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """
    Write a checkpoint so that there is always a whole one, the old or the new, also after a power cut.

    Raises:
        OSError: It cannot be written.
    """
    new = replacement(path)
    with new.open("wb") as file:
        file.write(orjson.dumps({"version": _VERSION, **asdict(checkpoint)}, option=orjson.OPT_INDENT_2))
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    if hasattr(os, "O_DIRECTORY"):
        # The name is in the directory, which is written by itself.
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def check_writable(path: Path) -> None:
    """
    Find out now whether a checkpoint could be written, not when a thousand rows are sent.

    Raises:
        InputProblem: It could not.
    """
    new = replacement(path)
    try:
        new.open("wb").close()
        new.unlink()
    except OSError as error:
        raise InputProblem(
            f"cannot keep a checkpoint in {path}: {error.strerror}; name another with --checkpoint, or do without with "
            "--no-checkpoint"
        ) from None
