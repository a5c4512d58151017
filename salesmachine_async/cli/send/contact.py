"""``salesmachine contact``: create or update a contact."""

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
    uid: Annotated[str, typer.Argument(metavar="UID", help="The person's id in your application.")],
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
    Create or update a contact.

    Sets the params that are given, and leaves the others as they are.

    \b
      salesmachine contact 123456 email=elon@teslamotors.com 'name=Elon Musk' mrr:=99
      salesmachine contact 123456 account_uid=78910       # links to an account
      salesmachine contact 123456 --params @contact.json --created-at 2026-11-05

    Needs SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET. Exits 0 when it is
    delivered, 2 used wrongly, 4 refused by the server, 5 server not reached.
    """
    send(
        "contact",
        {"UID": uid},
        Sending(credentials=credentials, timeout=timeout, as_json=as_json),
        params=params,
        document=document,
        created_at=created_at,
        message_id=message_id,
    )
