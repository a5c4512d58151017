"""A transport without a network: for agents whose messages are not sent."""

from __future__ import annotations

from salesmachine_async._core.batch import Batch
from salesmachine_async._core.response import Outcome, Verdict

__all__ = ["NullTransport"]


class NullTransport:
    """
    Gives every request the same outcome.

    Args:
        outcome: Default: delivered.
    """

    def __init__(self, outcome: Outcome | None = None) -> None:
        self._outcome = outcome or Outcome(verdict=Verdict.DELIVERED, status=200)

    async def send(self, batch: Batch) -> Outcome:  # noqa: ARG002 (the protocol)
        """Return the outcome."""
        return self._outcome

    async def aclose(self) -> None:
        """Do nothing."""
