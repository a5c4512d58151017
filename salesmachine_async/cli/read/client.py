"""The Access client as the commands use it: with the keys of a command, and within its time."""

import asyncio
from collections.abc import Awaitable
from typing import Literal, TypeVar

from salesmachine_async.access import AccessClient
from salesmachine_async.cli.credentials import ApiKeys
from salesmachine_async.errors import RequestTimeout
from salesmachine_async.policy import Retry, Timeouts

T = TypeVar("T")

# What the client's own limit may take longer than ours: its error says more than that time is up.
_GRACE = 0.5


def open_client(
    credentials: ApiKeys, auth: Literal["basic", "bearer", "query"], timeout: float, *, v1_only: bool = False
) -> AccessClient:
    """
    Make a client.

    Args:
        credentials: The keys.
        auth: How the v2 token travels.
        timeout: Seconds for each call, its repetitions included.
        v1_only: The v2 token is not needed.

    Raises:
        typer.Exit: There is no token.
        ConfigError: A key or the URL is unusable.
    """
    access_token = credentials.need_token() if v1_only else credentials.need_access_token()
    return AccessClient(
        access_token,
        tracking_token=credentials.token or None,
        tracking_secret=credentials.secret if credentials.token else "",
        base_url=credentials.base_url,
        auth=auth,
        retry=Retry(wait_initial=min(0.5, timeout), wait_max=max(2.0, min(0.5, timeout)), timeout=timeout),
        timeouts=Timeouts(connect=min(5.0, timeout), request=timeout),
    )


async def within(seconds: float, call: Awaitable[T]) -> T:
    """
    Wait for *call*.

    Raises:
        RequestTimeout: It takes too long.
    """
    try:
        async with asyncio.timeout(seconds + _GRACE):
            return await call
    except TimeoutError:
        raise RequestTimeout(f"no answer within {seconds:g} s") from None
