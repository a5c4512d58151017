"""``salesmachine sandbox``: run a local Salesmachine."""

import contextlib
import ipaddress
import json
import os
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from salesmachine_async.cli import files
from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.options import OUTPUT_FILE
from salesmachine_async.cli.sandbox.options import (
    DEFAULT_PORT,
    SandboxOptions,
    db_option,
    explain,
    faults_option,
    make_sandbox,
    plan_option,
    port_option,
    rate_option,
    seed_option,
)
from salesmachine_async.cli.terminal import emit, fail, out, warn

if TYPE_CHECKING:
    from salesmachine_async.sandbox import Fault, Sandbox


@click.group("sandbox", invoke_without_command=True, subcommand_metavar="[exec ...]")
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", help="The address to listen on; default: 127.0.0.1.")
@port_option(default=DEFAULT_PORT)
@click.option(
    "--port-file",
    metavar="FILE",
    type=OUTPUT_FILE,
    help="Write the port to this file when ready; it is removed at the end.",
)
@db_option
@click.option(
    "--allow-host", metavar="NAME", multiple=True, help="A further host name that requests may use; can be repeated."
)
@seed_option
@faults_option
@rate_option
@plan_option
@click.option(
    "--name",
    "names",
    metavar="TOKEN=LABEL",
    multiple=True,
    help="A label for a workspace; can be repeated.",
)
@click.option("--quiet", "-q", is_flag=True, help="Do not print a line for each request.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON when ready, for programs.")
@click.option("--until-eof", is_flag=True, help="Also stop at the end of stdin, and so with the parent process.")
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    port: int,
    port_file: Path | None,
    allow_host: Sequence[str],
    quiet: bool,
    as_json: bool,
    until_eof: bool,
    **options: Any,
) -> None:
    """
    Run a local Salesmachine to develop and test against.

    Every API token is a workspace of its own. It stops at Ctrl-C or SIGTERM.
    `salesmachine sandbox exec` runs one command with a sandbox of its own.

    \b
      salesmachine sandbox
      salesmachine sandbox --seed state.ndjson --faults '503*2,ok*3,drop=after'
      salesmachine sandbox --port 0 --json --until-eof     # for programs

    --faults: steps separated by commas. Each applies to one request, *N to N, * to
    all that follow; then comes the next step. A step is a status, ok, or a setting,
    and further settings after colons:

    \b
      503*2                       503 twice
      429:retry_after=2           429 once, with Retry-After: 2
      503,latency=200ms*          one 503, then every request waits for 200 ms
      500*:probability=10%        one request in ten fails
      drop=after:path=/v1/batch   apply a batch, then cut the connection
      ok*3                        let three requests through

    Settings: status times retry_after path probability seed drop (before, during,
    after) commit partial latency slow body raw. Quote a value with , or : as "…".
    """
    if context.invoked_subcommand is not None:
        _reject_options(context)
        return
    settings = SandboxOptions(port=port, allow_host=allow_host, access_log=not quiet, **options)
    if not _is_loopback(settings.host):
        warn(f"listening on {settings.host}: other machines can read and change everything the sandbox holds.")
    _run(settings, port_file, as_json=as_json, until_eof=until_eof)


def _run(settings: SandboxOptions, port_file: Path | None, *, as_json: bool, until_eof: bool) -> None:
    import asyncio  # noqa: PLC0415 - imported late, see the package docstring
    import sqlite3  # noqa: PLC0415

    try:
        sandbox, faults = make_sandbox(settings)
        asyncio.run(_serve(sandbox, faults, settings.db, port_file, as_json=as_json, until_eof=until_eof))
    except (OSError, sqlite3.Error, ValueError) as error:
        fail(explain(error, settings))


async def _serve(
    sandbox: "Sandbox",
    faults: "list[Fault]",
    db: Path | None,
    port_file: Path | None,
    *,
    as_json: bool,
    until_eof: bool,
) -> None:
    from salesmachine_async.cli.shutdown import stop_requested  # noqa: PLC0415

    # Signals are handled before the URL is printed, because a reader of the URL may send one at once.
    with stop_requested(until_eof=until_eof) as stop:
        async with sandbox:
            sandbox.faults(faults)
            with _port_written(sandbox.url, port_file):
                if as_json:
                    # The URL is the first key, because scripts rely on it.
                    ready = {"url": sandbox.url, "pid": os.getpid(), "health": f"{sandbox.url}/_sandbox/health"}
                    emit(json.dumps(ready))
                else:
                    _welcome(sandbox.url, db)
                await stop.wait()


@contextlib.contextmanager
def _port_written(url: str, file: Path | None) -> Generator[None]:
    """Keep the port in *file* while the block runs."""
    if file is None:
        yield
        return
    text = f"{urlsplit(url).port}\n".encode("ascii")
    try:
        files.replace(file, text, _is_port, "the port of a sandbox")
    except OSError as error:
        fail(f"cannot write the port to {file}: {error.strerror or error}", code=USAGE)
    try:
        yield
    finally:
        # Another sandbox may have replaced the file in the meantime.
        with contextlib.suppress(OSError):
            files.remove(file, text.__eq__, "the port of this sandbox")


def _is_port(content: bytes) -> bool:
    return not content or (content.strip().isdigit() and len(content) <= 7)


def _welcome(url: str, db: Path | None) -> None:
    console = out()
    kept = f"Kept in {db}." if db else "Kept in memory only."
    lines = (
        f"[bold]Salesmachine sandbox[/] ready at [bold cyan]{url}[/]",
        "",
        "Point an application at it, or this command line:",
        f"  [green]export SALESMACHINE_API_URL={url}[/]",
        "  [green]export SALESMACHINE_API_TOKEN=sandbox SALESMACHINE_ACCESS_TOKEN=sandbox[/]",
        "",
        f"Watch it live: [bold cyan]{url}/[/]",
        "Every token is a workspace of its own. To see what has arrived, use the token you send with:",
        f"  [green]curl -u sandbox: {url}/_sandbox/summary[/]",
        "",
        f"{kept} [bold]Ctrl-C[/] stops it.",
    )
    for line in lines:
        console.print(line, soft_wrap=True)


def _reject_options(context: click.Context) -> None:
    """Reject options before ``exec``, which would have no effect."""
    for param in context.command.params:
        source = context.get_parameter_source(param.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise click.UsageError(f'{param.opts[0]} must come after "{context.invoked_subcommand}"', context)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
