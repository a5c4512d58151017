"""``salesmachine import``: parse the options, check them, run the import."""

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from salesmachine_async.cli.exit_codes import INTERRUPTED, USAGE
from salesmachine_async.cli.options import FILE, OUTPUT_FILE, ServerOptions, server_options
from salesmachine_async.cli.terminal import emit, err, fail, out

if TYPE_CHECKING:
    from salesmachine_async.cli.importing.models import ImportPlan, ImportResults

_EPILOG = """
\b
Examples:
  salesmachine import people.csv --type contact --map email=contact_uid --dry-run
  salesmachine import people.csv --type contact --map email=contact_uid \\
      --types mrr=number,seats=integer --rejects rejects.ndjson
  salesmachine import events-2025.ndjson.gz events-2026.ndjson.gz --concurrency 4
  zcat old.csv.gz | salesmachine import - --format csv --type event
\b
Exit status:
  0    everything was delivered or skipped
  2    usage error; nothing was sent
  3    done, but some rows were rejected
  4    the server rejects the key or the requests
  5    the server is not reached, or did not answer for --give-up-after
  1    failed in another way
  130  interrupted
  After 1, 4, 5 and 130 the same command with --resume continues.
\b
Needs SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET, except for --dry-run.
"""


@click.command("import", epilog=_EPILOG)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option(
    "--format",
    "form",
    type=click.Choice(["ndjson", "csv"]),
    help="The format, if the file name does not say it; stdin is ndjson by default.",
)
@click.option(
    "--type",
    "kind",
    type=click.Choice(["contact", "account", "event", "pageview", "alias"]),
    help='The kind of all rows. Without it, each row says its kind in "method".',
)
@click.option("--map", "maps", metavar="COLUMN=NAME", multiple=True, help="Rename a column; COLUMN= leaves it out.")
@click.option(
    "--set", "sets", metavar="NAME=VALUE", multiple=True, help="A value for rows without one, e.g. event_uid=signup."
)
@click.option(
    "--types",
    metavar="COLUMN=TYPE,...",
    multiple=True,
    help="How texts are converted: number, integer, boolean, json, text, auto, decimal-comma, day-first or "
    "month-first. Without COLUMN= it applies to all other columns. Default: text, so that 0612345678 keeps its zero.",
)
@click.option("--delimiter", metavar="CHARACTER", help="The character between the cells of CSV.")
@click.option(
    "--encoding",
    metavar="NAME",
    help="The encoding of the text, such as cp1252. Default: UTF-8, of which the first megabyte is checked before "
    "anything is sent; with --encoding utf-8 a slow pipe is sent as it arrives.",
)
@click.option(
    "--from",
    "sdk",
    type=click.Choice(["segment", "posthog", "mixpanel", "amplitude", "rudderstack"]),
    help="Read NDJSON of another SDK, exports or messages; docs/importing.md has the mapping.",
)
@click.option("--dry-run", is_flag=True, help="Read and check everything, send nothing; needs no key.")
@click.option(
    "--rejects",
    metavar="FILE",
    type=OUTPUT_FILE,
    help="Write rejected rows to this file, each with its line and the reason. Correct them there and import it.",
)
@click.option("--resume", is_flag=True, help="Continue from the checkpoint; from the beginning if there is none.")
@click.option("--restart", is_flag=True, help="Start over and remove the checkpoint.")
@click.option(
    "--checkpoint", metavar="FILE", type=OUTPUT_FILE, help="Where to keep the checkpoint; default: FILE.smckpt."
)
@click.option("--no-checkpoint", is_flag=True, help="Keep no checkpoint.")
@click.option(
    "--batch", metavar="ROWS", type=click.IntRange(1, 10_000), default=500, help="Rows per request; default: 500."
)
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(1, 256),
    default=1,
    help="Requests at once; the rows of each contact stay in order. Default: 1.",
)
@click.option("--rate", metavar="ROWS", type=click.FloatRange(0.01), help="Limit of rows per second; default: none.")
@click.option(
    "--give-up-after",
    metavar="SECONDS",
    type=click.FloatRange(0.1),
    default=300.0,
    help="Stop after this time without an answer from the server; default: 300.",
)
@server_options
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
def command(
    files: Sequence[Path],
    *,
    form: str | None,
    kind: str | None,
    maps: Sequence[str],
    sets: Sequence[str],
    types: Sequence[str],
    delimiter: str | None,
    encoding: str | None,
    sdk: str | None,
    dry_run: bool,
    rejects: Path | None,
    resume: bool,
    restart: bool,
    checkpoint: Path | None,
    no_checkpoint: bool,
    batch: int,
    concurrency: int,
    rate: float | None,
    give_up_after: float,
    server: ServerOptions,
    as_json: bool,
    quiet: bool,
) -> None:
    """
    Send files of contacts, accounts, events, pageviews and aliases.

    FILE is NDJSON (.ndjson, .jsonl, .json) or CSV (.csv, .tsv), each also with .gz,
    or - for stdin.

    A row of NDJSON is a message as the API takes it, {"method": "event",
    "contact_uid": "1", "event_uid": "signup", "params": {...}, "created_at": ...},
    or, with --type, a flat object. In flat rows, and in CSV, the columns
    contact_uid, account_uid (of an account), event_uid, alias, created_at and
    message_id have their meaning; all others are params. An export of
    "salesmachine sandbox" can be imported; its users, notes, activities and tasks
    are skipped, because the tracking API cannot create them.

    No row is dropped: reading waits for the server. Ctrl-C stops reading, delivers
    what was read and keeps a checkpoint beside the file; a second one stops at
    once. --resume continues. Rows that were being sent when the process was killed
    are then sent again. Each has the same messageId every time (made of its text,
    line and file name), so that a server that checks messageIds, as the sandbox
    does, counts it once.

    created_at is ISO 8601 or an epoch; rows without one get the current time.
    --types created_at=day-first reads 31.12.2026, --types price=decimal-comma 1.234,5.
    """
    from salesmachine_async.cli.importing.checkpoint import beside  # noqa: PLC0415
    from salesmachine_async.cli.importing.models import ImportPlan  # noqa: PLC0415
    from salesmachine_async.cli.importing.preflight import check_encoding, make_columns, make_inputs  # noqa: PLC0415
    from salesmachine_async.cli.importing.reader import Reading  # noqa: PLC0415
    from salesmachine_async.cli.importing.source import STDIN, InputProblem  # noqa: PLC0415

    if checkpoint is not None and len(files) > 1:
        fail("--checkpoint is for one file; several files have their checkpoints beside them", code=USAGE)
    if resume and restart:
        fail("--resume and --restart exclude each other", code=USAGE)
    if server.from_stdin and STDIN in files:
        fail("stdin cannot be both the rows and the credentials", code=USAGE)
    try:
        columns = make_columns(kind, maps, sets, types, sdk)
        inputs = make_inputs(files, form, delimiter, sdk)
        encoding = check_encoding(encoding)
    except InputProblem as problem:
        fail(str(problem), code=USAGE)
    keys = server.keys()
    without = no_checkpoint or dry_run
    plan = ImportPlan(
        inputs=inputs,
        # --rate is observed between pieces, of which about five per second avoid bursts.
        reading=Reading(
            columns=columns, piece=500 if rate is None else max(1, min(500, int(rate / 5))), encoding=encoding
        ),
        token=keys.token,
        secret=keys.secret,
        base_url=keys.base_url,
        transport=server.transport(),
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
    _report(results, as_json=as_json, quiet=quiet)
    raise click.exceptions.Exit(results.status)


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
    except KeyboardInterrupt:  # before the import began
        raise click.exceptions.Exit(INTERRUPTED) from None


def _report(results: "ImportResults", *, as_json: bool, quiet: bool) -> None:
    from salesmachine_async.cli.importing import summary  # noqa: PLC0415

    # A closed stdout does not change the status of the import.
    with contextlib.suppress(click.exceptions.Exit):
        if as_json:
            emit(json.dumps(summary.as_json(results)))
        elif not quiet:
            console = out()
            # The console has the colours of stdout; `emit` writes the text because it handles a closed stdout.
            console.file = shown = io.StringIO()
            summary.show(results, console)
            emit(shown.getvalue().rstrip("\n"))
    if results.error and (quiet or as_json):
        with contextlib.suppress(click.exceptions.Exit):
            fail(results.error)
