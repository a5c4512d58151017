"""``salesmachine contact``, ``account``, ``track``, ``pageview`` and ``alias``: send one message with the agent."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from salesmachine_async.cli.exit_codes import REFUSED, UNAVAILABLE, USAGE, status_of
from salesmachine_async.cli.json_input import DocumentError
from salesmachine_async.cli.options import ServerOptions, json_option, server_options, timeout_option
from salesmachine_async.cli.params import ArgumentError, check_uid, read_moment, read_params
from salesmachine_async.cli.runner import explained, run
from salesmachine_async.cli.terminal import emit, fail, harmless

if TYPE_CHECKING:
    from salesmachine_async.agent import Agent
    from salesmachine_async.cli.credentials import ApiKeys
    from salesmachine_async.errors import DeliveryError
    from salesmachine_async.report import Delivery, Loss

_Function = TypeVar("_Function", bound=Callable[..., Any])

_INTERRUPTED = "Interrupted before an answer arrived: the message may have been delivered or not."
_EPILOG = """\
Needs SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET. Exit status: 0 delivered, 2 usage error,
4 rejected by the server, 5 server not reached.
"""

_message_id = click.option(
    "--message-id", metavar="ID", help="The id of the message, to send the same one again; default: a new id."
)
_uid = click.argument("uid", metavar="UID")


def _message_options(command: _Function) -> _Function:
    """Add the arguments and options of all messages except an alias."""
    for option in (
        click.option("--created-at", metavar="TIME", help="When it happened, in ISO 8601; default: now."),
        click.option(
            "--params",
            "document",
            metavar="JSON|@FILE|-",
            help="A JSON object of params, or a file or stdin with it; NAME=… takes precedence.",
        ),
        click.argument("params", nargs=-1, metavar="[NAME=TEXT]..."),
    ):
        command = option(command)
    return command


def _delivery_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of all messages."""
    return _message_id(server_options(timeout_option(json_option(command))))


@click.command("contact", epilog=_EPILOG)
@_uid
@_message_options
@_delivery_options
def contact(uid: str, **options: Any) -> None:
    """
    Create or update a contact.

    UID is the id of the person in your application. NAME=TEXT sets a param to a
    text, NAME:=JSON to a number, true, a list…; other params keep their values.

    \b
      salesmachine contact 123456 email=elon@teslamotors.com 'name=Elon Musk' mrr:=99
      salesmachine contact 123456 account_uid=78910       # links to an account
      salesmachine contact 123456 --params @contact.json --created-at 2026-11-05
    """
    _send("contact", {"UID": uid}, **options)


@click.command("account", epilog=_EPILOG)
@_uid
@_message_options
@_delivery_options
def account(uid: str, **options: Any) -> None:
    """
    Create or update an account, a group of contacts.

    UID is the id of the account in your application. NAME=TEXT sets a param to a
    text, NAME:=JSON to a number, true, a list…; other params keep their values.

    \b
      salesmachine account 78910 'name=Tesla Motors' employee_count:=12000 mrr:=999
      salesmachine account 78910 --params @account.json
    """
    _send("account", {"UID": uid}, **options)


@click.command("track", epilog=_EPILOG)
@_uid
@click.argument("event", metavar="EVENT")
@_message_options
@_delivery_options
def track(uid: str, event: str, **options: Any) -> None:
    """
    Record an event: an action of a contact.

    UID is the id of the contact in your application, EVENT the name of the event.
    NAME=TEXT is a param with a text, NAME:=JSON one with a number, true, a list…

    \b
      salesmachine track 123456 user_registration account_uid=78910 display_name=Registration
      salesmachine track 123456 order_paid total:=49.9 'items:=["a", "b"]'
      jq .event order.json | salesmachine track 123456 order_paid --params -
    """
    _send("track", {"UID": uid, "EVENT": event}, **options)


@click.command("pageview", epilog=_EPILOG)
@_uid
@_message_options
@_delivery_options
def pageview(uid: str, **options: Any) -> None:
    """
    Record that a contact viewed a page.

    UID is the id of the contact in your application.

    \b
      salesmachine pageview 123456 visit_url=/home visit_ip=203.0.113.7
    """
    _send("pageview", {"UID": uid}, **options)


@click.command("alias", epilog=_EPILOG)
@_uid
@click.argument("alias", metavar="ALIAS")
@_delivery_options
def alias(uid: str, alias: str, **options: Any) -> None:
    """
    Merge two contacts: from now on both ids mean the same one.

    UID and ALIAS are their ids. A merge cannot be undone.

    \b
      salesmachine alias 123456 visitor-789     # the visitor has logged in
    """
    _send("alias", {"UID": uid, "ALIAS": alias}, **options)


