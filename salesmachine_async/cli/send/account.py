"""``salesmachine account``: create or update an account."""

from typing import Annotated

import typer

from salesmachine_async.cli.credentials import CredentialsFile
from salesmachine_async.cli.send.delivery import Sending, send
from salesmachine_async.cli.send.options import (
    DEFAULT_TIMEOUT,
    AsJson,
    CreatedAt,
    Document,
    MessageId,
    Params,
    Timeout,
)


def command(
    uid: Annotated[str, typer.Argument(metavar="UID", help="The account's id in your application.")],
    params: Params = None,
    *,
    document: Document = None,
    created_at: CreatedAt = None,
    message_id: MessageId = None,
    credentials: CredentialsFile = None,
    timeout: Timeout = DEFAULT_TIMEOUT,
    as_json: AsJson = False,
) -> None:
    """
    Create or update an account, a group of contacts.

    Sets the params that are given, and leaves the others as they are.

    \b
      salesmachine account 78910 'name=Tesla Motors' employee_count:=12000 mrr:=999
      salesmachine account 78910 --params @account.json

    Needs SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET. Exits 0 when it is
    delivered, 2 used wrongly, 4 refused by the server, 5 server not reached.
    """
    send(
        "account",
        {"UID": uid},
        Sending(credentials=credentials, timeout=timeout, as_json=as_json),
        params=params,
        document=document,
        created_at=created_at,
        message_id=message_id,
    )
