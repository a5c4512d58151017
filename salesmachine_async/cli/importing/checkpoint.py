"""Checkpoints for resuming an import."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import orjson

from salesmachine_async.cli import files
from salesmachine_async.cli.importing.ledger import Settled
from salesmachine_async.cli.importing.source import InputProblem

SUFFIX = ".smckpt"
WHAT = "a checkpoint of an import"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """
    The progress of an import.

    Attributes:
        settled: The settled rows.
        options: A digest of the options, because others would make other messages.
        url: The server.
        rejects: The file of rejected rows; empty without one.
        rejects_bytes: The size of that file when the rows were settled.
    """

    settled: Settled
    options: str
    url: str
    rejects: str = ""
    rejects_bytes: int = 0


def beside(file: Path) -> Path:
    """Return the default path of the checkpoint of *file*."""
    return file.with_name(file.name + SUFFIX)


def is_checkpoint(content: bytes) -> bool:
    """Whether this is the content of a checkpoint, of any version."""
    try:
        found: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and {"version", "settled", "options"} <= found.keys()


def load(path: Path) -> Checkpoint | None:
    """
    Read a checkpoint; return None if there is none.

    Raises:
        InputProblem: If the file is not a checkpoint.
    """
    try:
        found: dict[str, Any] = orjson.loads(path.read_bytes())
        if found.pop("version") != _VERSION:
            raise InputProblem(f"{path} is a checkpoint of another version; delete it to start over")
        settled: dict[str, Any] = found.pop("settled")
        _check_types(Settled, settled)
        _check_types(Checkpoint, found)
        return Checkpoint(settled=Settled(**settled), **found)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputProblem(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InputProblem(f"{path} is not a checkpoint; delete it, or name another with --checkpoint") from None


def _check_types(made: type[Settled | Checkpoint], values: dict[str, Any]) -> None:
    kinds = {field.name: field.type for field in fields(made)}
    for name, value in values.items():
        # All fields are texts and counts. An unknown name raises TypeError in the constructor.
        if type(value).__name__ != kinds.get(name, type(value).__name__) or (type(value) is int and value < 0):
            raise ValueError(name)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """
    Write a checkpoint atomically.

    Raises:
        OSError: If it cannot be written, or another file is in its place.
    """
    content = orjson.dumps({"version": _VERSION, **asdict(checkpoint)}, option=orjson.OPT_INDENT_2)
    files.replace(path, content, is_checkpoint, WHAT)


def check_writable(path: Path) -> None:
    """
    Check that a checkpoint can be written before anything is sent.

    Raises:
        InputProblem: If it cannot, or another file is in its place.
    """
    try:
        files.check(path, is_checkpoint, WHAT)
        files.create_temporary(path).unlink()
    except files.ForeignFile as error:
        raise InputProblem(f"--checkpoint: {error.strerror}") from None
    except OSError as error:
        raise InputProblem(
            f"cannot keep a checkpoint in {path}: {error.strerror}; name another file with --checkpoint, or use "
            "--no-checkpoint"
        ) from None


def remove(path: Path) -> None:
    """
    Remove a checkpoint.

    Raises:
        OSError: If it cannot be removed, or another file is in its place.
    """
    files.remove(path, is_checkpoint, WHAT)
