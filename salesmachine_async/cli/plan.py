"""``salesmachine plan infer``: infer a first tracking plan from recorded messages."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.options import ServerOptions, network_options
from salesmachine_async.cli.runner import explained
from salesmachine_async.cli.terminal import emit, fail
from salesmachine_async.errors import ConfigError

if TYPE_CHECKING:
    from salesmachine_async.sandbox.messages import ParsedMessage

_TIMEOUT_SECONDS = 30.0


@click.group("plan", no_args_is_help=True)
def command() -> None:
    """
    Infer a tracking plan from recorded messages.

    \b
      salesmachine plan infer http://127.0.0.1:8700 > plan.json
    """


@command.command("infer")
@click.argument("source", metavar="FILE|URL")
@click.option("--workspace", metavar="NAME", help="The workspace, by its public name, if the sandbox has several.")
@network_options
def infer(source: str, *, workspace: str | None, server: ServerOptions) -> None:
    """
    Print a first plan that all messages of a file or sandbox satisfy.

    FILE is NDJSON as the sandbox exports it, URL that of a sandbox.

    \b
      salesmachine plan infer http://127.0.0.1:8700 > plan.json
      salesmachine plan infer export.ndjson > plan.json
      salesmachine sandbox --plan plan.json
    """
    from salesmachine_async.sandbox.plan.infer import infer_plan  # noqa: PLC0415 - imports orjson

    try:
        plan = infer_plan(_messages(_lines(source, workspace, server)))
    except ConfigError as error:
        # Without the URL, which may hold a password.
        fail(f"cannot use the URL: {explained(error)}", code=USAGE)
    except OSError as error:
        fail(f"cannot read {source}: {error.strerror or error}")
    except ValueError as error:
        fail(f"cannot use {source}: {error}", code=USAGE)
    emit(json.dumps(plan, indent=2, ensure_ascii=False))


def _lines(source: str, workspace: str | None, server: ServerOptions) -> Iterator[bytes]:
    if not source.startswith(("http://", "https://")):
        with Path(source).open("rb") as file:
            yield from file
        return
    from urllib.error import HTTPError  # noqa: PLC0415

    try:
        yield from _export(source, workspace, server)
    except HTTPError as error:
        with error:
            reason = error.read(1000).decode(errors="replace")
        raise ValueError(f"the sandbox answered {error.code}: {reason}") from None


def _export(url: str, workspace: str | None, server: ServerOptions) -> Iterator[bytes]:
    import ssl  # noqa: PLC0415
    from urllib.parse import quote  # noqa: PLC0415
    from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener  # noqa: PLC0415

    network = server.network(url)
    context = network.ssl if isinstance(network.ssl, ssl.SSLContext) else None
    proxy = network.proxy
    proxies: dict[str, str] = {} if proxy is None else {scheme: str(proxy) for scheme in ("http", "https")}
    opener = build_opener(ProxyHandler(proxies), HTTPSHandler(context=context))
    query = "" if workspace is None else f"?workspace={quote(workspace, safe='')}"
    request = Request(f"{url.rstrip('/')}/_sandbox/export{query}")  # noqa: S310 - the scheme is checked above
    with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
        yield from response


def _messages(lines: Iterator[bytes]) -> "Iterator[ParsedMessage]":
    from salesmachine_async.sandbox.messages import ParsedMessage  # noqa: PLC0415
    from salesmachine_async.sandbox.storage.ndjson import parse_lines  # noqa: PLC0415

    for line in parse_lines(lines):
        if isinstance(line.content, ParsedMessage):
            yield line.content
