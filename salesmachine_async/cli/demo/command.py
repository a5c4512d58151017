"""``salesmachine demo``: parse, then one call."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from salesmachine_async.cli.terminal import err, fail, out

if TYPE_CHECKING:
    from salesmachine_async.cli.demo.run import DemoResults

# A demonstration, not a load test: the ledger and the sandbox keep every event.
MAX_SECONDS = 60


def command(
    seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, max=MAX_SECONDS, help="How long to run the shop, roughly.")
    ] = 8,
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Track into this server instead of an embedded sandbox, with the credentials of the environment.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as one JSON object.")] = False,
) -> None:
    """
    Track a real web shop, and prove that nothing was lost.

    Simulated visitors drive the shop, without tracking and with it, while the
    sandbox answers 503 and 429 and cuts a connection. Then the sandbox is read
    back and compared with the shop's own ledger. Exits 1 if anything differs.
    """
    results = _run(seconds, url)
    if as_json:
        from salesmachine_async.cli.demo.summary import as_json as to_json  # noqa: PLC0415

        typer.echo(json.dumps(to_json(results)))
    else:
        from salesmachine_async.cli.demo.summary import show  # noqa: PLC0415

        show(results, out())
    raise typer.Exit(0 if results.ok else 1)


def _run(seconds: float, url: str | None) -> "DemoResults":
    import asyncio  # noqa: PLC0415 - imported late: --help stays quick

    import aiohttp  # noqa: PLC0415

    from salesmachine_async.cli.demo.children import ChildError  # noqa: PLC0415
    from salesmachine_async.cli.demo.run import run  # noqa: PLC0415
    from salesmachine_async.cli.demo.screen import make_screen  # noqa: PLC0415
    from salesmachine_async.cli.demo.target import TargetError  # noqa: PLC0415
    from salesmachine_async.errors import SalesmachineError  # noqa: PLC0415

    try:
        with make_screen(err()) as screen:
            return asyncio.run(run(seconds, url, screen))
    except KeyboardInterrupt:
        err().print("Interrupted.")
        raise typer.Exit(130) from None
    except (TargetError, ChildError, SalesmachineError, aiohttp.ClientError, OSError, TimeoutError) as error:
        fail(str(error) or type(error).__name__)
