"""``salesmachine ping``: whether the API answers and accepts the key."""

import json
import time
from typing import TYPE_CHECKING

from salesmachine_async.cli import credentials as keys
from salesmachine_async.cli.exit_codes import status_of
from salesmachine_async.cli.runner import explained, run
from salesmachine_async.cli.send.options import DEFAULT_TIMEOUT, AsJson, Timeout
from salesmachine_async.cli.terminal import emit, fail, harmless

if TYPE_CHECKING:
    from salesmachine_async.errors import DeliveryError


def command(
    *,
    credentials: keys.CredentialsFile = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """
    Check that the API answers and accepts your key.

    A single request that changes nothing: the first thing to try.

    \b
      export SALESMACHINE_API_TOKEN=… SALESMACHINE_API_SECRET=…
      salesmachine ping
      salesmachine ping --credentials production.env && ./deploy

    Needs SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET; asks
    SALESMACHINE_API_URL if that is set. Exits 0 when all is well, 2 used wrongly,
    4 the key was refused, 5 server not reached or not well.
    """
    found = keys.load(credentials)
    found.need_token()
    url, seconds, error = run(_ping(found, timeout), found)
    if as_json:
        told = error and explained(error, found)
        status = error and error.status
        emit(
            json.dumps({"ok": error is None, "url": url, "seconds": round(seconds, 3), "status": status, "error": told})
        )
    if error is not None:
        fail(f"{url}: {explained(error, found)} ({seconds * 1000:.0f} ms)", code=status_of(error))
    if not as_json:
        emit(f"ok: {harmless(url)} accepts the key ({seconds * 1000:.0f} ms)")


async def _ping(credentials: keys.ApiKeys, timeout: float) -> tuple[str, float, "DeliveryError | None"]:
    from salesmachine_async._http.config import DEFAULT_URL  # noqa: PLC0415
    from salesmachine_async.agent import Agent  # noqa: PLC0415 - brings aiohttp
    from salesmachine_async.errors import DeliveryError  # noqa: PLC0415
    from salesmachine_async.policy import Timeouts  # noqa: PLC0415

    timeouts = Timeouts(connect=timeout, request=timeout, close=0.0)
    agent = Agent(credentials.token, credentials.secret, base_url=credentials.base_url, timeouts=timeouts)
    async with agent:
        begun = time.monotonic()
        failure: DeliveryError | None = None
        try:
            await agent.ping()
        except DeliveryError as error:
            failure = error
        return credentials.base_url or DEFAULT_URL, time.monotonic() - begun, failure
