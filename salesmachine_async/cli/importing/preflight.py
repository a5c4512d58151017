"""What can be known to be wrong before anything is sent is found here."""

from __future__ import annotations

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


def make_shape(kind: str | None, maps: Iterable[str], sets: Iterable[str], types: Iterable[str]) -> ColumnOptions:
    """
    Read the options that say how rows become messages.

    Raises:
        InputProblem: One of them says nothing that can be done.
    """
    converters: dict[str, str] = {}
    for each in types:
        for one in each.split(","):
            column, equals, name = one.rpartition("=")
            if name not in CONVERTERS:
                raise InputProblem(f'--types {each}: "{name}" is none of {", ".join(CONVERTERS)}')
            converters[column if equals else "*"] = name
    names = dict(_pair("--map", each) for each in maps)
    constants = dict(_pair("--set", each) for each in sets)
    if "event_uid" in constants and kind not in (None, "event"):
        raise InputProblem(f"--set event_uid says events, but --type says {kind}")
    return ColumnOptions(kind=kind, names=names, constants=constants, types=converters)


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputProblem(f"{option} {text}: write it as NAME={'NAME' if option == '--map' else 'VALUE'}")
    return name, value


def make_inputs(files: Sequence[Path], form: str | None, delimiter: str | None) -> tuple[Input, ...]:
    """
    Look at the files and tell what they are.

    Raises:
        InputProblem: One of them cannot be imported.
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
        raise InputProblem("--delimiter must be one character, and no quotation mark; \\t is a tab")
    return tuple(_input(file, form, delimiter) for file in files)


def _input(file: Path, form: str | None, delimiter: str | None) -> Input:
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
            raise InputProblem(f"the name of {file} does not say what it is; use --format ndjson or --format csv")
    csv = form == "csv" if form is not None else suffix in _CSV
    return Input(
        path=file, csv=csv, delimiter=delimiter or _CSV.get(suffix, ","), guessed=form is None and file == STDIN
    )


def check(plan: ImportPlan, *, restart: bool) -> RejectsFile | None:
    """
    Look at everything that the import is going to read and write; returns where rejected rows go.

    Raises:
        InputProblem: Something is not as it must be.
    """
    for what in plan.inputs:
        _check_input(what, plan.reading)
    _check_places(plan)
    found = [_check_checkpoint(plan, number, restart=restart) for number in range(len(plan.inputs))]
    rejects = _open_rejects(plan, found)
    if restart:
        # Not before all is checked: what is refused must leave everything as it was.
        for path in plan.checkpoints:
            if path is not None:
                path.unlink(missing_ok=True)
    return rejects


def _open_rejects(plan: ImportPlan, found: Sequence[checkpoint.Checkpoint | None]) -> RejectsFile | None:
    if plan.rejects is None:
        return None
    # Of several inputs the last one that was begun knows how long the file is.
    kept = [each.rejects_bytes for each in found if each is not None and _holds_rejects_of(each, plan.rejects)]
    return RejectsFile(plan.rejects, max(kept) if kept else None, add=plan.resume)


def _check_places(plan: ImportPlan) -> None:
    """Refuse to write where something else is read or written: checkpoints are replaced, and removed at the end."""
    inputs = [what.path for what in plan.inputs if what.path != STDIN]
    rejects = plan.rejects
    for path in plan.checkpoints:
        for place in () if path is None else (path, checkpoint.replacement(path)):
            if any(_same(place, each) for each in inputs):
                raise InputProblem(f"{place} is read from: the checkpoint must be another file")
            if rejects is not None and _same(place, rejects):
                raise InputProblem(f"{place} cannot be both the checkpoint and the file of rejected rows")
    if rejects is None:
        return
    if any(_same(rejects, each) for each in inputs):
        raise InputProblem(f"{rejects} is read from: the rejected rows must go to another file")
    for what, kept in zip(plan.inputs, plan.checkpoints, strict=True):
        # Without a checkpoint (--dry-run) it is begun anew, although --resume may count on what is in it.
        beside = checkpoint.beside(what.path)
        if kept is None and what.path != STDIN and (found := _unfinished(beside)) and _holds_rejects_of(found, rejects):
            raise InputProblem(
                f"{rejects} belongs to an import that is to be gone on with, says {beside}; name another"
            )


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
    except OSError:  # one of them is not there yet
        return one.resolve() == other.resolve()


def _check_input(what: Input, reading: Reading) -> None:
    if what.path == STDIN or not what.path.is_file():
        return  # a pipe is read once
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
            f"{rows} are imported already, says {path}: go on with --resume, or begin again with --restart"
        )
    if found.options != options_of(plan, number):
        raise InputProblem(f"{rows} were imported with other options; use the same, or begin again with --restart")
    if found.url != (plan.base_url or ""):
        raise InputProblem(
            f"{rows} went to {found.url or 'the default server'}, not to {plan.base_url or 'the default server'}; "
            "set SALESMACHINE_API_URL as it was, or begin again with --restart"
        )
    return found
