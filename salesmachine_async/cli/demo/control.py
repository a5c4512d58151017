"""A client of the control endpoints of a sandbox: set faults, and read its contents."""

from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from ssl import SSLContext
from typing import Any

import aiohttp
from yarl import URL

from salesmachine_async.cli.demo.audit import Audit, AuditResult, ExpectedState

PAGE = 500


class Control:
    """
    One workspace of a running sandbox.

    Args:
        url: The sandbox's URL.
        token: The workspace's token.
        proxy: The proxy to use.
        ssl: An SSL context, or True for the default one.
    """

    def __init__(self, url: str, token: str, *, proxy: URL | None = None, ssl: SSLContext | bool = True) -> None:
        self._http = aiohttp.ClientSession(
            base_url=f"{url.rstrip('/')}/",
            connector=aiohttp.TCPConnector(ssl=ssl),
            proxy=proxy,
            # aiohttp's BasicAuth is deprecated, and its replacement is not in every 3.14.
            headers={"Authorization": f"Basic {b64encode(f'{token}:'.encode()).decode()}"},
            timeout=aiohttp.ClientTimeout(total=10),
            raise_for_status=True,
        )

    async def __aenter__(self) -> "Control":
        """Enter."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._http.close()

    async def is_sandbox(self) -> bool:
        """
        Check whether the server has control endpoints.

        Raises:
            aiohttp.ClientError: If the server cannot be reached.
        """
        async with self._http.get("_sandbox/health", allow_redirects=False, raise_for_status=False) as response:
            return response.status == 200 and response.content_type == "application/json"

    async def set_faults(self, faults: Sequence[dict[str, Any]]) -> None:
        """Replace the script of faults."""
        async with self._http.put("_sandbox/faults", json=list(faults)):
            pass

    async def faults_left(self) -> int:
        """Count the faults that have not happened yet."""
        left: list[Any] = (await self._get("faults"))["faults"]
        return len(left)

    async def summary(self) -> dict[str, Any]:
        """Read the workspace's counts."""
        return await self._get("summary")

    def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield all events, page by page."""
        return self._pages("events")

    async def audit(self, expected: ExpectedState) -> AuditResult:
        """Read everything, page by page, and compare it with *expected*."""
        audit = Audit(expected)
        async for event in self.events():
            audit.event(event["contact_uid"], event["event_uid"], event["params"])
        async for contact in self._pages("contacts"):
            uid: str = contact["contact_uid"]
            audit.contact(uid, contact["params"], tuple(alias for alias in contact["uids"] if alias != uid))
        async for account in self._pages("accounts"):
            audit.account(account["account_uid"], account["params"])
        return audit.finish()

    async def _pages(self, what: str) -> AsyncIterator[dict[str, Any]]:
        cursor: str | int | None = None
        while True:
            page = await self._get(what, {"limit": str(PAGE)} | ({"after": str(cursor)} if cursor is not None else {}))
            for item in page[what]:
                yield item
            cursor = page["next"]
            if cursor is None:
                return

    async def _get(self, what: str, query: dict[str, str] | None = None) -> dict[str, Any]:
        async with self._http.get(f"_sandbox/{what}", params=query) as response:
            answer: dict[str, Any] = await response.json()
        return answer
