"""``salesmachine get``: one object."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from salesmachine_async.cli import credentials as keys
from salesmachine_async.cli.read.options import DEFAULT_TIMEOUT, Auth, Timeout
from salesmachine_async.cli.runner import run

if TYPE_CHECKING:
    from salesmachine_async.access.objects import Record

Kind = Literal["contact", "account", "note", "activity", "task", "user"]

# Where the client has them.
RESOURCES = {
    "contact": "contacts",
    "account": "accounts",
    "note": "notes",
    "activity": "activities",
    "task": "tasks",
    "user": "users",
}
ITS_ID = "ID is the API's own, as `salesmachine list` shows it, not your uid"


def command(
    kind: Annotated[Kind, typer.Argument(metavar="WHAT", help=f"{', '.join(get_args(Kind))}.")],
    id: Annotated[  # noqa: A002 (the name of the API)
        str, typer.Argument(metavar="ID", help="The API's own id, as `salesmachine list` shows it; not your uid.")
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print it on one line, as it does in a pipe.")] = False,
    credentials: keys.CredentialsFile = None,
    auth: Auth = "basic",
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """
    Show one contact, account, note, activity, task or user.

    As JSON, exactly as the API gives it: indented on a terminal, one line in a pipe.

    \b
      salesmachine get contact 5f0c1a2b3c4d5e6f7a8b9c0d
      salesmachine get account 5f0c1a2b3c4d5e6f7a8b9c0d | jq .data.mrr

    Needs SALESMACHINE_ACCESS_TOKEN. Exits 0 when it is found, 2 used wrongly,
    4 refused by the server, or not found, 5 server not reached.
    """
    found = keys.load(credentials)
    found.need_access_token()
    record = run(_get(RESOURCES[kind], id, found, auth, timeout), found, hint=ITS_ID)
    from salesmachine_async.cli.read.printing import show  # noqa: PLC0415 - brings orjson

    show(record.raw, plain=as_json)


async def _get(
    resource: str,
    id: str,  # noqa: A002
    credentials: keys.ApiKeys,
    auth: Literal["basic", "bearer", "query"],
    timeout: float,
) -> "Record":
    from salesmachine_async.cli.read.client import open_client, within  # noqa: PLC0415 - brings aiohttp

    async with open_client(credentials, auth, timeout) as api:
        resources: Any = getattr(api, resource)
        record: Record = await within(timeout, resources.get(id))
        return record
