"""``salesmachine request``: make any call to the API with the key."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import click

from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.json_input import DocumentError, read_document
from salesmachine_async.cli.options import ServerOptions, auth_option, server_options, timeout_option
from salesmachine_async.cli.runner import give_up, run
from salesmachine_async.cli.terminal import emit, fail, harmless

if TYPE_CHECKING:
    from salesmachine_async.access import Answer
    from salesmachine_async.cli.credentials import ApiKeys
    from salesmachine_async.errors import DeliveryError

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")

# Headers and parameters that hold keys, which other users could read in the list of processes.
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})
_SECRET_PARAMS = frozenset({"api_token"})


@click.command("request")
@click.argument("method", metavar="METHOD", type=click.Choice(METHODS, case_sensitive=False))
@click.argument("path", metavar="PATH")
@click.option("--data", "-d", metavar="JSON|@FILE|-", help="The body: JSON, or a file or stdin with it.")
@click.option("--param", "-p", metavar="NAME=VALUE", multiple=True, help="A query parameter; can be repeated.")
@click.option("--header", "-H", metavar="'NAME: VALUE'", multiple=True, help="An extra header; can be repeated.")
@click.option("--include", "-i", is_flag=True, help="Also print the status and headers of the answer.")
@click.option("--json", "as_json", is_flag=True, help="Print the body in one line, as in a pipe.")
@server_options
@auth_option
@timeout_option
def command(
    method: str,
    path: str,
    *,
    data: str | None,
    param: Sequence[str],
    header: Sequence[str],
    include: bool,
    as_json: bool,
    server: ServerOptions,
    auth: str,
    timeout: float,
) -> None:
    """
    Make any call to the API with your key.

    PATH is a path below the base URL; /v1/ gets the API token, other paths the
    token of v2. The body of the answer is printed, indented on a terminal.

    \b
      salesmachine request GET '/v2/Contacts?limit=3'
      salesmachine request POST /v2/Notes -d '{"body": "Wants a demonstration."}'
      salesmachine request GET /v2/Users -p limit=5 -i

    Needs SALESMACHINE_ACCESS_TOKEN, or SALESMACHINE_API_TOKEN and
    SALESMACHINE_API_SECRET for /v1/. Exit status: 0 for a 2xx, 2 usage error, 4 for
    a 3xx or 4xx, 5 for a 5xx, a lasting 429, or a server that is not reached.
    """
    if data == "-" and server.from_stdin:
        fail("stdin cannot be both the body and the credentials", code=USAGE)
    path, _, query = path.partition("?")
    pairs = [f"{name}={value}" for name, value in parse_qsl(query, keep_blank_values=True)]
    params = _pairs([*pairs, *param])
    headers = _headers(header)
    try:
        body = None if data is None else read_document("--data", data)
    except DocumentError as error:
        fail(str(error), code=USAGE)
    keys = server.keys()
    v1_only = path.startswith("/v1/")
    _ = keys.need_token() if v1_only else keys.need_access_token()
    call = {"method": method, "path": path, "params": params, "json": body, "headers": headers}
    answer, failure = run(_request(call, keys, server.transport(), auth, timeout, v1_only=v1_only))
    if failure is not None:
        if include and failure.status is not None:
            emit(f"HTTP {failure.status}\n")
        give_up(failure)
    assert answer is not None
    _show(answer, include=include, plain=as_json)


def _show(answer: "Answer", *, include: bool, plain: bool) -> None:
    from salesmachine_async.cli.read.printing import show  # noqa: PLC0415 - imports orjson

    if include:
        emit(f"HTTP {answer.status}")
        for name, value in answer.headers.items():
            emit(harmless(f"{name}: {value}"))
        emit("")
    if answer.data is not None:
        show(answer.data, plain=plain)


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            fail(f"--param {each!r} is not NAME=VALUE", code=USAGE)
        if name in pairs:
            fail(f"--param {name} is given twice", code=USAGE)
        if name.lower() in _SECRET_PARAMS:
            fail(f"--param {name}: keys come from the environment or --credentials; see --auth query", code=USAGE)
        pairs[name] = value
    return pairs


def _headers(given: Sequence[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for each in given:
        name, colon, value = each.partition(":")
        name = name.strip()
        # The header is not shown, because it may hold a key.
        if not colon or not name:
            fail("a --header is not 'NAME: VALUE'", code=USAGE)
        if name.lower() in _SECRET_HEADERS:
            fail(f"--header {name}: keys come from the environment or --credentials, never from arguments", code=USAGE)
        headers[name] = value.strip()
    return headers


async def _request(
    call: dict[str, Any], keys: "ApiKeys", transport: dict[str, Any], auth: str, timeout: float, *, v1_only: bool
) -> "tuple[Answer | None, DeliveryError | None]":
    from salesmachine_async.cli.read.client import open_client, within  # noqa: PLC0415 - imports aiohttp
    from salesmachine_async.errors import DeliveryError  # noqa: PLC0415

    async with open_client(keys, transport, auth, timeout, v1_only=v1_only) as api:
        try:
            return await within(timeout, api.request(**call)), None
        except DeliveryError as error:
            return None, error
