"""A transport that carries nothing."""

from __future__ import annotations

from salesmachine_async._core.batch import Batch
from salesmachine_async._core.response import Outcome, Verdict

__all__ = ["NullTransport"]


class NullTransport:
    """Discards every batch and reports it as delivered: for agents that are disabled, and for tests."""

    async def send(self, batch: Batch) -> Outcome:  # noqa: ARG002 (the protocol)
        """Return success."""
        return Outcome(verdict=Verdict.DELIVERED, status=200)

    async def aclose(self) -> None:
        """Do nothing, because there is nothing to give back."""
