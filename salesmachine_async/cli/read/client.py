"""The Access API client with the keys, options and time limit of a command."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from salesmachine_async.access import AccessClient
from salesmachine_async.cli.credentials import ApiKeys
from salesmachine_async.errors import RequestTimeout
from salesmachine_async.policy import Retry, Timeouts

T = TypeVar("T")

# The timeout of the client gets this much more time, because its error is more precise.
_GRACE_SECONDS = 0.5


def open_client(
    keys: ApiKeys, transport: dict[str, Any], auth: str, timeout: float, *, v1_only: bool = False
) -> AccessClient:
    """
    Return a client.

    Args:
        keys: The keys.
        transport: Proxy, certificates and the like, see `ServerOptions.transport`.
        auth: The form in which the v2 token is sent.
        timeout: Seconds for each call, retries included.
        v1_only: Whether the v2 token is not needed.

    Raises:
        click.exceptions.Exit: There is no token.
        ConfigError: A key, the URL or an option is unusable.
    """
    access_token = keys.need_token() if v1_only else keys.need_access_token()
    options: dict[str, Any] = {"auth": auth, **transport}
    return AccessClient(
        access_token,
        tracking_token=keys.token or None,
        tracking_secret=keys.secret if keys.token else "",
        base_url=keys.base_url,
        retry=Retry(wait_initial=min(0.5, timeout), wait_max=max(2.0, min(0.5, timeout)), timeout=timeout),
        timeouts=Timeouts(connect=min(5.0, timeout), request=timeout),
        **options,
    )


async def within(seconds: float, call: Awaitable[T]) -> T:
    """
    Wait for *call*.

    Raises:
        RequestTimeout: If it takes longer than *seconds*.
    """
    try:
        async with asyncio.timeout(seconds + _GRACE_SECONDS):
            return await call
    except TimeoutError:
        raise RequestTimeout(f"no answer within {seconds:g} s") from None