@dataclasses.dataclass(slots=True)
class _MessageOutcome:
    """The outcome of the message; in the end either *delivery* or *loss* is set."""

    delivery: "Delivery | None" = None
    loss: "Loss | None" = None
    requests: int = 0
    seconds: float = 0.0

    @property
    def error(self) -> "DeliveryError | None":
        return None if self.loss is None else self.loss.error

    @property
    def message_id(self) -> str | None:
        outcome = self.delivery or self.loss
        return outcome.messages[0].get("messageId") if outcome is not None else None

    def as_json(self, method: str) -> dict[str, Any]:
        error, loss = self.error, self.loss
        return {
            "ok": loss is None,
            "method": method,
            "message_id": self.message_id,
            "status": self.delivery.status if self.delivery is not None else error and error.status,
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
            "lost": None if loss is None else loss.reason.value,
            "error": error and explained(error),
        }


def _send(
    method: str,
    uids: dict[str, str],
    *,
    server: ServerOptions,
    timeout: float,
    as_json: bool,
    message_id: str | None,
    params: Sequence[str] = (),
    document: str | None = None,
    created_at: str | None = None,
) -> None:
    """
    Send one message, print its outcome, and exit with its status.

    Args:
        method: The method of the agent.
        uids: The positional arguments, by the names used in help.
        server: The options of the server.
        timeout: Seconds.
        as_json: Whether to print the outcome as JSON.
        message_id: The value of ``--message-id``.
        params: The assignments.
        document: The value of ``--params``.
        created_at: The value of ``--created-at``.

    Raises:
        click.exceptions.Exit: Unless the message was delivered.
    """
    if document == "-" and server.from_stdin:
        fail("stdin cannot be both the params and the credentials", code=USAGE)
    try:
        arguments: list[Any] = [check_uid(name, value) for name, value in uids.items()]
        options: dict[str, Any] = {"message_id": message_id}
        if method != "alias":
            arguments.append(read_params(params, document))
            options["created_at"] = None if created_at is None else read_moment(created_at)
    except (ArgumentError, DocumentError) as error:
        fail(str(error), code=USAGE)
    keys = server.keys()
    keys.need_token()

    def call(agent: "Agent") -> bool:
        return bool(getattr(agent, method)(*arguments, **options))

    outcome = run(_deliver(call, keys, server.transport(), timeout), interrupted=_INTERRUPTED)
    if as_json:
        emit(json.dumps(outcome.as_json(method)))
    name = " ".join([method, *uids.values()])
    if outcome.loss is not None:
        _fail(outcome, outcome.loss, name, timeout)
    if not as_json and outcome.delivery is not None:
        tries = f", {outcome.requests} requests" if outcome.requests > 1 else ""
        emit(f"Delivered: {harmless(name)} (HTTP {outcome.delivery.status}{tries}, {outcome.seconds * 1000:.0f} ms)")


async def _deliver(
    call: Callable[["Agent"], bool], keys: "ApiKeys", transport: dict[str, Any], timeout: float
) -> _MessageOutcome:
    import asyncio  # noqa: PLC0415 - imported late, see the package docstring

    from salesmachine_async import Agent, Batching, HttpTransport, Retry, Timeouts  # noqa: PLC0415

    outcome = _MessageOutcome()

    def delivered(delivery: "Delivery") -> None:
        outcome.delivery = delivery

    def lost(loss: "Loss") -> None:
        outcome.loss = loss

    # The deadline ends the last request. After an exception, such as Ctrl-C, the agent closes at once.
    timeouts = Timeouts(connect=min(5.0, timeout), request=min(15.0, timeout + 1), close=0.0)
    agent = Agent(
        enabled=True,
        spool="",  # the exit status says what became of it
        batching=Batching(linger=0.0),
        retry=Retry(wait_max=2.0),  # short, because an interactive user waits for one message
        timeouts=timeouts,
        on_delivered=delivered,
        on_lost=lost,
        transport=HttpTransport(keys.token, keys.secret, base_url=keys.base_url, timeouts=timeouts, **transport),
    )
    begun = time.monotonic()
    async with agent:
        call(agent)
        # Unlike flush(), aclose() does not wait for a pause that outlasts the deadline. The task is shielded because
        # aclose() completes when it is cancelled; after Ctrl-C the end of the block closes the agent at once.
        await asyncio.shield(asyncio.create_task(agent.aclose(timeout)))
        outcome.requests = agent.stats().requests
    outcome.seconds = time.monotonic() - begun
    return outcome


def _fail(outcome: _MessageOutcome, loss: "Loss", name: str, timeout: float) -> None:
    from salesmachine_async.report import LossReason  # noqa: PLC0415

    problem = f"no answer within {timeout:g} s"
    code = UNAVAILABLE
    if loss.error is not None:
        problem, code = explained(loss.error), status_of(loss.error)
        if outcome.requests > 1:
            problem += f" (the last of {outcome.requests} requests in {outcome.seconds:.1f} s)"
    if loss.reason in (LossReason.REJECTED, LossReason.TOO_LARGE):
        code = REFUSED
    if code == UNAVAILABLE and outcome.message_id is not None:
        problem += f". To send the same message again: --message-id {outcome.message_id}"
    fail(f"{name} was not delivered: {problem}", code=code)
