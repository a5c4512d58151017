"""``salesmachine tail``: follow a sandbox live in the terminal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import click

from salesmachine_async.cli.exit_codes import REFUSED, UNAVAILABLE, USAGE
from salesmachine_async.cli.message_text import message_text
from salesmachine_async.cli.options import ServerOptions, server_options
from salesmachine_async.cli.runner import run
from salesmachine_async.cli.sandbox.options import DEFAULT_PORT
from salesmachine_async.cli.terminal import emit, fail, harmless, note, on_terminal, out, reader_left

if TYPE_CHECKING:
    from rich.text import Text

    from salesmachine_async.cli.credentials import ApiKeys

# The sandbox sends a comment every 15 s, so that a longer silence is a broken connection.
SILENCE_SECONDS = 45.0
CONNECT_SECONDS = 5.0


@click.command("tail")
@click.option("--requests", is_flag=True, help="Also print every request, not only rejected ones.")
@click.option("--ndjson", is_flag=True, help="Print one JSON object per line, as in a pipe.")
@click.option("--count", metavar="N", type=click.IntRange(1), help="Exit after N messages.")
@server_options
def command(*, requests: bool, ndjson: bool, count: int | None, server: ServerOptions) -> None:
    """
    Follow the messages that arrive in a sandbox.

    Prints each message, and each rejected request with its reason, from now on:
    one line each on a terminal, one JSON object each in a pipe. Ctrl-C stops it.

    \b
      salesmachine tail
      salesmachine tail --requests
      salesmachine tail | jq -r 'select(.event_uid == "order_paid").contact_uid'

    Follows the sandbox at SALESMACHINE_API_URL, else the one on port 8700 of this
    machine: the workspace of SALESMACHINE_API_TOKEN if that is set, else all.
    Exit status: 0 when the sandbox stops, 2 usage error, 4 not a sandbox or the
    token is rejected, 5 not reached, 130 interrupted.
    """
    keys = server.keys()
    as_json = ndjson or not on_terminal()
    run(_follow(keys, server, as_json=as_json, requests=requests, count=count))


async def _follow(keys: ApiKeys, server: ServerOptions, *, as_json: bool, requests: bool, count: int | None) -> None:
    left = count
    async for update in _updates(keys, server):
        if skipped := update["messages_skipped"]:
            note(f"{skipped} messages were skipped: they arrived faster than they can be shown")
        for request in update["requests"]:
            if requests or not 200 <= (request["status"] or 0) < 300:
                _print(request, as_json=as_json)
        for message in update["messages"]:
            _print(message, as_json=as_json)
            left = None if left is None else left - 1
            if left == 0:
                return
    note("the sandbox has stopped")


async def _updates(keys: ApiKeys, server: ServerOptions) -> AsyncIterator[dict[str, Any]]:
    """
    Yield the updates of the stream until the sandbox stops.

    Raises:
        click.exceptions.Exit: If there is no sandbox, or the connection breaks.
    """
    import aiohttp  # noqa: PLC0415 - imported late, see the package docstring

    url = keys.base_url or f"http://127.0.0.1:{DEFAULT_PORT}"
    network = server.network(url)
    headers = {"Accept": "text/event-stream"}
    if keys.token:
        headers["Authorization"] = aiohttp.encode_basic_auth(keys.token, keys.secret)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
    options: dict[str, Any] = {"proxy": network.proxy, "ssl": network.ssl}
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(network.base / "_sandbox/stream", headers=headers, allow_redirects=False, **options) as response,
        ):
            if response.status != 200 or response.content_type != "text/event-stream":
                fail(f"{url} is not a sandbox, or rejects the token (HTTP {response.status})", code=REFUSED)
            note(f"Following {url}; Ctrl-C stops it.")
            lines: list[str] = []
            async for line in _lines(response.content):
                if line:
                    lines.append(line)
                    continue
                data = "\n".join(each[5:].lstrip(" ") for each in lines if each.startswith("data:"))
                lines.clear()
                if data:
                    yield json.loads(data)
    except (aiohttp.ClientError, OSError) as error:
        fail(f"lost or could not open the connection to {url}: {str(error) or type(error).__name__}", code=UNAVAILABLE)
    except ValueError:  # after ClientError, because an error of a certificate is both
        fail(f"cannot read the stream of {url}: it is not one of a sandbox", code=USAGE)


async def _lines(content: Any) -> AsyncIterator[str]:
    """Yield lines of any length, which the line iterator of aiohttp limits."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode()


def _print(item: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        from salesmachine_async.cli.read.printing import line_of  # noqa: PLC0415 - imports orjson

        emit(line_of(item))
        return
    try:
        out().print(_line(item), soft_wrap=True)
    except BrokenPipeError:
        reader_left()


def _line(item: dict[str, Any]) -> Text:
    """Return a message or a request as one line for a terminal."""
    if "path" in item:
        from rich.text import Text  # noqa: PLC0415

        status = item["status"]
        good = status is not None and 200 <= status < 300
        line = Text.assemble(
            (item["received_at"][11:19] + "  ", "dim"),
            (f"{status or 'no answer'}  ", "bold" if good else "bold red"),
            harmless(f"{item['method']} {item['path']}"),
        )
        return line.append(f"  {harmless(item['error'])}", "red") if item.get("error") else line
    return message_text(item["received_at"][11:19], item["method"], item)
