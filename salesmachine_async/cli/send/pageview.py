"""``salesmachine pageview``: record that a page was seen."""

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
    uid: Annotated[str, typer.Argument(metavar="UID", help="Who saw it: the contact's id in your application.")],
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
    Record that a contact saw a page.

    \b
      salesmachine pageview 123456 visit_url=/home visit_ip=203.0.113.7

    Needs SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET. Exits 0 when it is
    delivered, 2 used wrongly, 4 refused by the server, 5 server not reached.
    """
    send(
        "pageview",
        {"UID": uid},
        Sending(credentials=credentials, timeout=timeout, as_json=as_json),
        params=params,
        document=document,
        created_at=created_at,
        message_id=message_id,
    )
