"""``salesmachine ping``: check that the API answers and accepts the key."""

import json
import time
from typing import TYPE_CHECKING, Any

import click

from salesmachine_async.cli.exit_codes import status_of
from salesmachine_async.cli.options import ServerOptions, json_option, server_options, timeout_option
from salesmachine_async.cli.runner import explained, run
from salesmachine_async.cli.terminal import emit, fail, harmless

if TYPE_CHECKING:
    from salesmachine_async.cli.credentials import ApiKeys
    from salesmachine_async.errors import DeliveryError


@click.command("ping")
@server_options
@timeout_option
@json_option
def command(server: ServerOptions, timeout: float, as_json: bool) -> None:
    """
    Check that the API answers and accepts your key.

    It sends a single request that changes nothing.

    \b
      export SALESMACHINE_API_TOKEN=… SALESMACHINE_API_SECRET=…
      salesmachine ping
      salesmachine ping --credentials production.env && ./deploy

    Needs SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET; SALESMACHINE_API_URL
    names another server. Exit status: 0 accepted, 2 usage error, 4 the key was
    rejected, 5 server not reached or failing.
    """
    keys = server.keys()
    keys.need_token()
    url, seconds, error = run(_ping(keys, server.transport(), timeout))
    if as_json:
        outcome = {
            "ok": error is None,
            "url": url,
            "seconds": round(seconds, 3),
            "status": error and error.status,
            "error": error and explained(error),
        }
        emit(json.dumps(outcome))
    if error is not None:
        fail(f"{url}: {explained(error)} ({seconds * 1000:.0f} ms)", code=status_of(error))
    if not as_json:
        emit(f"ok: {harmless(url)} accepts the key ({seconds * 1000:.0f} ms)")


async def _ping(
    keys: "ApiKeys", transport: dict[str, Any], timeout: float
) -> tuple[str, float, "DeliveryError | None"]:
    from salesmachine_async import Agent, HttpTransport, Timeouts  # noqa: PLC0415 - imports aiohttp
    from salesmachine_async._http.config import DEFAULT_URL  # noqa: PLC0415
    from salesmachine_async.errors import DeliveryError  # noqa: PLC0415

    timeouts = Timeouts(connect=timeout, request=timeout, close=0.0)
    carrier = HttpTransport(keys.token, keys.secret, base_url=keys.base_url, timeouts=timeouts, **transport)
    async with Agent(enabled=True, spool="", transport=carrier, timeouts=timeouts) as agent:
        begun = time.monotonic()
        failure: DeliveryError | None = None
        try:
            await agent.ping()
        except DeliveryError as error:
            failure = error
        return keys.base_url or DEFAULT_URL, time.monotonic() - begun, failure
