"""``salesmachine sandbox``: a local Salesmachine, until Ctrl-C."""

import ipaddress
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from salesmachine_async.cli.terminal import fail, out, warn

if TYPE_CHECKING:
    from salesmachine_async.sandbox import Sandbox

# Any free port would do, but a fixed one lets the export lines stay in a shell profile.
DEFAULT_PORT = 8700


def command(
    *,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="The port to listen on; 0 takes any free one.")
    ] = (DEFAULT_PORT),
    db: Annotated[
        Path | None,
        typer.Option(metavar="FILE", dir_okay=False, help="Keep what arrives in this file; without it, in memory."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further name that requests may be addressed to; can be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON when ready, for programs.")] = False,
    until_eof: Annotated[
        bool,
        typer.Option("--until-eof", help="Also stop when stdin ends: whoever started it can't leave it behind."),
    ] = False,
) -> None:
    """
    Run a local Salesmachine to develop and test against.

    Every API token is a workspace of its own. Stops at Ctrl-C or SIGTERM.
    """
    import asyncio  # noqa: PLC0415 - see the package docstring: --help stays quick
    import sqlite3  # noqa: PLC0415

    from salesmachine_async.sandbox import Sandbox  # noqa: PLC0415

    if not _is_loopback(host):
        warn(f"listening on {host}: whoever reaches this machine can read and change everything the sandbox holds.")
    try:
        sandbox = Sandbox(host=host, port=port, db=db, allowed_hosts=allow_host or ())
        asyncio.run(_serve(sandbox, db, as_json=as_json, until_eof=until_eof))
    except OSError as error:
        fail(_explain(error, host, port))
    except (sqlite3.Error, ValueError) as error:
        fail(f"cannot keep what arrives in {db}: {error}")


async def _serve(sandbox: "Sandbox", db: Path | None, *, as_json: bool, until_eof: bool) -> None:
    from salesmachine_async.cli.stopping import stop_requested  # noqa: PLC0415

    # Signals are heard before the URL is announced: whoever reads it may stop us at once.
    with stop_requested(until_eof=until_eof) as stop:
        async with sandbox:
            if as_json:
                # The URL comes first: scripts rely on it.
                ready = {"url": sandbox.url, "pid": os.getpid(), "health": f"{sandbox.url}/_sandbox/health"}
                typer.echo(json.dumps(ready))
            else:
                _welcome(sandbox.url, db)
            await stop.wait()


def _welcome(url: str, db: Path | None) -> None:
    console = out()
    kept = f"Kept in {db}." if db else "Kept in memory only."
    lines = (
        f"[bold]Salesmachine sandbox[/] ready at [bold cyan]{url}[/]",
        "",
        "Point an application at it:",
        f"  [green]export SALESMACHINE_API_URL={url} SALESMACHINE_API_TOKEN=sandbox[/]",
        "",
        "See what has arrived (any token is a workspace of its own):",
        f"  [green]curl -u sandbox: {url}/_sandbox/summary[/]",
        "",
        f"{kept} [bold]Ctrl-C[/] stops it.",
    )
    for line in lines:
        console.print(line, soft_wrap=True)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _explain(error: OSError, host: str, port: int) -> str:
    import errno  # noqa: PLC0415

    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken; choose another with --port, or --port 0 for any free one."
    return f"cannot run the sandbox on {host} port {port}: {error.strerror or error}"
