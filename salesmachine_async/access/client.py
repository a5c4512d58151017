"""The client of the Access API."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from salesmachine_async._http.config import check_credentials, from_environment, network
from salesmachine_async.access.calls import Caller, ClientSettings
from salesmachine_async.access.http_request import Answer, ApiCredentials, Auth, Scheme, path_of
from salesmachine_async.access.objects import Account, Activity, Contact, Note, Task, User
from salesmachine_async.access.paths import Paths
from salesmachine_async.access.resources import Accounts, Activities, Contacts, Events, Notes, Tasks, Users
from salesmachine_async.access.service import Service
from salesmachine_async.errors import ConfigError, InvalidMessage
from salesmachine_async.policy import Retry, Timeouts, check_whole

__all__ = ["AccessClient"]

ACCESS_TOKEN_VARIABLE: Final = "SALESMACHINE_ACCESS_TOKEN"  # noqa: S105 (the name of a variable)
# Source: RFC 9110 §5.6.2 (token).
HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
# The caller waits for the answer, so attempts end after half a minute.
DEFAULT_RETRY: Final = Retry(wait_initial=0.5, wait_max=8.0, timeout=30.0)
NO_RETRY: Final = Retry(timeout=0.0)


class AccessClient:
    """
    Reads and manages contacts, accounts, notes, activities, tasks and users.

    ::

        async with AccessClient("V2 TOKEN", tracking_token="V1 TOKEN") as api:
            async for contact in api.contacts.list(status="paying"):
                ...

    Every call sends a request and waits for its answer. Calls that can be repeated without harm are retried when they
    fail, by the same rules as the agent's requests; every call that is answered 429 is retried. Calls may run
    concurrently, in one event loop.

    Args:
        token: The v2 token; default: ``SALESMACHINE_ACCESS_TOKEN``.
        tracking_token: The v1 token, for `create_or_update`, `events` and `ping`; default: ``SALESMACHINE_API_TOKEN``
            if *token* comes from the environment too, else *token*.
        tracking_secret: The secret of the v1 token, if it has one.
        base_url: The base URL of both APIs; default: ``SALESMACHINE_API_URL``, else ``https://api.salesmachine.io``.
        auth: The scheme of the v2 token, which is not documented: ``basic`` (the user of HTTP Basic), ``bearer``, or
            ``query`` (the parameter ``api_token``).
        paths: The paths of the resources.
        retry: The retry policy; None never retries. The default retries for 30 seconds.
        timeouts: The time limits of each attempt.
        max_connections: The number of concurrent requests; further ones wait.
        allow_http: Allow ``http://`` to hosts other than this machine, which sends the tokens in clear text; default:
            ``SALESMACHINE_ALLOW_HTTP`` (1 or 0), else False.
        proxy: URL of an HTTP proxy; default: ``SALESMACHINE_PROXY``, else none.
        ca_file: A PEM file of the certificate authorities to trust instead of the system's; default:
            ``SALESMACHINE_CA_FILE``, else none.
        ssl_context: An SSL context instead of the default one, for example with a client certificate.

    Attributes:
        contacts: The contacts.
        accounts: The accounts.
        notes: The notes.
        activities: The activities.
        tasks: The tasks.
        users: The users.
        events: The events.

    Raises:
        ConfigError: An argument, or the environment variable in its place, is unusable.
    """

    def __init__(
        self,
        token: str | None = None,
        *,
        tracking_token: str | None = None,
        tracking_secret: str = "",
        base_url: str | None = None,
        auth: Scheme = "basic",
        paths: Paths | None = None,
        retry: Retry | None = DEFAULT_RETRY,
        timeouts: Timeouts | None = None,
        max_connections: int = 10,
        allow_http: bool | None = None,
        proxy: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        try:
            given = token is not None
            token = _access_token(token)
            if tracking_token is None:
                # A token passed as an argument is never mixed with one of the environment, which may be for another
                # server.
                tracking_token = token if given else from_environment(None, "", "")[0] or token
            check_credentials(token, "")
            check_credentials(tracking_token, tracking_secret)
            credentials = ApiCredentials(
                access=Auth.access(auth, token), tracking=Auth.tracking(tracking_token, tracking_secret)
            )
        finally:
            # Error trackers record local variables, and hide only those named `token` or `secret`.
            del tracking_token, tracking_secret
        check_whole("max_connections", max_connections, at_least=1)
        try:
            way = network(
                from_environment("", "", base_url)[2],
                allow_http=allow_http,
                proxy=proxy,
                ca_file=ca_file,
                ssl_context=ssl_context,
            )
        finally:
            del base_url, proxy  # both may hold a password
        self._base = way.base
        self._caller = Caller(
            ClientSettings(
                retry=NO_RETRY if retry is None else retry,
                timeouts=timeouts or Timeouts(),
                max_connections=max_connections,
                network=way,
            )
        )
        self._service = service = Service(self._base, credentials, self._caller)
        paths = paths or Paths()
        self.contacts: Contacts = Contacts(service, paths.contacts, Contact)
        self.accounts: Accounts = Accounts(service, paths.accounts, Account)
        self.notes: Notes = Notes(service, paths.notes, Note)
        self.activities: Activities = Activities(service, paths.activities, Activity)
        self.tasks: Tasks = Tasks(service, paths.tasks, Task)
        self.users: Users = Users(service, paths.users, User)
        self.events: Events = Events(service)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be copied or pickled: both would use, and close, the same connections."""
        raise TypeError("an AccessClient cannot be copied or pickled")

    def __repr__(self) -> str:
        """Return the state and the base URL, never a token."""
        return f"<AccessClient [{'closed' if self._caller.closed else 'open'}] {self._base}>"

    async def __aenter__(self) -> Self:
        """Return the client; the first call opens the first connection."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Further calls raise `AgentClosed`; calls under way fail."""
        await self._caller.aclose()

    async def ping(self) -> None:
        """
        Check that the API answers and accepts the tracking token; v2 has no such call.

        Raises:
            DeliveryError: The request failed.
        """
        await self._service.ping()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """
        Make any authorised request.

        The tracking token is added for a path below ``/v1/``, the v2 token for any other path; unless *headers* hold
        an Authorization. GET, HEAD, OPTIONS, PUT and DELETE are retried when they fail.

        Args:
            method: The HTTP method.
            path: The path below the base URL, such as ``/v2/Contacts``.
            params: The query.
            json: The body: any value that the tracking calls accept in ``params``. None means no body.
            headers: Further headers.

        Returns:
            The answer, a 2xx, with its JSON as ``data``.

        Raises:
            InvalidMessage: An argument cannot be sent.
            DeliveryError: The request failed; see its `status` and `server_message`.
        """
        method = method.upper()
        if method not in METHODS:
            raise InvalidMessage("method", f"must be one of {', '.join(METHODS)}")
        return await self._service.call(method, path_of(path), params=params, json=json, headers=_checked(headers))


def _access_token(token: str | None) -> str:
    """Return the v2 token, by default that of the environment."""
    if token is None:
        token = os.environ.get(ACCESS_TOKEN_VARIABLE, "")
        if not token:
            raise ConfigError(f"no Access API token: pass token= or set {ACCESS_TOKEN_VARIABLE}")
    return token


def _checked(headers: Mapping[str, Any] | None) -> dict[str, str]:
    checked: dict[str, str] = {}
    for name, value in (headers or {}).items():
        if not HEADER.fullmatch(name):
            raise InvalidMessage("headers", "hold an invalid header name")
        if not isinstance(value, str) or not value.isprintable():
            raise InvalidMessage(f"headers.{name}", "must be a printable str")
        checked[name] = value
    return checked
