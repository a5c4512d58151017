"""``salesmachine get``: print one object."""

from typing import TYPE_CHECKING, Any

import click

from salesmachine_async.cli.options import ServerOptions, auth_option, server_options, timeout_option
from salesmachine_async.cli.runner import run

if TYPE_CHECKING:
    from salesmachine_async.access.objects import Record
    from salesmachine_async.cli.credentials import ApiKeys

# The attributes of the client.
RESOURCES = {
    "contact": "contacts",
    "account": "accounts",
    "note": "notes",
    "activity": "activities",
    "task": "tasks",
    "user": "users",
}
ID_HINT = "ID is the id of the API, which `salesmachine list` shows, not your uid"


@click.command("get")
@click.argument("kind", metavar="WHAT", type=click.Choice(list(RESOURCES)))
@click.argument("id_", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print it in one line, as in a pipe.")
@server_options
@auth_option
@timeout_option
def command(kind: str, id_: str, *, as_json: bool, server: ServerOptions, auth: str, timeout: float) -> None:
    """
    Print one contact, account, note, activity, task or user.

    Prints JSON as the API returns it: indented on a terminal, one line in a pipe.
    ID is the id of the API, which `salesmachine list` shows, not your uid.

    \b
      salesmachine get contact 5f0c1a2b3c4d5e6f7a8b9c0d
      salesmachine get account 5f0c1a2b3c4d5e6f7a8b9c0d | jq .data.mrr

    Needs SALESMACHINE_ACCESS_TOKEN. Exit status: 0 found, 2 usage error, 4 rejected
    by the server or not found, 5 server not reached.
    """
    keys = server.keys()
    keys.need_access_token()
    record = run(_get(RESOURCES[kind], id_, keys, server.transport(), auth, timeout=timeout), hint=ID_HINT)
    from salesmachine_async.cli.read.printing import show  # noqa: PLC0415 - imports orjson

    show(record.raw, plain=as_json)


async def _get(
    resource: str, id_: str, keys: "ApiKeys", transport: dict[str, Any], auth: str, *, timeout: float
) -> "Record":
    from salesmachine_async.cli.read.client import open_client, within  # noqa: PLC0415 - imports aiohttp

    async with open_client(keys, transport, auth, timeout) as api:
        resources: Any = getattr(api, resource)
        record: Record = await within(timeout, resources.get(id_))
        return record
