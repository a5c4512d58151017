"""One request and its answer: how the token travels, what an answer is, where a next page may be. No network here."""

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

__all__ = ["Answer", "Auth", "Call", "Credentials", "Scheme", "body_of", "parsed", "path_of", "same_origin"]

Scheme = Literal["basic", "bearer", "query"]
SCHEMES: Final = ("basic", "bearer", "query")
# The parameter that the documents of v1 show.
TOKEN_PARAMETER: Final = "api_token"  # noqa: S105 (a name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """
    An answer to `AccessClient.request`.

    Attributes:
        status: The HTTP status, a 2xx.
        headers: Its headers; look them up in any case.
        data: The JSON of its body; None when it is empty.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    data: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Auth:
    """
    How a token travels.

    Attributes:
        scheme: How; None for the tracking token, which travels as the documents of v1 say.
        headers: What it adds to the headers.
        query: What it adds to the query.
        redact: Removes the token from text of a server, which may quote the request.
    """

    scheme: Scheme | None
    headers: Mapping[str, str] = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    redact: Redactor = field(repr=False)

    @classmethod
    def access(cls, scheme: Scheme, token: str) -> Auth:
        """
        Make it for the checked token of v2.

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
        """Make it for the checked token of v1, and its secret, which may be empty."""
        headers = {"Authorization": aiohttp.encode_basic_auth(token, secret)}
        return cls(scheme=None, headers=headers, query={}, redact=Redactor(token, secret))

    def on(self, url: URL) -> URL:
        """Return *url* with the token, if that is where it travels; one that is there is replaced."""
        return url.update_query(self.query) if self.query else url


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """The two tokens: *access* is for v2, *tracking* for v1."""

    access: Auth
    tracking: Auth

    def of(self, path: str) -> Auth:
        """Return the one for a path, also one below the path of a base URL."""
        return self.tracking if path.startswith("/v1/") else self.access


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """
    A request to make, once or several times.

    Attributes:
        method: In capitals.
        url: Without the token.
        auth: How the token travels.
        headers: Besides those of every request.
        body: JSON; None for none.
        repeatable: Whether it does no harm to make it twice.
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
        InvalidMessage: It is none, or could lead elsewhere.
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
    Encode a body as the tracking calls encode their params; None is no body.

    Raises:
        InvalidMessage: It holds what cannot be sent.
    """
    if data is None:
        return None
    return orjson.dumps(Cleaner(raise_invalid).clean(data, "json"))


def parsed(status: int, body: bytes) -> Any:
    """
    Parse the body of a 2xx.

    Raises:
        ConnectionFailed: It is not JSON: something else than the API has answered.
    """
    if not body.strip():
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # Not chained: the error quotes the body.
        pass
    raise ConnectionFailed("the answer was not JSON: check the base URL (SALESMACHINE_API_URL)", status=status)


def same_origin(url: URL, base: URL) -> bool:
    """Whether *url* may be sent what *base* may."""
    return url.scheme == base.scheme and url.host == base.host and url.port == base.port
