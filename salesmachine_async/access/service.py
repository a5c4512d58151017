"""Both APIs behind one base URL: builds requests from paths, and bodies from messages."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from yarl import URL

from salesmachine_async._core.message import Encoder
from salesmachine_async._http.config import check_credentials
from salesmachine_async.access.calls import Caller
from salesmachine_async.access.http_request import Answer, ApiCredentials, ApiRequest, Auth, body_of, same_origin
from salesmachine_async.access.listing import params_of
from salesmachine_async.errors import ConnectionFailed

__all__ = ["Service"]

# Methods that can be made twice with the effect of once. Source: RFC 9110 §9.2.2.
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})


class Service:
    """
    Makes requests by path.

    Args:
        base: The base URL of both APIs.
        credentials: The authentication of both APIs.
        caller: Sends the requests.
    """

    def __init__(self, base: URL, credentials: ApiCredentials, caller: Caller) -> None:
        self._base = base
        self._root = str(base).rstrip("/")
        self._credentials = credentials
        self._caller = caller
        # Checks and converts arguments as the agent does; its message ids are never used.
        self._encoder = Encoder(str, time, time.time, int)

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        gone_is_done: bool = False,
    ) -> Answer:
        """Make a request to a checked path; one with an idempotent method is retried when it fails."""
        url = URL(self._root + path).update_query(params_of(params))
        return await self._make(
            method, url, self._credentials.of(path), body_of(json), headers=headers, gone_is_done=gone_is_done
        )

    async def follow(self, url: str, path: str) -> Answer:
        """
        Read the next page, at a URL that an answer to *path* contained.

        Raises:
            ConnectionFailed: The URL is on another host, which must not receive the token; or the request failed.
        """
        try:
            target = URL(self._root + path).join(URL(url)).with_user(None).with_fragment(None)
            inside = same_origin(target, self._base)
        except ValueError:
            inside = False
            target = self._base
        if not inside:
            raise ConnectionFailed("the next page is on another host than the base URL: it was not requested")
        return await self._make("GET", target, self._credentials.of(path), None)

    async def track(
        self,
        path: str,
        method: str,
        uids: dict[str, object],
        params: object,
        *,
        created_at: datetime | None = None,
        message_id: str | None = None,
        token: str | None = None,
    ) -> None:
        """
        Make a tracking request of v1, with *token* instead of the client's if given.

        Repeating a contact or an account is harmless; repeating an event would create it twice.
        """
        auth = self._credentials.tracking
        if token is not None:
            check_credentials(token, "")
            auth = Auth.tracking(token, "")
        message = self._encoder.compose(method, uids, params, created_at, message_id)
        assert message is not None  # the encoder raises
        # The documented body holds these keys only if the caller has given them.
        del message["method"]
        if created_at is None:
            del message["created_at"]
        if message_id is None:
            del message["messageId"]
        body = self._encoder.encode(message)
        await self._make("POST", URL(self._root + path), auth, body, repeatable=method != "event")

    async def ping(self) -> None:
        """Check that v1 answers and accepts the tracking token."""
        await self._make("POST", URL(f"{self._root}/v1/ping"), self._credentials.tracking, None, repeatable=True)

    async def _make(
        self,
        method: str,
        url: URL,
        auth: Auth,
        body: bytes | None,
        *,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
        gone_is_done: bool = False,
    ) -> Answer:
        kind = {"Content-Type": "application/json"} if method in ("POST", "PUT", "PATCH") or body is not None else {}
        request = ApiRequest(
            method=method,
            url=url,
            auth=auth,
            headers={**kind, **(headers or {})},
            body=body,
            repeatable=method in IDEMPOTENT if repeatable is None else repeatable,
        )
        return await self._caller.make(request, gone_is_done=gone_is_done)
