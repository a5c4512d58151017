"""A receipt answers once, when all of its batch has an outcome."""

from __future__ import annotations

from collections.abc import Sequence

from salesmachine_async._core.receipt import Receipt, RejectedLine
from salesmachine_async.errors import Rejected


def test_it_answers_once_with_what_was_rejected() -> None:
    """The receipt answers once, however the batch was split."""
    answers: list[Sequence[RejectedLine]] = []
    receipt = Receipt(5, answers.append)
    guilty = RejectedLine(b"{}", Rejected("400", status=400))
    receipt.settle(2)
    receipt.settle(1, [guilty])
    assert answers == []
    assert receipt.pending == 2
    receipt.settle(2)
    assert answers == [[guilty]]
