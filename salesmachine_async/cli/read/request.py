"""``salesmachine request``: any call, with the key."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qsl

import typer

from salesmachine_async.cli import credentials as keys
from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.json_input import DocumentError, read_document
from salesmachine_async.cli.read.options import DEFAULT_TIMEOUT, Auth, Timeout
from salesmachine_async.cli.runner import give_up, run
from salesmachine_async.cli.terminal import emit, fail, harmless

if TYPE_CHECKING:
    from salesmachine_async.access.wire import Answer
    from salesmachine_async.errors import DeliveryError

Method = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]

# They would hold a key, which others could then read in the list of processes.
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie"})
_SECRET_PARAMS = frozenset({"api_token"})


Body = Annotated[
    str | None, typer.Option("--data", "-d", metavar="JSON|@FILE|-", help="The body: JSON, a file with it, or stdin.")
]


def command(
    method: Annotated[
        Method, typer.Argument(metavar="METHOD", case_sensitive=False, help="GET, POST, PUT, PATCH, DELETE …")
    ],
    path: Annotated[str, typer.Argument(metavar="PATH", help="The path below the base URL, such as /v2/Contacts.")],
    *,
    data: Body = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="For the query; can be repeated."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option("--header", "-H", metavar="'NAME: VALUE'", help="An extra header; can be repeated."),
    ] = None,
    include: Annotated[
        bool, typer.Option("--include", "-i", help="Also print the status and headers of the answer.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the body on one line, as it does in a pipe.")] = False,
    credentials: keys.CredentialsFile = None,
    auth: Auth = "basic",
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """
    Make any call to the API, with your key.

    Paths below /v1/ get the API token, all others the token of v2. The body of the
    answer goes to stdout: indented on a terminal, one line in a pipe.

    \b
      salesmachine request GET '/v2/Contacts?limit=3'
      salesmachine request POST /v2/Notes -d '{"body": "Wants a demonstration."}'
      salesmachine request GET /v2/Users -p limit=5 -i

    Needs SALESMACHINE_ACCESS_TOKEN, or SALESMACHINE_API_TOKEN for /v1/. Exits 0 for
    a 2xx, 2 used wrongly, 4 for a 3xx or 4xx, 5 for a 5xx, a 429 that lasts, or
    when the server is not reached.
    """
    if data == "-" and str(credentials) == "-":
        fail("stdin cannot be both the body and the credentials", code=USAGE)
    path, _, query = path.partition("?")
    params = _pairs([*(f"{name}={value}" for name, value in parse_qsl(query, keep_blank_values=True)), *(param or ())])
    headers = _headers(header or ())
    try:
        body = None if data is None else read_document("--data", data)
    except DocumentError as error:
        fail(str(error), code=USAGE)
    found = keys.load(credentials)
    v1_only = path.startswith("/v1/")
    _ = found.need_token() if v1_only else found.need_access_token()
    call = {"method": method, "path": path, "params": params, "json": body, "headers": headers}
    answer, failure = run(_request(call, found, auth, timeout, v1_only=v1_only), found)
    if failure is not None:
        if include and failure.status is not None:
            emit(f"HTTP {failure.status}\n")
        give_up(failure, found)
    assert answer is not None
    _show(answer, include=include, plain=as_json)


def _show(answer: "Answer", *, include: bool, plain: bool) -> None:
    from salesmachine_async.cli.read.printing import show  # noqa: PLC0415 - brings orjson

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
        # Neither the header nor its value is echoed: it may hold a key.
        if not colon or not name:
            fail("a --header is not 'NAME: VALUE'", code=USAGE)
        if name.lower() in _SECRET_HEADERS:
            fail(f"--header {name}: keys come from the environment or --credentials, never from arguments", code=USAGE)
        headers[name] = value.strip()
    return headers


async def _request(
    call: dict[str, Any],
    credentials: keys.ApiKeys,
    auth: Literal["basic", "bearer", "query"],
    timeout: float,
    *,
    v1_only: bool,
) -> "tuple[Answer | None, DeliveryError | None]":
    from salesmachine_async.cli.read.client import open_client, within  # noqa: PLC0415 - brings aiohttp
    from salesmachine_async.errors import DeliveryError  # noqa: PLC0415

    async with open_client(credentials, auth, timeout, v1_only=v1_only) as api:
        try:
            return await within(timeout, api.request(**call)), None
        except DeliveryError as error:
            return None, error
