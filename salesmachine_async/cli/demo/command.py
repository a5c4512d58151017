"""``salesmachine demo``: run the demonstration and print its results."""

import json
import os
from typing import TYPE_CHECKING, NoReturn

import click

from salesmachine_async.cli.exit_codes import INTERRUPTED, USAGE
from salesmachine_async.cli.options import ServerOptions, network_options
from salesmachine_async.cli.terminal import emit, err, fail, note, out

if TYPE_CHECKING:
    from salesmachine_async.cli.demo.run import DemoResults

# An upper bound, because the demo and the sandbox keep every event in memory.
MAX_SECONDS = 60


@click.command("demo")
@click.option(
    "--seconds",
    metavar="SECONDS",
    type=click.FloatRange(1, MAX_SECONDS),
    default=8.0,
    help="How long to run the shop, roughly; default: 8.",
)
@click.option(
    "--url",
    metavar="URL",
    help="Track into this server instead of an embedded sandbox, with the credentials of the environment.",
)
@network_options
@click.option("--fleet", is_flag=True, help="Show workers, an engine and relays instead; needs the extra redis.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as one JSON object.")
def command(seconds: float, url: str | None, *, server: ServerOptions, fleet: bool, as_json: bool) -> None:
    """
    Track a web shop, and check that no message was lost.

    Simulated visitors drive the shop, without tracking and with it, while the
    sandbox answers 503 and 429 and cuts a connection. Then the contents of the
    sandbox are compared with a record of the shop. Exits 1 if they differ.

    With --fleet, four workers publish to a Redis or Valkey of the demo's own and two
    relays deliver; one of each is killed, and the engine restarted.
    """
    if fleet:
        if url is not None or server != ServerOptions():
            fail("--fleet runs everything on this machine: it takes no --url", code=USAGE)
        _fleet(as_json=as_json)
    if url is None:
        if server != ServerOptions():
            fail("--proxy, --cacert and --allow-http need --url", code=USAGE)
        # A proxy of the network cannot reach the embedded sandbox.
        os.environ.pop("SALESMACHINE_PROXY", None)
    else:
        _check(url, server)
    results = _run(seconds, url, server)
    if as_json:
        from salesmachine_async.cli.demo.summary import as_json as to_json  # noqa: PLC0415

        emit(json.dumps(to_json(results)))
    else:
        from salesmachine_async.cli.demo.summary import show  # noqa: PLC0415

        show(results, out())
    raise click.exceptions.Exit(0 if results.ok else 1)


def _fleet(*, as_json: bool) -> NoReturn:
    import asyncio  # noqa: PLC0415 - imported late, see the package docstring
    from importlib.util import find_spec  # noqa: PLC0415

    if find_spec("redis") is None:
        fail("--fleet needs redis-py: pip install 'salesmachine-async[redis]'", code=USAGE)
    from salesmachine_async.cli.demo.children import ChildError  # noqa: PLC0415
    from salesmachine_async.cli.demo.fleet import run, server, summary  # noqa: PLC0415
    from salesmachine_async.cli.demo.screen import make_screen  # noqa: PLC0415
    from salesmachine_async.errors import SalesmachineError  # noqa: PLC0415

    try:
        with make_screen(err()) as screen:
            results = asyncio.run(run.run(screen))
    except KeyboardInterrupt:
        note("Interrupted.")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except (server.EngineError, ChildError, SalesmachineError, OSError, TimeoutError) as error:
        fail(str(error) or "the relays did not deliver everything in time")
    if as_json:
        emit(json.dumps(summary.as_json(results)))
    else:
        summary.show(results, out())
    raise click.exceptions.Exit(0 if results.ok else 1)


def _check(url: str, server: ServerOptions) -> None:
    from salesmachine_async.cli.runner import explained  # noqa: PLC0415 - imported late, see the package docstring
    from salesmachine_async.errors import ConfigError  # noqa: PLC0415

    try:
        server.network(url)
    except ConfigError as error:
        fail(f"cannot use --url: {explained(error)}", code=USAGE)


def _run(seconds: float, url: str | None, server: ServerOptions) -> "DemoResults":
    import asyncio  # noqa: PLC0415

    import aiohttp  # noqa: PLC0415

    from salesmachine_async.cli.demo.children import ChildError  # noqa: PLC0415
    from salesmachine_async.cli.demo.run import run  # noqa: PLC0415
    from salesmachine_async.cli.demo.screen import make_screen  # noqa: PLC0415
    from salesmachine_async.cli.demo.target import TargetError  # noqa: PLC0415
    from salesmachine_async.errors import SalesmachineError  # noqa: PLC0415

    try:
        with make_screen(err()) as screen:
            return asyncio.run(run(seconds, url, screen, server))
    except KeyboardInterrupt:
        note("Interrupted.")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except (TargetError, ChildError, SalesmachineError, aiohttp.ClientError, OSError, TimeoutError) as error:
        fail(str(error) or type(error).__name__)
