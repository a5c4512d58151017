"""``salesmachine import``: parse, check, then one call."""

import contextlib
import io
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salesmachine_async.cli.credentials import CredentialsFile, load
from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.terminal import emit, err, fail, out

if TYPE_CHECKING:
    from salesmachine_async.cli.importing.models import ImportPlan, ImportResults


class Format(StrEnum):
    """What an input is made of."""

    NDJSON = "ndjson"
    CSV = "csv"


class Kind(StrEnum):
    """What its rows are."""

    CONTACT = "contact"
    ACCOUNT = "account"
    EVENT = "event"
    PAGEVIEW = "pageview"
    ALIAS = "alias"


EPILOG = """
\b
Examples:
  salesmachine import people.csv --type contact --map email=contact_uid --dry-run
  salesmachine import people.csv --type contact --map email=contact_uid \\
      --types mrr=number,seats=integer --rejects rejects.ndjson
  salesmachine import events-2025.ndjson.gz events-2026.ndjson.gz --concurrency 4
  zcat old.csv.gz | salesmachine import - --format csv --type event
\b
Exit status:
  0  everything was delivered, or skipped
  2  used wrongly; nothing was sent
  3  done, but some rows were rejected
  4  the server refuses the key or the request
  5  the server cannot be reached, or gave no answer for --give-up-after
  1  it went wrong in another way
  130  interrupted
  After 1, 4, 5 and 130 the same command with --resume continues.
"""


def command(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="NDJSON (.ndjson, .jsonl, .json), CSV (.csv, .tsv), each also with .gz, or - for stdin.",
            show_default=False,
        ),
    ],
    *,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="The format, if the file name does not tell; stdin is ndjson by default."),
    ] = None,
    kind: Annotated[
        Kind | None,
        typer.Option("--type", help='What the rows are. Without it, each row says so in its "method".'),
    ] = None,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="COLUMN=NAME", help="Rename a column; COLUMN= leaves it out."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A value for rows that have none, e.g. event_uid=signup."),
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option(
            "--types",
            metavar="COLUMN=TYPE,...",
            help="How texts are read: number, integer, boolean, json, text, or auto. Without COLUMN= it applies to all "
            "other columns. Default: text, so that 0612345678 keeps its zero.",
        ),
    ] = None,
    delimiter: Annotated[str | None, typer.Option(metavar="CHARACTER", help="What separates the cells of CSV.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read and check everything, send nothing; needs no key.")
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Write rejected rows to this file, each with its line and the reason. Mend them there and import it.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint; from the beginning if there is none.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Start over and ignore the checkpoint.")] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Where to keep the checkpoint; default: FILE.smckpt."),
    ] = None,
    no_checkpoint: Annotated[bool, typer.Option("--no-checkpoint", help="Keep no checkpoint.")] = False,
    batch: Annotated[int, typer.Option(metavar="ROWS", min=1, max=10_000, help="Rows per request, at most.")] = 500,
    concurrency: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=256, help="Requests at a time; each contact's rows stay in order."),
    ] = 1,
    rate: Annotated[
        float | None, typer.Option(metavar="ROWS", min=0.01, help="Rows per second, at most; default: no limit.")
    ] = None,
    give_up_after: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Stop after this long without an answer from the server.")
    ] = 300,
    credentials: CredentialsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")] = False,
) -> None:
    """
    Send files of contacts, accounts, events, pageviews and aliases.

    A row of NDJSON is a message as the API takes it, {"method": "event",
    "contact_uid": "1", "event_uid": "signup", "params": {...}, "created_at": ...},
    or, with --type, a flat object. In flat rows, and in CSV, the columns
    contact_uid, account_uid (of an account), event_uid, alias, created_at and
    message_id mean what they say; all others are params. What "salesmachine
    sandbox" exports can be imported; users, notes, activities and tasks, which the
    tracking API cannot make, are skipped.

    Nothing is dropped: the reader waits for the server. Ctrl-C stops reading,
    delivers what was read and keeps a checkpoint beside the file; a second one
    stops at once. --resume continues. Rows that were being sent when the process
    was killed are then sent again. Each has the same messageId every time (made
    of its text, line and file name), so a server that checks messageIds, as the
    sandbox does, counts it once.

    created_at is ISO 8601 or an epoch; rows without one get the current time.
    """
    from salesmachine_async.cli.importing.checkpoint import beside  # noqa: PLC0415
    from salesmachine_async.cli.importing.models import ImportPlan  # noqa: PLC0415
    from salesmachine_async.cli.importing.preflight import make_inputs, make_shape  # noqa: PLC0415 - --help stays quick
    from salesmachine_async.cli.importing.reader import Reading  # noqa: PLC0415
    from salesmachine_async.cli.importing.source import STDIN, InputProblem  # noqa: PLC0415

    if checkpoint is not None and len(files) > 1:
        fail("--checkpoint is for one file; with several, each has its own beside it", code=USAGE)
    if resume and restart:
        fail("--resume and --restart contradict each other", code=USAGE)
    if credentials == STDIN and STDIN in files:
        fail("stdin cannot be both the rows and the credentials", code=USAGE)
    try:
        shape = make_shape(kind.value if kind else None, maps or (), sets or (), types or ())
        inputs = make_inputs(files, form.value if form else None, delimiter)
    except InputProblem as problem:
        fail(str(problem), code=USAGE)
    keys = load(credentials)
    without = no_checkpoint or dry_run
    plan = ImportPlan(
        inputs=inputs,
        # --rate is held between pieces: five or so a second do not come in gusts.
        reading=Reading(shape=shape, piece=500 if rate is None else max(1, min(500, int(rate / 5)))),
        token=keys.token,
        secret=keys.secret,
        base_url=keys.base_url,
        batch=batch,
        concurrency=concurrency,
        rate=rate,
        give_up_after=give_up_after,
        dry_run=dry_run,
        checkpoints=tuple(
            None if without else checkpoint or (beside(what.path) if what.path.is_file() else None) for what in inputs
        ),
        resume=resume and not without,
        rejects=rejects,
    )
    results = _run(plan, restart=restart, quiet=quiet)
    _tell(results, as_json=as_json, quiet=quiet)
    raise typer.Exit(results.status)


