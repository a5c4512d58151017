"""``salesmachine alias``: merge two contacts."""

from typing import Annotated

import typer

from salesmachine_async.cli.credentials import CredentialsFile
from salesmachine_async.cli.send.delivery import Sending, send
from salesmachine_async.cli.send.options import DEFAULT_TIMEOUT, AsJson, MessageId, Timeout


def command(
    uid: Annotated[str, typer.Argument(metavar="UID", help="The id of the one contact.")],
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="The id of the other.")],
    *,
    message_id: MessageId = None,
    credentials: CredentialsFile = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """
    Merge two contacts: from now on both ids mean the same one.

    It cannot be undone here.

    \b
      salesmachine alias 123456 visitor-789     # the visitor has logged in

    Needs SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET. Exits 0 when it is
    delivered, 2 used wrongly, 4 refused by the server, 5 server not reached.
    """
    send(
        "alias",
        {"UID": uid, "ALIAS": alias},
        Sending(credentials=credentials, timeout=timeout, as_json=as_json),
        message_id=message_id,
    )
