"""Options that several commands share."""

import dataclasses
import functools
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from salesmachine_async.cli.credentials import ApiKeys, load
from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.terminal import fail

if TYPE_CHECKING:
    from salesmachine_async._http.config import Network

FILE = click.Path(path_type=Path)
OUTPUT_FILE = click.Path(path_type=Path, dir_okay=False)

json_option = click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object.")
timeout_option = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 86_400),
    default=10.0,
    help="Time limit, retries included; default: 10.",
)
auth_option = click.option(
    "--auth",
    type=click.Choice(["basic", "bearer", "query"]),
    default="basic",
    envvar="SALESMACHINE_ACCESS_AUTH",
    help="How the v2 token is sent, which Salesmachine does not document: as the user name of HTTP Basic "
    "(the default), as a bearer token, or as ?api_token=.",
)

_NETWORK_OPTIONS = (
    click.option("--proxy", metavar="URL", help="The HTTP proxy to use; one with a password: SALESMACHINE_PROXY."),
    click.option("--cacert", metavar="FILE", type=FILE, help="Trust the certificate authorities in this PEM file."),
    click.option("--allow-http", is_flag=True, help="Allow http:// to other machines; keys are then readable."),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """
    The options of a command that talks to a server.

    Attributes:
        credentials: The file with the keys; None for the environment.
        proxy: The URL of a proxy; None for the one in the environment.
        cacert: A file of certificate authorities; None for the default ones.
        allow_http: Whether ``http://`` may be used to other machines.
    """

    credentials: Path | None = None
    proxy: str | None = None
    cacert: Path | None = None
    allow_http: bool = False

    @property
    def from_stdin(self) -> bool:
        """Whether the keys are read from stdin."""
        return str(self.credentials) == "-"

    def keys(self) -> ApiKeys:
        """
        Read the keys.

        Raises:
            click.exceptions.Exit: They cannot be read.
        """
        return load(self.credentials)

    def transport(self) -> dict[str, Any]:
        """
        Return the arguments for `HttpTransport` and `AccessClient`: only those given, so that the environment serves.

        Raises:
            click.exceptions.Exit: An option is unusable.
        """
        found: dict[str, Any] = {}
        if self.proxy is not None:
            if "@" in urlsplit(self.proxy).netloc:
                fail("--proxy must not hold a password, which others could read: set SALESMACHINE_PROXY", code=USAGE)
            found["proxy"] = self.proxy
        if self.cacert is not None:
            try:
                found["ssl_context"] = ssl.create_default_context(cafile=str(self.cacert))
            except (OSError, ValueError) as error:
                reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error
                fail(f"cannot use --cacert {self.cacert}: {getattr(reason, 'strerror', reason)}", code=USAGE)
        if self.allow_http:
            found["allow_http"] = True
        return found

    def network(self, url: str) -> "Network":
        """
        Return the network settings for a server at *url*, with those of the environment for options not given.

        Raises:
            ConfigError: The URL or a variable of the environment is unusable.
            click.exceptions.Exit: An option is unusable.
        """
        from salesmachine_async._http.config import network  # noqa: PLC0415 - imports yarl

        given = self.transport()
        return network(
            url,
            allow_http=given.get("allow_http"),
            proxy=given.get("proxy"),
            ca_file=None,
            ssl_context=given.get("ssl_context"),
        )


def server_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--credentials``, ``--proxy``, ``--cacert`` and ``--allow-http``; pass them as *server*."""
    return click.option(
        "--credentials",
        metavar="FILE",
        type=FILE,
        help="Read keys from this file, one SALESMACHINE_API_TOKEN=… per line (- for stdin). It takes precedence over "
        "the environment.",
    )(network_options(command))


def network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--proxy``, ``--cacert`` and ``--allow-http``; pass them as *server*."""

    @functools.wraps(command)
    def packed(
        *args: Any,
        proxy: str | None,
        cacert: Path | None,
        allow_http: bool,
        credentials: Path | None = None,
        **others: Any,
    ) -> Any:
        server = ServerOptions(credentials=credentials, proxy=proxy, cacert=cacert, allow_http=allow_http)
        return command(*args, server=server, **others)

    found: Callable[..., Any] = packed
    for option in reversed(_NETWORK_OPTIONS):
        found = option(found)
    return found