def _run(plan: "ImportPlan", *, restart: bool, quiet: bool) -> "ImportResults":
    import asyncio  # noqa: PLC0415

    from salesmachine_async.cli.importing.importer import Importer  # noqa: PLC0415
    from salesmachine_async.cli.importing.preflight import check  # noqa: PLC0415
    from salesmachine_async.cli.importing.progress import make_progress  # noqa: PLC0415
    from salesmachine_async.cli.importing.source import InputProblem  # noqa: PLC0415
    from salesmachine_async.errors import ConfigError  # noqa: PLC0415

    try:
        with make_progress(err(), quiet=quiet) as progress:
            rejects = check(plan, restart=restart)
            try:
                return asyncio.run(Importer(plan, progress, rejects).run())
            finally:
                if rejects:
                    rejects.close()
    except (InputProblem, ConfigError) as problem:
        fail(str(problem), code=USAGE)
    except KeyboardInterrupt:  # before there was anything to stop
        raise typer.Exit(130) from None


def _tell(results: "ImportResults", *, as_json: bool, quiet: bool) -> None:
    from salesmachine_async.cli.importing import summary  # noqa: PLC0415

    # Whoever has stopped to read stdout still gets the status of the import, not that of the writing.
    with contextlib.suppress(typer.Exit):
        if as_json:
            emit(json.dumps(summary.as_json(results)))
        elif not quiet:
            console = out()
            # Its colours are those of stdout; what is written goes there by `emit`, which copes with its end.
            console.file = shown = io.StringIO()
            summary.show(results, console)
            emit(shown.getvalue().rstrip("\n"))
    if results.error and (quiet or as_json):
        with contextlib.suppress(typer.Exit):
            fail(results.error)
