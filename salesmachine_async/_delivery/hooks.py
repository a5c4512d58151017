"""The user's hooks, called so that nothing they do can harm the delivery."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable
from threading import get_ident
from typing import Any

import orjson

from salesmachine_async._core.batch import Batch
from salesmachine_async._core.jsonable import raise_invalid
from salesmachine_async._core.message import encode, revise
from salesmachine_async._delivery.loop_thread import in_loop_thread
from salesmachine_async._log import RateLimitedLogger, describe_exception
from salesmachine_async.errors import DeliveryError, InvalidMessage
from salesmachine_async.report import Delivery, Loss, LossReason

__all__ = ["Hooks", "raised_by_callback"]


class Hooks:
    """
    Calls the user's hooks, guarded.

    Args:
        on_delivered: Called with each delivered request.
        on_lost: Called with each loss.
        before_send: Called with each message before it is queued; see `filtered`.
        log: For the exceptions that they raise.
    """

    __slots__ = ("_before_send", "_filtering", "_log", "_on_delivered", "_on_lost")

    def __init__(
        self,
        on_delivered: Callable[[Delivery], None] | None,
        on_lost: Callable[[Loss], None] | None,
        before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None,
        log: RateLimitedLogger,
    ) -> None:
        self._on_delivered = on_delivered
        self._on_lost = on_lost
        self._before_send = before_send
        self._log = log
        # Threads in which `before_send` runs: a message that the hook itself tracks would call it again, without end.
        self._filtering: set[int] = set()

    def delivered(self, batch: Batch, *, status: int | None, seconds: float) -> None:
        """Report a delivered batch."""
        if self._on_delivered is not None:
            delivery = Delivery(
                endpoint=batch.endpoint, status=status, attempts=batch.attempts, seconds=seconds, batches=(batch,)
            )
            self._guarded("on_delivered", self._on_delivered, delivery)

    def lost(self, reason: LossReason, error: DeliveryError | None, batches: list[Batch]) -> None:
        """Log a loss, and report it."""
        if not batches:
            return
        loss = Loss(reason=reason, error=error, batches=tuple(batches))
        self._log_loss(loss, "" if error is None else f": {error}")
        if self._on_lost is not None:
            self._guarded("on_lost", self._on_lost, loss)

    def _log_loss(self, loss: Loss, because: str) -> None:
        line = "lost %d messages (%s)%s"
        reason = loss.reason.value
        self._log(f"lost-{reason}", logging.ERROR, line, loss.count, reason, because, loud=True)

    def filtered(self, message: dict[str, Any], encoded: bytes) -> tuple[dict[str, Any], bytes] | None:
        """
        Let ``before_send`` see, change or drop a message.

        Args:
            message: The composed message.
            encoded: The same, encoded. The hook receives what this decodes to, so that the caller's objects stay as
                they are.

        Returns:
            The message to queue and its line; None to drop it, also if the hook fails or returns what cannot be sent.
        """
        if self._before_send is None:
            return message, encoded
        thread = get_ident()
        if thread in self._filtering:
            self._log("before_send", logging.ERROR, "before_send tracked a message itself, which was dropped")
            return None
        self._filtering.add(thread)
        try:
            changed = self._before_send(orjson.loads(encoded))
        except (Exception, CancelledError) as exc:  # noqa: BLE001 (nothing is awaited here, so it is the hook's own)
            self._log(
                "before_send", logging.ERROR, "before_send raised %s; the message was dropped", describe_exception(exc)
            )
            return None
        finally:
            self._filtering.discard(thread)
        if changed is None:
            return None
        try:
            revised = revise(message, changed)
            return revised, encode(revised, raise_invalid)
        except InvalidMessage as exc:
            self._log("before_send", logging.ERROR, "before_send returned a message that cannot be sent: %s", exc)
            return None

    def _guarded(self, name: str, hook: Callable[[Any], None], argument: object) -> None:
        try:
            hook(argument)
        except BaseException as exc:
            if not raised_by_callback(exc):
                raise
            self._log(f"hook-{name}", logging.ERROR, "the %s hook raised %s", name, describe_exception(exc))


def raised_by_callback(exc: BaseException) -> bool:
    """
    Return whether an exception belongs to the callback that raised it, which was called here without an await.

    In the agent's own thread every exception does. In another thread, one that is no `Exception` may be meant for the
    caller: it can come from a signal handler, of a test's time limit or of the end of the program.
    """
    return isinstance(exc, (Exception, CancelledError)) or in_loop_thread()
