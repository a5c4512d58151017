"""Verdicts of a plan on the messages received, by workspace."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salesmachine_async.sandbox.messages import ParsedMessage
    from salesmachine_async.sandbox.plan.schema import PlanProblem, TrackingPlan
    from salesmachine_async.sandbox.views import PlanSummary

BadMessage = tuple[str, "ParsedMessage", "tuple[PlanProblem, ...]"]


class PlanResults:
    """
    Judges each message as it is applied.

    Args:
        plan: The plan; None judges nothing.
        bound: Number of bad messages that are kept with their problems.
    """

    def __init__(self, plan: TrackingPlan | None, bound: int) -> None:
        self.plan = plan
        self._bound = bound
        self._counts: Counter[tuple[str, bool]] = Counter()
        self._bad: dict[int, BadMessage] = {}

    def add(self, workspace: str, number: int, message: ParsedMessage) -> None:
        """Judge the message with this *number* in the log of messages."""
        if self.plan is None:
            return
        problems = self.plan.judge(message.kind, message.name, message.params, len(message.text))
        self._counts[workspace, not problems] += 1
        if problems:
            self._bad[number] = (workspace, message, problems)
            if len(self._bad) > self._bound:
                del self._bad[next(iter(self._bad))]

    def problems(self, number: int) -> list[dict[str, str]]:
        """List the problems of the message with this *number* in the log of messages."""
        found = self._bad.get(number)
        return [] if found is None else [problem._asdict() for problem in found[2]]

    def summary(self, workspace: str | None) -> PlanSummary | None:
        """Count the good and bad messages of one workspace, or of all; None without a plan."""
        if self.plan is None:
            return None
        counts: Counter[bool] = Counter()
        for (owner, good), count in list(self._counts.items()):
            if workspace in {None, owner}:
                counts[good] += count
        return {"good": counts[True], "bad": counts[False]}

    def bad(self, workspace: str | None) -> list[dict[str, Any]]:
        """List the bad messages that are kept, oldest first."""
        return [
            {
                "number": number,
                "workspace": owner,
                "method": message.kind,
                "event_uid": message.name if message.kind == "event" else None,
                "contact_uid": message.contact_uid or None,
                "account_uid": message.account_uid or None,
                "message_id": message.message_id,
                "problems": [problem._asdict() for problem in problems],
            }
            for number, (owner, message, problems) in list(self._bad.items())
            if workspace in {None, owner}
        ]

    def forget(self, workspace: str) -> None:
        """Delete the results of a workspace."""
        for good in (True, False):
            self._counts.pop((workspace, good), None)
        for number in [number for number, entry in self._bad.items() if entry[0] == workspace]:
            del self._bad[number]
