"""The user's hooks, called so that nothing they do can harm the delivery."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable
from typing import Any

from salesmachine_async._core.batch import Batch
from salesmachine_async._delivery.loop_thread import in_loop_thread
from salesmachine_async._log import RateLimitedLogger, describe_exception
from salesmachine_async.errors import DeliveryError
from salesmachine_async.report import Delivery, Loss, LossReason

__all__ = ["Hooks", "raised_by_callback"]


class Hooks:
    """
    Tells the user what became of messages.

    Args:
        on_delivered: Called with each delivered request.
        on_lost: Called with each loss.
        log: For the exceptions that they raise.
    """

    __slots__ = ("_log", "_on_delivered", "_on_lost")

    def __init__(
        self,
        on_delivered: Callable[[Delivery], None] | None,
        on_lost: Callable[[Loss], None] | None,
        log: RateLimitedLogger,
    ) -> None:
        self._on_delivered = on_delivered
        self._on_lost = on_lost
        self._log = log

    def delivered(self, batch: Batch, *, status: int | None, seconds: float) -> None:
        """Tell of a delivered batch."""
        if self._on_delivered is not None:
            delivery = Delivery(
                endpoint=batch.endpoint, status=status, attempts=batch.attempts, seconds=seconds, batches=(batch,)
            )
            self._guarded("on_delivered", self._on_delivered, delivery)

    def lost(self, reason: LossReason, error: DeliveryError | None, batches: list[Batch]) -> None:
        """Log a loss, and tell of it."""
        if not batches:
            return
        loss = Loss(reason=reason, error=error, batches=tuple(batches))
        because = f": {error}" if error is not None else ""
        line = "lost %d messages (%s)%s"
        self._log(f"lost-{reason.value}", logging.ERROR, line, loss.count, reason.value, because, loud=True)
        if self._on_lost is not None:
            self._guarded("on_lost", self._on_lost, loss)

    def _guarded(self, name: str, hook: Callable[[Any], None], told: object) -> None:
        try:
            hook(told)
        except BaseException as exc:
            if not raised_by_callback(exc):
                raise
            self._log(f"hook-{name}", logging.ERROR, "the %s hook raised %s", name, describe_exception(exc))


def raised_by_callback(exc: BaseException) -> bool:
    """
    Return whether an exception is the trouble of the code that was called, here, without an await.

    In the agent's own thread every one is, and would end nothing but the delivery. In another one that is no Exception
    may be meant for the caller: a signal handler's, of a test's timeout or of the end of the program.
    """
    return isinstance(exc, (Exception, CancelledError)) or in_loop_thread()
