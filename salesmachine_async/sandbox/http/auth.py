"""Authentication of requests, and protection against requests by web pages."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from salesmachine_async.sandbox.http.responses import ApiError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aiohttp import web

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Path of the control endpoints and the page.
PREFIX = "/_sandbox"
# At least half of a token stays secret.
MIN_HINT_CHARACTERS = 8
MAX_AGENT_CHARACTERS = 60
CHALLENGE = {"WWW-Authenticate": 'Basic realm="salesmachine sandbox"'}


def workspace_of(token: str) -> str:
    """
    Return the public name of the workspace of *token*.

    The name is a digest, so that the token itself is never stored, shown or logged. 64 bits distinguish the workspaces
    of one machine and stay readable in a table.
    """
    return hashlib.blake2b(token.encode(), digest_size=8, person=b"sm-sandbox").hexdigest()


class TokenHint(NamedTuple):
    """
    What identifies a token for its owner without revealing it.

    Attributes:
        text: The first and the last two characters; empty for a token so short that these would reveal it.
        length: The number of characters.
        used_at: When it was last used, in epoch milliseconds.
        used_by: The first product in the User-Agent of that request.
    """

    text: str
    length: int
    used_at: int
    used_by: str


def token_hint(token: str, used_at: int, user_agent: str) -> TokenHint:
    """Describe *token* and its last use."""
    text = f"{token[:2]}…{token[-2:]}" if len(token) >= MIN_HINT_CHARACTERS else ""
    return TokenHint(text, len(token), used_at, user_agent[:MAX_AGENT_CHARACTERS].partition(" ")[0])


@dataclass(frozen=True, slots=True)
class Tokens:
    """
    The API tokens that are valid, and the workspace each one opens.

    Attributes:
        v1: The workspaces whose tokens are valid; None accepts any token.
        v2: Maps the digests of the tokens that are valid for v2 and nothing else to the workspaces they open; None
            accepts every valid token for both APIs.
    """

    v1: frozenset[str] | None = None
    v2: Mapping[str, str] | None = None

    def workspace_of(self, token: str) -> str:
        """Return the name of the workspace that *token* opens, whichever API it belongs to."""
        digest = workspace_of(token)
        return digest if self.v2 is None else self.v2.get(digest, digest)

    def identify(self, request: web.Request) -> str:
        """
        Return the name of the workspace whose token *request* carries.

        Raises:
            ApiError: 401.
        """
        for_v2 = request.path.startswith("/v2/")
        token = find_token(request, bearer=for_v2)
        if token is None:
            raise ApiError(401, "credentials are missing: use HTTP Basic with the API token as the user", CHALLENGE)
        digest = workspace_of(token)
        workspace: str | None = digest
        if self.v2 is not None and (for_v2 or digest in self.v2):
            workspace = self.v2.get(digest) if for_v2 else None
        elif self.v1 is not None and digest not in self.v1:
            workspace = None
        if workspace is None:
            raise ApiError(401, "the API token is wrong", CHALLENGE)
        return workspace


def find_token(request: web.Request, *, bearer: bool = False) -> str | None:
    """
    Read the API token of *request*: the user of HTTP Basic (any password), or `?api_token=`; a bearer token if allowed.

    It is unknown how v2 takes its token, so v2 accepts all three forms. The documentation disagrees on the password
    (empty, the secret, or the token again), so it is not checked. The Authorization header takes precedence.

    Returns:
        The token, or None if the request has no credentials.

    Raises:
        ApiError: 401 if the credentials are malformed or the token is empty.
    """
    header = request.headers.get("Authorization")
    if header is None:
        token = request.query.get("api_token")
    else:
        token = _bearer(header) if bearer and header[:7].lower() == "bearer " else _basic_user(header)
    if token == "":
        raise ApiError(401, "the API token is empty", CHALLENGE)
    return token


def _bearer(header: str) -> str:
    return header[7:].strip()


def _basic_user(header: str) -> str:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise ApiError(401, "use HTTP Basic authentication with the API token as the user", CHALLENGE)
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise ApiError(401, "the Authorization header is not valid HTTP Basic", CHALLENGE) from None
    user, colon, _ = decoded.partition(":")
    if not colon:
        raise ApiError(401, "the Authorization header is not valid HTTP Basic", CHALLENGE)
    return user


def require_local(request: web.Request, hosts: Collection[str]) -> None:
    """
    Reject requests that a web page of another site makes a browser send.

    A page can point its own name at 127.0.0.1 (DNS rebinding), which `Host` reveals. It can send requests across
    origins, which `Origin` reveals. And it can load a URL as an image, a script, a frame or a navigation, all of which
    are GET requests without `Origin`: `Sec-Fetch-Site` reveals these. Browsers omit that header for plain HTTP beyond
    the loopback, so a browser without it may not change anything by GET, which only libraries of 2014 need to do.

    Reading without credentials is allowed from other sites, so that links to the page work; browsers do not show the
    response to the other site.

    Source: W3C, Fetch Metadata Request Headers.

    Raises:
        ApiError: 403.
    """
    authority = request.headers.get("Host", "")
    if _hostname(authority) not in hosts:
        raise ApiError(403, "the Host header does not name this sandbox; --allow-host adds a name")
    origin = request.headers.get("Origin")
    if origin is not None and origin.lower() != f"http://{authority.lower()}":
        raise ApiError(403, "requests from other origins are not allowed")
    if _changes_state(request) and _is_foreign(request, authority):
        raise ApiError(403, "a page of another site may not change anything here (see Sec-Fetch-Site)")


def is_control(request: web.Request) -> bool:
    """Return whether *request* is for the control endpoints or the page, not for the API."""
    return request.path in (PREFIX, "/", "/favicon.ico") or request.path.startswith(f"{PREFIX}/")


def _changes_state(request: web.Request) -> bool:
    """Return whether *request* can change anything; any request to the API, or with a token, can create a workspace."""
    if request.method not in ("GET", "HEAD") or not is_control(request):
        return True
    return "api_token" in request.query or "Authorization" in request.headers


def _is_foreign(request: web.Request, authority: str) -> bool:
    """Return whether a page of another site, also of another port, made a browser send *request*."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site.strip().lower() not in ("same-origin", "none")
    referer = request.headers.get("Referer")
    if referer is not None and not referer.lower().startswith(f"http://{authority.lower()}/"):
        return True
    browser = request.headers.get("User-Agent", "").startswith("Mozilla/")
    return browser and request.method in ("GET", "HEAD") and not is_control(request)


def _hostname(authority: str) -> str | None:
    try:
        parts = urlsplit(f"//{authority}")
    except ValueError:
        return None
    # A Host header contains neither userinfo nor a path.
    return parts.hostname if parts.netloc == authority and "@" not in authority else None
