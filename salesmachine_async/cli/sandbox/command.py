"""``salesmachine sandbox``: a local Salesmachine, until Ctrl-C."""

import contextlib
import ipaddress
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.sandbox.options import (
    DEFAULT_PORT,
    AllowHost,
    Db,
    Faults,
    Names,
    PlanFile,
    Port,
    PortFile,
    Rate,
    SandboxOptions,
    Seed,
    explain,
    make_sandbox,
)
from salesmachine_async.cli.terminal import emit, fail, out, warn

if TYPE_CHECKING:
    from salesmachine_async.sandbox import Fault, Sandbox


def command(
    context: typer.Context,
    *,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Port = DEFAULT_PORT,
    port_file: PortFile = None,
    db: Db = None,
    allow_host: AllowHost = None,
    seed: Seed = None,
    faults: Faults = None,
    rate_limit: Rate = None,
    plan: PlanFile = None,
    name: Names = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not show a line for each request.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON when ready, for programs.")] = False,
    until_eof: Annotated[
        bool,
        typer.Option("--until-eof", help="Also stop when stdin ends: whoever started it can't leave it behind."),
    ] = False,
) -> None:
    """
    Run a local Salesmachine to develop and test against.

    Every API token is a workspace of its own. Stops at Ctrl-C or SIGTERM.
    To run one command against a sandbox of its own: salesmachine sandbox exec.

    \b
      salesmachine sandbox
      salesmachine sandbox --seed state.ndjson --faults '503*2,ok*3,drop=after'
      salesmachine sandbox --port 0 --json --until-eof     # for programs

    --faults: steps separated by commas. Each strikes one request; *N strikes N,
    * all that follow; then comes the next. A step is a status, or ok, or a
    setting, and further settings behind colons:

    \b
      503*2                       503 twice
      429:retry_after=2           429 once, with Retry-After: 2
      latency=200ms*              from then on everything waits for 200 ms
      500:probability=10%:times=always:seed=1 one request in ten fails
      drop=after:path=/v1/batch   apply a batch, then cut the connection
      ok*3                        let three requests through

    SandboxOptions: status times retry_after path probability seed drop (before, during,
    after) commit partial latency slow body raw. Quote what holds , or : as "…".
    """
    if context.invoked_subcommand is not None:
        _no_options_before(context)
        return
    names = allow_host or ()
    settings = SandboxOptions(
        host=host, port=port, db=db, allow_host=names, seed=seed, faults=faults, rate_limit=rate_limit
    )
    if not _is_loopback(host):
        warn(f"listening on {host}: whoever reaches this machine can read and change everything the sandbox holds.")
    _run(settings, port_file, as_json=as_json, until_eof=until_eof)


def _run(settings: SandboxOptions, port_file: Path | None, *, as_json: bool, until_eof: bool) -> None:
    import asyncio  # noqa: PLC0415 - see the package docstring: --help stays quick
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

    # Signals are heard before the URL is announced: whoever reads it may stop us at once.
    with stop_requested(until_eof=until_eof) as stop:
        async with sandbox:
            sandbox.faults(faults)
            with _port_written(sandbox.url, port_file):
                if as_json:
                    # The URL comes first: scripts rely on it.
                    ready = {"url": sandbox.url, "pid": os.getpid(), "health": f"{sandbox.url}/_sandbox/health"}
                    emit(json.dumps(ready))
                else:
                    _welcome(sandbox.url, db)
                await stop.wait()


@contextlib.contextmanager
def _port_written(url: str, file: Path | None) -> Generator[None]:
    """Have the port in *file*, never half of it, for as long as somebody listens there."""
    if file is None:
        yield
        return
    text = f"{urlsplit(url).port}\n"
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="ascii")
        part.replace(file)
    except OSError as error:
        fail(f"cannot write the port to {file}: {error.strerror or error}", code=USAGE)
    try:
        yield
    finally:
        # Unless another sandbox has written there meanwhile.
        with contextlib.suppress(OSError):
            if file.read_text(encoding="ascii") == text:
                file.unlink()


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
        "Every token is a workspace of its own. See what has arrived, with the token you send with:",
        f"  [green]curl -u sandbox: {url}/_sandbox/summary[/]",
        "",
        f"{kept} [bold]Ctrl-C[/] stops it.",
    )
    for line in lines:
        console.print(line, soft_wrap=True)


def _no_options_before(context: typer.Context) -> None:
    """Refuse options that would have no effect: those of exec stand behind it."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--json" if name == "as_json" else f"--{name.replace('_', '-')}"
            fail(f"put {option} behind {context.invoked_subcommand}, if it has it", code=USAGE)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
