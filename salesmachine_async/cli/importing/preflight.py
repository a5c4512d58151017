"""Checks before anything is sent."""

from __future__ import annotations

import codecs
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from salesmachine_async.cli.importing import checkpoint
from salesmachine_async.cli.importing.column_options import ColumnOptions
from salesmachine_async.cli.importing.conversions import CONVERTERS
from salesmachine_async.cli.importing.input_progress import options_of
from salesmachine_async.cli.importing.models import ImportPlan
from salesmachine_async.cli.importing.reader import Input, Reading, preview
from salesmachine_async.cli.importing.rejects import RejectsFile
from salesmachine_async.cli.importing.source import STDIN, DamagedInput, InputProblem

_CSV = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_NDJSON = (".ndjson", ".jsonl", ".json")


def make_columns(
    kind: str | None, maps: Iterable[str], sets: Iterable[str], types: Iterable[str], sdk: str | None = None
) -> ColumnOptions:
    """
    Parse the options that describe rows.

    Raises:
        InputProblem: If one of them is wrong.
    """
    converters: dict[str, str] = {}
    for each in types:
        for one in each.split(","):
            column, equals, name = one.rpartition("=")
            if name not in CONVERTERS:
                raise InputProblem(f'--types {each}: "{name}" is not one of {", ".join(CONVERTERS)}')
            converters[column if equals else "*"] = name
    names = dict(_pair("--map", each) for each in maps)
    constants = dict(_pair("--set", each) for each in sets)
    if "event_uid" in constants and kind not in (None, "event"):
        raise InputProblem(f"--set event_uid is for events, but --type is {kind}")
    if sdk is not None and (kind or names or constants or converters):
        raise InputProblem("--from excludes --type, --map, --set and --types")
    return ColumnOptions(kind=kind, names=names, constants=constants, types=converters, sdk=sdk)


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputProblem(f"{option} {text}: write it as NAME={'NAME' if option == '--map' else 'VALUE'}")
    return name, value


def make_inputs(
    files: Sequence[Path], form: str | None, delimiter: str | None, sdk: str | None = None
) -> tuple[Input, ...]:
    """
    Return the inputs with their formats.

    Raises:
        InputProblem: If one of them cannot be imported.
    """
    seen: set[Path] = set()
    for file in files:
        if file != STDIN and file.resolve() in seen:
            raise InputProblem(f"{file} is named twice")
        if file == STDIN and STDIN in seen:
            raise InputProblem("stdin (-) is named twice")
        seen.add(file if file == STDIN else file.resolve())
    if delimiter == "\\t":
        delimiter = "\t"
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise InputProblem("--delimiter must be one character, not a quotation mark; \\t is a tab")
    return tuple(_input(file, form, delimiter, sdk) for file in files)


def _input(file: Path, form: str | None, delimiter: str | None, sdk: str | None) -> Input:
    suffix = file.with_suffix("").suffix if file.suffix.lower() == ".gz" else file.suffix
    suffix = suffix.lower()
    if file != STDIN:
        try:
            mode = file.stat().st_mode
        except OSError as error:
            raise InputProblem(f"cannot read {file}: {error.strerror}") from None
        if stat.S_ISDIR(mode):
            raise InputProblem(f"{file} is a directory; name the files in it")
        if form is None and suffix not in _CSV and suffix not in _NDJSON:
            raise InputProblem(f"the name of {file} has no known suffix; use --format ndjson or --format csv")
    csv = form == "csv" if form is not None else suffix in _CSV
    if csv and sdk is not None:
        raise InputProblem(f"{file} is CSV; --from reads NDJSON, one record per line")
    return Input(
        path=file, csv=csv, delimiter=delimiter or _CSV.get(suffix, ","), guessed=form is None and file == STDIN
    )


