"""``salesmachine track``: record an event."""

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
    uid: Annotated[str, typer.Argument(metavar="UID", help="Who did it: the contact's id in your application.")],
    event: Annotated[str, typer.Argument(metavar="EVENT", help="What was done, such as user_registration.")],
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
    Record an event: something a contact did.

    \b
      salesmachine track 123456 user_registration account_uid=78910 display_name=Registration
      salesmachine track 123456 order_paid total:=49.9 'items:=["a", "b"]'
      jq .event order.json | salesmachine track 123456 order_paid --params -

    Needs SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET. Exits 0 when it is
    delivered, 2 used wrongly, 4 refused by the server, 5 server not reached.
    """
    send(
        "track",
        {"UID": uid, "EVENT": event},
        Sending(credentials=credentials, timeout=timeout, as_json=as_json),
        params=params,
        document=document,
        created_at=created_at,
        message_id=message_id,
    )
