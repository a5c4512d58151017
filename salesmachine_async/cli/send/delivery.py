"""Send one message through the agent, and tell what became of it."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salesmachine_async.cli import credentials as keys
from salesmachine_async.cli.exit_codes import REFUSED, UNAVAILABLE, USAGE, status_of
from salesmachine_async.cli.json_input import DocumentError
from salesmachine_async.cli.runner import explained, run
from salesmachine_async.cli.send.params import ArgumentError, check_uid, read_moment, read_params
from salesmachine_async.cli.terminal import emit, fail, harmless

if TYPE_CHECKING:
    from salesmachine_async.agent import Agent
    from salesmachine_async.cli.credentials import ApiKeys
    from salesmachine_async.errors import DeliveryError
    from salesmachine_async.report import Delivery, Loss

_INTERRUPTED = "Interrupted before there was an answer: the message may have arrived or not."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """
    How a message is sent.

    Attributes:
        credentials: The file of the keys; None: the environment.
        timeout: Seconds.
        as_json: Whether the outcome is told as JSON.
    """

    credentials: Path | None
    timeout: float
    as_json: bool


@dataclasses.dataclass(slots=True)
class _Outcome:
    """What became of the message: one of *delivery* and *loss* is there at the end."""

    delivery: "Delivery | None" = None
    loss: "Loss | None" = None
    requests: int = 0
    seconds: float = 0.0

    @property
    def error(self) -> "DeliveryError | None":
        return None if self.loss is None else self.loss.error

    @property
    def message_id(self) -> str | None:
        told = self.delivery or self.loss
        return told.messages[0].get("messageId") if told is not None else None


def send(
    method: str,
    uids: dict[str, str],
    sending: Sending,
    *,
    params: Sequence[str] | None = None,
    document: str | None = None,
    created_at: str | None = None,
    message_id: str | None = None,
) -> None:
    """
    Send one message, tell its outcome, and exit with the status of it.

    Args:
        method: The agent's: contact, account, track, pageview or alias.
        uids: The agent's positional arguments, by the names a person reads.
        sending: How.
        params: As typed.
        document: The value of ``--params``.
        created_at: As typed.
        message_id: As typed.

    Raises:
        typer.Exit: Unless it was delivered.
    """
    if document == "-" and str(sending.credentials) == "-":
        fail("stdin cannot be both the params and the credentials", code=USAGE)
    try:
        arguments: list[Any] = [check_uid(name, value) for name, value in uids.items()]
        options: dict[str, Any] = {"message_id": message_id}
        if method != "alias":
            arguments.append(read_params(params or (), document))
            options["created_at"] = None if created_at is None else read_moment(created_at)
    except (ArgumentError, DocumentError) as error:
        fail(str(error), code=USAGE)
    credentials = keys.load(sending.credentials)
    credentials.need_token()

    def call(agent: "Agent") -> bool:
        return bool(getattr(agent, method)(*arguments, **options))

    outcome = run(_deliver(call, credentials, sending.timeout), credentials, interrupted=_INTERRUPTED)
    name = " ".join([method, *uids.values()])
    _tell(outcome, method, name, credentials, sending)


async def _deliver(call: Callable[["Agent"], bool], credentials: "ApiKeys", timeout: float) -> _Outcome:
    import asyncio  # noqa: PLC0415 - see the package docstring: --help stays quick

    from salesmachine_async.agent import Agent  # noqa: PLC0415
    from salesmachine_async.policy import Batching, Retry, Timeouts  # noqa: PLC0415

    outcome = _Outcome()

    def delivered(delivery: "Delivery") -> None:
        outcome.delivery = delivery

    def lost(loss: "Loss") -> None:
        outcome.loss = loss

    agent = Agent(
        credentials.token,
        credentials.secret,
        base_url=credentials.base_url,
        batching=Batching(linger=0.0),
        retry=Retry(wait_max=2.0),  # somebody waits, and there is one message only
        # The deadline ends the last request. Left by an exception, by Ctrl-C above all, it ends at once.
        timeouts=Timeouts(connect=min(5.0, timeout), request=min(15.0, timeout + 1), close=0.0),
        on_delivered=delivered,
        on_lost=lost,
    )
    begun = time.monotonic()
    async with agent:
        call(agent)
        # Not flush(): closing also sees that a pause asked for by the server outlasts the deadline, and does not wait.
        # In a task, as it goes on when it is cancelled: after Ctrl-C the end of the block brings its end forward.
        await asyncio.shield(asyncio.create_task(agent.aclose(timeout)))
        outcome.requests = agent.stats().requests
    outcome.seconds = time.monotonic() - begun
    return outcome


def _tell(outcome: _Outcome, method: str, name: str, credentials: "ApiKeys", sending: Sending) -> None:
    delivery, loss = outcome.delivery, outcome.loss
    if sending.as_json:
        emit(json.dumps(_as_json(outcome, method, credentials)))
    if delivery is not None:
        if not sending.as_json:
            tries = f", {outcome.requests} requests" if outcome.requests > 1 else ""
            emit(f"Delivered: {harmless(name)} (HTTP {delivery.status}{tries}, {outcome.seconds * 1000:.0f} ms)")
        return
    assert loss is not None  # one message has one outcome
    problem = f"no answer within {sending.timeout:g} s"
    if loss.error is not None:
        problem = explained(loss.error, credentials)
        if outcome.requests > 1:
            problem += f" (the last of {outcome.requests} requests in {outcome.seconds:.1f} s)"
    code = _status(loss)
    if code == UNAVAILABLE and outcome.message_id is not None:
        problem += f". To send the same message again: --message-id {outcome.message_id}"
    fail(f"not delivered: {name}: {problem}", code=code)


def _status(loss: "Loss") -> int:
    from salesmachine_async.report import LossReason  # noqa: PLC0415

    if loss.reason in (LossReason.REJECTED, LossReason.TOO_LARGE):
        return REFUSED
    return UNAVAILABLE if loss.error is None else status_of(loss.error)


def _as_json(outcome: _Outcome, method: str, credentials: "ApiKeys") -> dict[str, Any]:
    error, loss = outcome.error, outcome.loss
    return {
        "ok": loss is None,
        "method": method,
        "message_id": outcome.message_id,
        "status": outcome.delivery.status if outcome.delivery is not None else error and error.status,
        "requests": outcome.requests,
        "seconds": round(outcome.seconds, 3),
        "lost": None if loss is None else loss.reason.value,
        "error": error and explained(error, credentials),
    }
