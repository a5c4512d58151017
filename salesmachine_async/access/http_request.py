"""A request to the API and its answer as data: authentication, body, path. This module uses no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import aiohttp
import orjson
from yarl import URL

from salesmachine_async._core.jsonable import Cleaner, raise_invalid
from salesmachine_async._http.redaction import Redactor
from salesmachine_async.errors import ConfigError, ConnectionFailed, InvalidMessage

__all__ = ["Answer", "ApiCredentials", "ApiRequest", "Auth", "Scheme", "body_of", "parsed", "path_of", "same_origin"]

Scheme = Literal["basic", "bearer", "query"]
SCHEMES: Final = ("basic", "bearer", "query")
# The query parameter in the documentation of v1.
TOKEN_PARAMETER: Final = "api_token"  # noqa: S105 (a name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """
    An answer to `AccessClient.request`.

    Attributes:
        status: The HTTP status, a 2xx.
        headers: The headers; names are case-insensitive.
        data: The decoded JSON body; None if the body is empty.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    data: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Auth:
    """
    The authentication of a request.

    Attributes:
        scheme: The scheme of the v2 token; None for the tracking token, whose scheme is documented (HTTP Basic).
        headers: The headers to add.
        query: The query parameters to add.
        redact: Removes the token from the text of a server, which may quote the request.
    """

    scheme: Scheme | None
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    redact: Redactor = field(repr=False)

    @classmethod
    def access(cls, scheme: Scheme, token: str) -> Auth:
        """
        Build the authentication of a checked v2 token.

        Raises:
            ConfigError: The scheme is unknown.
        """
        if scheme not in SCHEMES:
            raise ConfigError(f"auth must be one of {', '.join(SCHEMES)}")
        headers: dict[str, str] = {}
        if scheme == "bearer":
            headers["Authorization"] = f"Bearer {token}"
        elif scheme == "basic":
            headers["Authorization"] = aiohttp.encode_basic_auth(token, "")
        query = {TOKEN_PARAMETER: token} if scheme == "query" else {}
        return cls(scheme=scheme, headers=headers, query=query, redact=Redactor(token, ""))

    @classmethod
    def tracking(cls, token: str, secret: str) -> Auth:
        """Build the authentication of a checked v1 token and its secret, which may be empty."""
        headers = {"Authorization": aiohttp.encode_basic_auth(token, secret)}
        return cls(scheme=None, headers=headers, query={}, redact=Redactor(token, secret))

    def on(self, url: URL) -> URL:
        """Return *url* with the query parameters of the scheme; existing ones are replaced."""
        return url.update_query(self.query) if self.query else url


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiCredentials:
    """The authentication of both APIs: *access* for v2, *tracking* for v1."""

    access: Auth
    tracking: Auth

    def of(self, path: str) -> Auth:
        """Return the authentication for a path below the base URL."""
        return self.tracking if path.startswith("/v1/") else self.access


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiRequest:
    """
    A request, which may be sent several times.

    Attributes:
        method: The HTTP method, in capitals.
        url: The URL without the token.
        auth: The authentication.
        headers: Headers besides those of every request.
        body: The JSON body, or None.
        repeatable: Whether the request can be repeated without harm.
    """

    method: str
    url: URL
    auth: Auth
    headers: Mapping[str, str]
    body: bytes | None
    repeatable: bool


def path_of(path: object) -> str:
    """
    Check a path below the base URL.

    Raises:
        InvalidMessage: If it is not a path, or could lead to another host.
    """
    if not isinstance(path, str):
        raise InvalidMessage("path", f"must be a str, not {type(path).__name__}")
    if not path.startswith("/") or path.startswith("//") or "\\" in path:
        raise InvalidMessage("path", "must begin with one slash, such as /v2/Contacts")
    if not path.isprintable() or " " in path:
        raise InvalidMessage("path", "must not hold spaces or control characters")
    if "?" in path or "#" in path:
        raise InvalidMessage("path", "must not hold a query or a fragment: pass params=")
    return path


def body_of(data: object) -> bytes | None:
    """
    Encode a body as the tracking calls encode their params; None means no body.

    Raises:
        InvalidMessage: A value cannot be encoded.
    """
    if data is None:
        return None
    return orjson.dumps(Cleaner(raise_invalid).clean(data, "json"))


def parsed(status: int, body: bytes) -> Any:
    """
    Parse the body of a 2xx.

    Raises:
        ConnectionFailed: The body is not JSON, so it does not come from the API.
    """
    if not body.strip():
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # Not chained, because the error quotes the body.
        pass
    raise ConnectionFailed("the answer was not JSON: check the base URL (SALESMACHINE_API_URL)", status=status)


def same_origin(url: URL, base: URL) -> bool:
    """Return whether both URLs have the same scheme, host and port, so that *url* may receive the token."""
    return url.scheme == base.scheme and url.host == base.host and url.port == base.port
