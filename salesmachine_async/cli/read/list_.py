"""``salesmachine list``: contacts, accounts and the rest, page after page."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from salesmachine_async.cli import credentials as keys
from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.read.options import DEFAULT_TIMEOUT, Auth, Timeout
from salesmachine_async.cli.runner import run
from salesmachine_async.cli.terminal import emit, fail, note, on_terminal, out

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from salesmachine_async.access import AccessClient
    from salesmachine_async.access.objects import Record

Kind = Literal["contacts", "accounts", "notes", "activities", "tasks", "users"]
Status = Literal["trial", "paying", "churned", "not_converted"]
Order = Literal["asc", "desc"]
Sort = Literal["created_at"]

# What the API gives on one page at most.
_PAGE = 100


def command(
    kind: Annotated[Kind, typer.Argument(metavar="WHAT", help=f"{', '.join(get_args(Kind))}.")],
    *,
    status: Annotated[
        Status | None, typer.Option(help="Only those in this part of the funnel (contacts, accounts).")
    ] = None,
    archived: Annotated[
        bool | None, typer.Option("--archived/--no-archived", help="Only what is archived, or only what is not.")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="List at most N; default: all.")] = None,
    offset: Annotated[int | None, typer.Option(metavar="N", min=0, help="Skip the first N.")] = None,
    order: Annotated[Order | None, typer.Option(help="Oldest or newest first; default: newest.")] = None,
    sort: Annotated[Sort | None, typer.Option(help="The field to sort by.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    ndjson: Annotated[
        bool, typer.Option("--ndjson", help="Print one JSON object per line, as it does in a pipe.")
    ] = False,
    credentials: keys.CredentialsFile = None,
    auth: Auth = "basic",
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """
    List contacts, accounts, notes, activities, tasks or users.

    A table on a terminal; in a pipe or a file one JSON object per line, exactly as
    the API gives it. Pages are fetched as they are needed, however many there are.

    \b
      salesmachine list contacts --status paying --limit 20
      salesmachine list accounts | jq -r .unique_id | head
      salesmachine list users --json > users.json

    Needs SALESMACHINE_ACCESS_TOKEN. Exits 0 even if nothing is found, 2 used
    wrongly, 4 refused by the server, 5 server not reached.
    """
    if as_json and ndjson:
        fail("--json and --ndjson exclude each other", code=USAGE)
    query: dict[str, Any] = {"offset": offset, "order": order, "sort": sort}
    if kind in ("contacts", "accounts"):
        query |= {"status": status, "archived": archived}
    elif status is not None or archived is not None:
        fail(f"--status and --archived are of contacts and accounts: {kind} have none", code=USAGE)
    query["limit"] = None if limit is None else min(limit, _PAGE)
    found = keys.load(credentials)
    found.need_access_token()

    async def work() -> None:
        from salesmachine_async.cli.read.client import open_client  # noqa: PLC0415 - brings aiohttp

        async with open_client(found, auth, timeout) as api:
            pages = _pages(api, kind, query, timeout, limit)
            if as_json or ndjson or not on_terminal():
                await _as_json(pages, array=as_json)
            else:
                await _as_table(kind, pages)

    run(work(), found)


async def _pages(
    api: "AccessClient", kind: Kind, query: dict[str, Any], timeout: float, limit: int | None
) -> "AsyncIterator[Sequence[Record]]":
    from salesmachine_async.cli.read.client import within  # noqa: PLC0415

    pages = aiter(getattr(api, kind).list(**query).pages())
    left = limit
    while left is None or left > 0:
        try:
            page = await within(timeout, anext(pages))
        except StopAsyncIteration:
            return
        items = page.items if left is None else page.items[:left]
        yield items
        left = None if left is None else left - len(items)


async def _as_table(kind: Kind, pages: "AsyncIterator[Sequence[Record]]") -> None:
    from salesmachine_async.cli.read.table import Table  # noqa: PLC0415 - brings rich

    table, count = Table(kind, out()), 0
    async for items in pages:
        table.add(items)
        count += len(items)
    if not count:
        note(f"There are no {kind} like that.")


async def _as_json(pages: "AsyncIterator[Sequence[Record]]", *, array: bool) -> None:
    from salesmachine_async.cli.read.printing import line_of  # noqa: PLC0415 - brings orjson

    # An array that an error cuts off stays without its end: no parser takes it for the whole.
    before = "[" if array else ""
    async for items in pages:
        if items:
            lines = [line_of(item.raw) for item in items]
            emit(before + (",\n" if array else "\n").join(lines))
            before = "," if array else ""
    if array:
        emit("[]" if before == "[" else "]")