def check(plan: ImportPlan, *, restart: bool) -> RejectsFile | None:
    """
    Check all files that the import reads and writes; return the file of rejected rows.

    Raises:
        InputProblem: If one of them is unusable.
    """
    for what in plan.inputs:
        _check_input(what, plan.reading)
    _check_places(plan)
    found = [_check_checkpoint(plan, number, restart=restart) for number in range(len(plan.inputs))]
    rejects = _open_rejects(plan, found)
    if restart:
        # Removed after all checks, so that a usage error changes no file.
        for path in plan.checkpoints:
            if path is not None:
                checkpoint.remove(path)
    return rejects


def _open_rejects(plan: ImportPlan, found: Sequence[checkpoint.Checkpoint | None]) -> RejectsFile | None:
    if plan.rejects is None:
        return None
    # Of several inputs the last one that was begun has recorded the largest size.
    kept = [each.rejects_bytes for each in found if each is not None and _holds_rejects_of(each, plan.rejects)]
    return RejectsFile(plan.rejects, max(kept) if kept else None, add=plan.resume)


def _check_places(plan: ImportPlan) -> None:
    """Raise InputProblem if a file is written that is also read, or written for another purpose."""
    inputs = [what.path for what in plan.inputs if what.path != STDIN]
    rejects = plan.rejects
    for path in plan.checkpoints:
        if path is None:
            continue
        if any(_same(path, each) for each in inputs):
            raise InputProblem(f"{path} is an input: the checkpoint must be another file")
        if rejects is not None and _same(path, rejects):
            raise InputProblem(f"{path} cannot be both the checkpoint and the file of rejected rows")
    if rejects is None:
        return
    if any(_same(rejects, each) for each in inputs):
        raise InputProblem(f"{rejects} is an input: the rejected rows must go to another file")
    for what, kept in zip(plan.inputs, plan.checkpoints, strict=True):
        # A run without a checkpoint (--dry-run) would overwrite rows that --resume needs.
        beside = checkpoint.beside(what.path)
        if kept is None and what.path != STDIN and (found := _unfinished(beside)) and _holds_rejects_of(found, rejects):
            raise InputProblem(f"{rejects} is in use by an unfinished import (see {beside}); choose another file")


def _unfinished(path: Path) -> checkpoint.Checkpoint | None:
    try:
        return checkpoint.load(path)
    except InputProblem:
        return None


def _holds_rejects_of(found: checkpoint.Checkpoint, rejects: Path) -> bool:
    return bool(found.rejects) and _same(Path(found.rejects), rejects)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of the files does not exist yet
        return one.resolve() == other.resolve()


def _check_input(what: Input, reading: Reading) -> None:
    if what.path == STDIN or not what.path.is_file():
        return  # a pipe can be read only once
    try:
        preview(what, reading)
    except DamagedInput as damaged:
        raise InputProblem(str(damaged)) from None


def _check_checkpoint(plan: ImportPlan, number: int, *, restart: bool) -> checkpoint.Checkpoint | None:
    path, name = plan.checkpoints[number], plan.inputs[number].name
    if path is None or plan.dry_run:
        return None
    checkpoint.check_writable(path)
    if restart:
        return None
    found = checkpoint.load(path)
    if found is None or (found.settled.rows == 0 and not plan.resume):
        return None
    rows = f"{found.settled.rows:,} rows of {name}"
    if not plan.resume:
        raise InputProblem(
            f"{rows} were imported before (see {path}): continue with --resume, or start over with --restart"
        )
    if found.options != options_of(plan, number):
        raise InputProblem(f"{rows} were imported with other options; use the same, or start over with --restart")
    if found.url != (plan.base_url or ""):
        raise InputProblem(
            f"{rows} went to {found.url or 'the default server'}, not to {plan.base_url or 'the default server'}; "
            "set SALESMACHINE_API_URL as before, or start over with --restart"
        )
    return found


def check_encoding(name: str | None) -> str:
    """
    Return the encoding of ``--encoding``; empty if none is given.

    Raises:
        InputProblem: If there is no such encoding of text.
    """
    if name is None:
        return ""
    try:
        "".encode(name)
    except LookupError:
        raise InputProblem(f"--encoding {name}: unknown encoding; such as utf-8, latin-1, cp1252, utf-16") from None
    return codecs.lookup(name).name
