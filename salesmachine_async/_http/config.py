"""Credentials and network settings: read from arguments or the environment, checked before anything is sent."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from yarl import URL

from salesmachine_async.errors import ConfigError

TOKEN_VARIABLE: Final = "SALESMACHINE_API_TOKEN"  # noqa: S105 (the name of a variable)
SECRET_VARIABLE: Final = "SALESMACHINE_API_SECRET"  # noqa: S105
URL_VARIABLE: Final = "SALESMACHINE_API_URL"
ALLOW_HTTP_VARIABLE: Final = "SALESMACHINE_ALLOW_HTTP"
PROXY_VARIABLE: Final = "SALESMACHINE_PROXY"
CA_FILE_VARIABLE: Final = "SALESMACHINE_CA_FILE"
SPOOL_VARIABLE: Final = "SALESMACHINE_SPOOL"
DEFAULT_URL: Final = "https://api.salesmachine.io"

_VISIBLE: Final = re.compile(r"[!-~]*")
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"", "0", "false", "no", "off"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """
    The network settings, in the form of aiohttp.

    Attributes:
        base: The base URL.
        proxy: The URL of an HTTP proxy, which may hold credentials; or None.
        ssl: An SSL context, or True for the default one. Never False, which would switch verification off.
    """

    base: URL
    proxy: URL | None = field(repr=False)
    ssl: ssl.SSLContext | bool


def network(
    base_url: str | None,
    *,
    allow_http: bool | None,
    proxy: str | None,
    ca_file: str | os.PathLike[str] | None,
    ssl_context: ssl.SSLContext | None,
) -> Network:
    """
    Return the checked arguments, each None replaced by its environment variable or default.

    Raises:
        ConfigError: An argument, or the environment variable in its place, is unusable.
    """
    if allow_http is None:
        allow_http = flag_from_environment(ALLOW_HTTP_VARIABLE)
    try:
        return Network(
            base=check_base_url(base_url, allow_http=allow_http),
            proxy=_proxy(proxy),
            ssl=_ssl(ca_file, ssl_context),
        )
    except ConfigError as exc:
        problem = str(exc)
    # Error trackers record the local variables of each frame, and both URLs may hold a password. So a new error is
    # raised, which has none of the frames below.
    base_url = proxy = None
    raise ConfigError(problem)


def flag_from_environment(variable: str) -> bool:
    """
    Return whether an environment variable is on (1, true, yes, on) or off (0, false, no, off, empty, unset).

    Raises:
        ConfigError: The variable has another value.
    """
    value = os.environ.get(variable, "").strip().lower()
    if value not in _TRUE | _FALSE:
        raise ConfigError(f"{variable} must be 1 or 0")
    return value in _TRUE


def from_environment(token: str | None, secret: str | None, base_url: str | None) -> tuple[str, str, str]:
    """Return the arguments, each None replaced by its environment variable or default."""
    return (
        token if token is not None else os.environ.get(TOKEN_VARIABLE, ""),
        secret if secret is not None else os.environ.get(SECRET_VARIABLE, ""),
        base_url if base_url is not None else os.environ.get(URL_VARIABLE) or DEFAULT_URL,
    )


def check_credentials(token: object, secret: object) -> None:
    """
    Check that token and secret can travel in an Authorization header.

    Raises:
        ConfigError: If one of them cannot. The text names the problem and never holds the value.
    """
    if token == "":
        raise ConfigError(f"no API token: pass token= or set {TOKEN_VARIABLE}")
    _check_visible("token", token)
    _check_visible("secret", secret)
    if isinstance(token, str) and ":" in token:
        raise ConfigError("the API token must not hold a colon: it is the user of HTTP Basic authentication")


def _check_visible(name: str, secret: object) -> None:
    # Error trackers record local variables, and hide those named `token` or `secret`.
    if not isinstance(secret, str):
        raise ConfigError(f"the API {name} must be a str, not {type(secret).__name__}")
    if not _VISIBLE.fullmatch(secret):
        raise ConfigError(f"the API {name} may only hold visible ASCII characters (no spaces, no line ends)")


def check_base_url(base_url: object, *, allow_http: bool = False) -> URL:
    """
    Return the parsed base URL.

    Raises:
        ConfigError: If it is not an absolute http(s) URL with a host and without credentials, query or fragment; or
            it is ``http://`` to another machine and that is not allowed. The text never holds the URL, which may
            contain a password.
    """
    if not isinstance(base_url, str):
        raise ConfigError(f"the base URL must be a str, not {type(base_url).__name__}")
    if not base_url.isprintable() or " " in base_url:
        raise ConfigError("the base URL must not hold spaces or control characters")
    try:
        url = URL(base_url)
        host = url.host
    except ValueError:
        raise ConfigError("the base URL is not a URL") from None
    if url.scheme not in ("http", "https"):
        raise ConfigError("the base URL must begin with https:// (or http:// for this machine)")
    if not host:
        raise ConfigError("the base URL has no host")
    if url.raw_user is not None or url.raw_password is not None:
        raise ConfigError("the base URL must not hold credentials: pass token= and secret=")
    if url.raw_query_string or url.raw_fragment:
        raise ConfigError("the base URL must not hold a query or a fragment")
    if url.port is None or not 0 < url.port < 2**16:
        raise ConfigError("the base URL has no usable port")
    if url.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ConfigError(
            f"http:// would send the API token in clear text to {host}: use https://, "
            f"or set {ALLOW_HTTP_VARIABLE}=1, or pass transport=HttpTransport(..., allow_http=True)"
        )
    return url


def check_proxy(proxy: object, *, name: str = "proxy") -> URL:
    """
    Return the parsed URL of an HTTP proxy, which may hold credentials.

    Raises:
        ConfigError: aiohttp cannot use it. The text names the setting and never holds the value.
    """
    if not isinstance(proxy, str):
        raise ConfigError(f"{name} must be a str, not {type(proxy).__name__}")
    try:
        url = URL(proxy)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host or url.port is None:
        raise ConfigError(f"{name} must be a URL as http://host:port")
    return url


def _proxy(proxy: str | None) -> URL | None:
    if proxy is not None:
        return check_proxy(proxy)
    proxy = os.environ.get(PROXY_VARIABLE)
    return check_proxy(proxy, name=PROXY_VARIABLE) if proxy else None


def _ssl(ca_file: object, ssl_context: ssl.SSLContext | None) -> ssl.SSLContext | bool:
    """Return an SSL context for the arguments, which take precedence over the environment."""
    if ssl_context is not None:
        # Not by its class, which truststore or a test may have replaced since the context was made.
        if not callable(getattr(ssl_context, "wrap_bio", None)):
            raise ConfigError(f"ssl_context must be an ssl.SSLContext, not {type(ssl_context).__name__}")
        if ca_file is not None:
            raise ConfigError("pass either ca_file= or ssl_context=, not both")
        return ssl_context
    if ca_file is not None:
        return _trusting("ca_file", ca_file)
    path = os.environ.get(CA_FILE_VARIABLE)
    return _trusting(CA_FILE_VARIABLE, path) if path else True


def _trusting(name: str, path: object) -> ssl.SSLContext:
    """Return an SSL context that trusts only the authorities in a PEM file."""
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"{name} must be a path, not {type(path).__name__}")
    try:
        return ssl.create_default_context(cafile=os.fspath(path))
    except ssl.SSLError:
        problem = "is not a PEM file of certificates"
    except (OSError, ValueError) as exc:
        problem = f"cannot be read ({getattr(exc, 'strerror', None) or type(exc).__name__})"
    raise ConfigError(f"{name} {problem}: {os.fspath(path)!r}")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
