"""``salesmachine delete``: one contact, account or note."""

import sys
from typing import Annotated, Any, Literal, get_args

import typer

from salesmachine_async.cli import credentials as keys
from salesmachine_async.cli.exit_codes import FAILED, USAGE
from salesmachine_async.cli.read.get import ITS_ID, RESOURCES
from salesmachine_async.cli.read.options import DEFAULT_TIMEOUT, Auth, Timeout
from salesmachine_async.cli.runner import run
from salesmachine_async.cli.terminal import fail, harmless, note

Kind = Literal["contact", "account", "note"]


def command(
    kind: Annotated[Kind, typer.Argument(metavar="WHAT", help=f"{', '.join(get_args(Kind))}.")],
    id: Annotated[  # noqa: A002 (the name of the API)
        str, typer.Argument(metavar="ID", help="The API's own id, as `salesmachine list` shows it; not your uid.")
    ],
    *,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask. Needed in scripts, where nobody can answer.")
    ] = False,
    credentials: keys.CredentialsFile = None,
    auth: Auth = "basic",
    timeout: Timeout = DEFAULT_TIMEOUT,
) -> None:
    """
    Delete one contact, account or note.

    Asks first on a terminal; elsewhere it needs --yes.

    \b
      salesmachine delete contact 5f0c1a2b3c4d5e6f7a8b9c0d
      salesmachine delete note 5f0c1a2b3c4d5e6f7a8b9c0d --yes

    Needs SALESMACHINE_ACCESS_TOKEN. Exits 0 when it is deleted, 1 when the answer
    was no, 2 used wrongly, 4 refused by the server, or not found, 5 server not
    reached.
    """
    found = keys.load(credentials)
    found.need_access_token()
    if not yes:
        _ask(f"Delete {kind} {harmless(id)} of {harmless(found.base_url or 'Salesmachine')}?")
    run(_delete(RESOURCES[kind], id, found, auth, timeout), found, hint=ITS_ID)
    note(f"Deleted: {kind} {id}")


def _ask(question: str) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        fail("nobody can be asked here: pass --yes to delete it", code=USAGE)
    # On stderr: stdout is for data, even where there is none.
    if not typer.confirm(question, err=True):
        fail("nothing was deleted", code=FAILED)


async def _delete(
    resource: str,
    id: str,  # noqa: A002
    credentials: keys.ApiKeys,
    auth: Literal["basic", "bearer", "query"],
    timeout: float,
) -> None:
    from salesmachine_async.cli.read.client import open_client, within  # noqa: PLC0415 - brings aiohttp

    async with open_client(credentials, auth, timeout) as api:
        resources: Any = getattr(api, resource)
        await within(timeout, resources.delete(id))
