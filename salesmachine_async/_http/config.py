"""Where the API is and who asks: read from arguments or the environment, checked before anything is sent."""

from __future__ import annotations

import os
import ssl
from ipaddress import ip_address
from typing import Final

from yarl import URL

from salesmachine_async.errors import ConfigError

TOKEN_VARIABLE: Final = "SALESMACHINE_API_TOKEN"  # noqa: S105 (the name of a variable)
SECRET_VARIABLE: Final = "SALESMACHINE_API_SECRET"  # noqa: S105
URL_VARIABLE: Final = "SALESMACHINE_API_URL"
DEFAULT_URL: Final = "https://api.salesmachine.io"


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
        ConfigError: One of them cannot. The message tells what is wrong and never what it is.
    """
    if token == "":
        raise ConfigError(f"no API token: pass token= or set {TOKEN_VARIABLE}")
    for name, value in (("token", token), ("secret", secret)):
        if not isinstance(value, str):
            raise ConfigError(f"the API {name} must be a str, not {type(value).__name__}")
        if not all("!" <= character <= "~" for character in value):
            raise ConfigError(f"the API {name} may only hold visible ASCII characters (no spaces, no line ends)")
    if isinstance(token, str) and ":" in token:
        raise ConfigError("the API token must not hold a colon: it is the user of HTTP Basic authentication")


def check_base_url(base_url: object, *, allow_http: bool = False) -> URL:
    """
    Return the base URL, parsed.

    Raises:
        ConfigError: It is not an absolute http(s) URL with a host and without credentials, query or fragment; or
            it is ``http://`` to another machine and that is not allowed. The message does not echo it: it may
            hold a password.
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
            f"http:// would send the API token readable to {host}: use https://, "
            "or pass transport=HttpTransport(..., allow_http=True)"
        )
    return url


def check_proxy(proxy: object) -> URL:
    """
    Return the URL of an HTTP proxy, parsed; it may hold credentials.

    Raises:
        ConfigError: It is not one that aiohttp can use. The message does not echo it.
    """
    if not isinstance(proxy, str):
        raise ConfigError(f"proxy must be a str, not {type(proxy).__name__}")
    try:
        url = URL(proxy)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host or url.port is None:
        raise ConfigError("proxy must be a URL as http://host:port")
    return url


def check_ssl_context(ssl_context: object) -> ssl.SSLContext | bool:
    """
    Return what aiohttp is to be told: the context, or for None that it verifies by the default one.

    Raises:
        ConfigError: It is neither.
    """
    if ssl_context is None:
        return True
    if not isinstance(ssl_context, ssl.SSLContext):
        # To aiohttp False would mean: do not verify.
        raise ConfigError(f"ssl_context must be an ssl.SSLContext, not {type(ssl_context).__name__}")
    return ssl_context


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
