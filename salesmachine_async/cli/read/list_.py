"""``salesmachine list``: print contacts, accounts and other objects, page after page."""

from typing import TYPE_CHECKING, Any

import click

from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.options import ServerOptions, auth_option, server_options, timeout_option
from salesmachine_async.cli.runner import run
from salesmachine_async.cli.terminal import emit, fail, note, on_terminal, out

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from salesmachine_async.access import AccessClient
    from salesmachine_async.access.objects import Record

# The largest page of the API.
_PAGE = 100


@click.command("list")
@click.argument(
    "kind",
    metavar="WHAT",
    type=click.Choice(["contacts", "accounts", "notes", "activities", "tasks", "users"]),
)
@click.option(
    "--status",
    type=click.Choice(["trial", "paying", "churned", "not_converted"]),
    help="Only contacts or accounts in this part of the funnel.",
)
@click.option(
    "--archived/--no-archived", default=None, help="Only contacts or accounts that are, or are not, archived."
)
@click.option("--limit", metavar="N", type=click.IntRange(1), help="List at most N; default: all.")
@click.option("--offset", metavar="N", type=click.IntRange(0), help="Skip the first N.")
@click.option("--order", type=click.Choice(["asc", "desc"]), help="Oldest or newest first; default: newest.")
@click.option("--sort", type=click.Choice(["created_at"]), help="The field to sort by.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@click.option("--ndjson", is_flag=True, help="Print one JSON object per line, as in a pipe.")
@server_options
@auth_option
@timeout_option
def command(
    kind: str,
    *,
    status: str | None,
    archived: bool | None,
    limit: int | None,
    as_json: bool,
    ndjson: bool,
    server: ServerOptions,
    auth: str,
    timeout: float,
    **query: Any,
) -> None:
    """
    List contacts, accounts, notes, activities, tasks or users.

    Prints a table on a terminal; in a pipe or a file one JSON object per line, as
    the API returns it. Pages are fetched as needed.

    \b
      salesmachine list contacts --status paying --limit 20
      salesmachine list accounts | jq -r .unique_id | head
      salesmachine list users --json > users.json

    Needs SALESMACHINE_ACCESS_TOKEN. Exit status: 0 even if nothing matches, 2 usage
    error, 4 rejected by the server, 5 server not reached.
    """
    if as_json and ndjson:
        fail("--json and --ndjson exclude each other", code=USAGE)
    if kind in ("contacts", "accounts"):
        query |= {"status": status, "archived": archived}
    elif status is not None or archived is not None:
        fail("--status and --archived apply only to contacts and accounts", code=USAGE)
    query["limit"] = None if limit is None else min(limit, _PAGE)
    keys = server.keys()
    keys.need_access_token()
    transport = server.transport()

    async def work() -> None:
        from salesmachine_async.cli.read.client import open_client  # noqa: PLC0415 - imports aiohttp

        async with open_client(keys, transport, auth, timeout) as api:
            pages = _pages(api, kind, query, timeout, limit)
            if as_json or ndjson or not on_terminal():
                await _print_json(pages, array=as_json)
            else:
                await _print_table(kind, pages)

    run(work())


async def _pages(
    api: "AccessClient", kind: str, query: dict[str, Any], timeout: float, limit: int | None
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


async def _print_table(kind: str, pages: "AsyncIterator[Sequence[Record]]") -> None:
    from salesmachine_async.cli.read.table import StreamedTable  # noqa: PLC0415 - imports rich

    table, count = StreamedTable(kind, out()), 0
    async for items in pages:
        table.add(items)
        count += len(items)
    if not count:
        note(f"No matching {kind}.")
    elif table.shortened:
        note(f"{table.shortened}; --ndjson prints all of it, a wider terminal more.")


async def _print_json(pages: "AsyncIterator[Sequence[Record]]", *, array: bool) -> None:
    from salesmachine_async.cli.read.printing import line_of  # noqa: PLC0415 - imports orjson

    # After an error the array has no end, so that no parser takes it for complete.
    before = "[" if array else ""
    async for items in pages:
        if items:
            lines = [line_of(item.raw) for item in items]
            emit(before + (",\n" if array else "\n").join(lines))
            before = "," if array else ""
    if array:
        emit("[]" if before == "[" else "]")
