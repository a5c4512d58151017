"""``salesmachine delete``: delete one contact, account or note."""

import sys
from typing import TYPE_CHECKING, Any

import click

from salesmachine_async.cli.exit_codes import FAILED, USAGE
from salesmachine_async.cli.options import ServerOptions, auth_option, server_options, timeout_option
from salesmachine_async.cli.read.get import ID_HINT, RESOURCES
from salesmachine_async.cli.runner import run
from salesmachine_async.cli.terminal import fail, harmless, note

if TYPE_CHECKING:
    from salesmachine_async.cli.credentials import ApiKeys


@click.command("delete")
@click.argument("kind", metavar="WHAT", type=click.Choice(["contact", "account", "note"]))
@click.argument("id_", metavar="ID")
@click.option("--yes", "-y", is_flag=True, help="Delete without confirmation; required if there is no terminal.")
@server_options
@auth_option
@timeout_option
def command(kind: str, id_: str, *, yes: bool, server: ServerOptions, auth: str, timeout: float) -> None:
    """
    Delete one contact, account or note.

    Confirms on a terminal; elsewhere it needs --yes. ID is the id of the API, which
    `salesmachine list` shows, not your uid.

    \b
      salesmachine delete contact 5f0c1a2b3c4d5e6f7a8b9c0d
      salesmachine delete note 5f0c1a2b3c4d5e6f7a8b9c0d --yes

    Needs SALESMACHINE_ACCESS_TOKEN. Exit status: 0 deleted, 1 not confirmed, 2 usage
    error, 4 rejected by the server or not found, 5 server not reached.
    """
    keys = server.keys()
    keys.need_access_token()
    if not yes:
        _confirm(f"Delete {kind} {harmless(id_)} of {harmless(keys.base_url or 'Salesmachine')}?")
    run(_delete(RESOURCES[kind], id_, keys, server.transport(), auth, timeout=timeout), hint=ID_HINT)
    note(f"Deleted: {kind} {id_}")


def _confirm(question: str) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        fail("not a terminal: pass --yes to delete without confirmation", code=USAGE)
    # On stderr, because stdout is for data.
    if not click.confirm(question, err=True):
        fail("nothing was deleted", code=FAILED)


async def _delete(
    resource: str, id_: str, keys: "ApiKeys", transport: dict[str, Any], auth: str, *, timeout: float
) -> None:
    from salesmachine_async.cli.read.client import open_client, within  # noqa: PLC0415 - imports aiohttp

    async with open_client(keys, transport, auth, timeout) as api:
        resources: Any = getattr(api, resource)
        await within(timeout, resources.delete(id_))
