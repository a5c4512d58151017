"""The ledger settles rows in order, whatever the order of the answers, and the checkpoint records that."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salesmachine_async import Batch, Batching, QueueLimits
from salesmachine_async._core.accumulator import Accumulator
from salesmachine_async._core.partition import partition_of
from salesmachine_async.cli.importing import checkpoint
from salesmachine_async.cli.importing.checkpoint import Checkpoint
from salesmachine_async.cli.importing.ledger import Disagreement, Ledger, Settled
from salesmachine_async.cli.importing.rejects import RejectsFile
from salesmachine_async.cli.importing.rows import InputRow
from salesmachine_async.cli.importing.source import InputProblem


def row(number: int) -> InputRow:
    return InputRow(number, number * 10, b"x" * 9, number.to_bytes(12, "big"))


def batch(*ids: str, partition: int = 0) -> Batch:
    return Batch.of_lines([orjson.dumps({"messageId": each}) for each in ids], partition=partition)


class Driver:
    """A ledger, and partitions as the agent has them."""

    def __init__(self, concurrency: int = 1) -> None:
        self.rejected: list[tuple[int, str]] = []
        self.ledger = Ledger(concurrency, lambda row, reason: self.rejected.append((row.line, reason)))
        self.concurrency: list[deque[tuple[int, str]]] = [deque() for _ in range(concurrency)]
        self.number = 0
        self.answers: dict[int, bool] = {}

    def read(self, kinds: list[int | None]) -> None:
        """Open a block with a contact for each row, or None for a row that is not a message."""
        block = self.ledger.open([row(self.number + index + 1) for index in range(len(kinds))])
        for index, contact in enumerate(kinds):
            self.number += 1
            if contact is None:
                self.ledger.reject(block, index, "bad")
                self.answers[self.number] = False
            else:
                self.ledger.note_sent(block, index, str(contact), f"id-{self.number}")
                self.concurrency[partition_of(str(contact), len(self.concurrency))].append(
                    (self.number, f"id-{self.number}")
                )

    def answer(self, partition: int, count: int, *, refused: bool = False) -> None:
        taken = [self.concurrency[partition].popleft() for _ in range(min(count, len(self.concurrency[partition])))]
        if taken:
            self.ledger.answer(batch(*(each for _, each in taken), partition=partition), "refused" if refused else None)
            self.answers.update(dict.fromkeys((number for number, _ in taken), not refused))

    def check(self) -> None:
        """Settle, and compare with a list."""
        ledger = self.ledger
        ledger.settle()
        upto = 0
        while upto + 1 in self.answers:
            upto += 1
        said = [self.answers[number] for number in range(1, upto + 1)]
        assert (ledger.settled.line, ledger.settled.end) == (upto, upto * 10)
        assert (ledger.settled.delivered, ledger.settled.rejected) == (sum(said), upto - sum(said))
        assert [line for line, _ in self.rejected] == [number for number in range(1, upto + 1) if not said[number - 1]]
        assert (ledger.held, ledger.held_bytes) == (self.number - upto, 9 * (self.number - upto))
        assert ledger.answered == len(self.answers)
        assert ledger.rejected == sum(not each for each in self.answers.values())
        assert ledger.pending == sum(map(len, self.concurrency))
        fresh = Ledger(1, lambda row, reason: None)
        if upto:
            fresh.skip([row(number) for number in range(1, upto + 1)])
        assert fresh.resume(ledger.snapshot())


steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.lists(st.one_of(st.none(), st.integers(0, 9)), min_size=1, max_size=8)),
        st.tuples(st.just("answer"), st.tuples(st.integers(0, 3), st.integers(1, 9), st.booleans())),
    ),
    max_size=40,
)


@pytest.mark.slow
@given(steps, st.integers(1, 4))
@settings(max_examples=150)
def test_any_order_of_answers(moves: list[tuple[str, object]], concurrency: int) -> None:
    """All rows up to the first one without an answer are settled, counted, and rejected in order."""
    driver = Driver(concurrency)
    for what, how in moves:
        if what == "read":
            assert isinstance(how, list)
            driver.read(how)
        else:
            assert isinstance(how, tuple)
            partition, count, refused = how
            driver.answer(partition % concurrency, 1 if refused else count, refused=refused)
        driver.check()


def test_the_partition_of_a_row_is_that_of_the_agent() -> None:
    """The ledger and the agent choose the same partition."""
    rng = random.Random(1)
    for concurrency in (1, 2, 7, 256):
        accumulator = Accumulator(Batching(), QueueLimits(), concurrency)
        for _ in range(200):
            uid = str(rng.getrandbits(64))
            ledger = Ledger(concurrency, lambda row, reason: None)
            ledger.note_sent(ledger.open([row(1)]), 0, uid, "m")
            ledger.answer(batch("m", partition=accumulator.partition_for(uid).index))
            assert ledger.pending == 0


@pytest.mark.parametrize("reasons", [(None, None), ("no", None), (None, "no"), ("no", "no")])
def test_a_row_with_two_messages(reasons: tuple[str | None, str | None]) -> None:
    """A row with two messages is settled after both answers, and rejected if one of them is."""
    rejected: list[str] = []
    ledger = Ledger(1, lambda row, reason: rejected.append(reason))
    block = ledger.open([row(1), row(2)])
    ledger.expect(block, 0, 2)
    for message_id in ("a", "b"):
        ledger.note_sent(block, 0, "7", message_id)
    ledger.note_sent(block, 1, "7", "c")
    ledger.answer(batch("a"), reasons[0])
    ledger.settle()
    assert (ledger.answered, ledger.pending, ledger.settled.line) == (0, 2, 0)
    ledger.answer(batch("b"), reasons[1])
    ledger.answer(batch("c"))
    ledger.settle()
    good = 2 if reasons == (None, None) else 1
    assert (ledger.answered, ledger.rejected, ledger.pending) == (2, 2 - good, 0)
    assert (ledger.settled.delivered, ledger.settled.rejected) == (good, 2 - good)
    assert rejected == ["no"] * (2 - good)


@pytest.mark.parametrize("answered_before", [True, False])
def test_a_row_whose_second_message_cannot_be_sent(answered_before: bool) -> None:
    """The row is rejected once, whether or not its first message has an answer by then."""
    rejected: list[str] = []
    ledger = Ledger(1, lambda row, reason: rejected.append(reason))
    block = ledger.open([row(1)])
    ledger.expect(block, 0, 2)
    ledger.note_sent(block, 0, "7", "a")
    if answered_before:
        ledger.answer(batch("a"))
    ledger.reject(block, 0, "bad", unsent=1)
    if not answered_before:
        ledger.settle()
        assert ledger.settled.line == 0
        ledger.answer(batch("a"))
    ledger.settle()
    assert (ledger.answered, ledger.rejected, ledger.settled.rejected, rejected) == (1, 1, 1, ["bad"])


def test_answers_for_other_rows_are_noticed() -> None:
    """An answer for another row raises Disagreement."""
    driver = Driver()
    driver.read([1, 2, 3])
    with pytest.raises(Disagreement, match="another row"):
        driver.ledger.answer(batch("id-2"))
    driver = Driver()
    driver.read([1])
    with pytest.raises(Disagreement, match="more rows"):
        driver.ledger.answer(batch("id-1", "id-2"))


def test_a_changed_beginning_is_noticed() -> None:
    """Another row, or one more or less, is found when rows are skipped."""
    before = Driver()
    before.read([1, 1, 1])
    before.answer(0, 3)
    before.check()
    settled = before.ledger.snapshot()
    for numbers in ([1, 2], [1, 2, 4], [1, 3, 2], [1, 2, 3, 4]):
        ledger = Ledger(1, lambda row, reason: None)
        ledger.skip([row(number) for number in numbers])
        assert not ledger.resume(settled)
    assert not Ledger(1, lambda row, reason: None).resume(settled)


SETTLED = Settled(end=70, line=7, delivered=5, rejected=2, chain="c0ffee")


def test_a_checkpoint_is_read_as_it_was_written(tmp_path: Path) -> None:
    """A checkpoint is replaced as a whole, and no other file is left."""
    path = checkpoint.beside(tmp_path / "people.csv.gz")
    assert path.name == "people.csv.gz.smckpt"
    assert checkpoint.load(path) is None
    for rows in (5, 6):
        kept = Checkpoint(
            settled=Settled(end=70, line=7, delivered=rows, rejected=2, chain="c0ffee"),
            options="o",
            url="u",
            rejects="r",
            rejects_bytes=9,
        )
        checkpoint.save(path, kept)
        assert checkpoint.load(path) == kept
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a checkpoint"),
        ("[]", "is not a checkpoint"),
        ('{"version": 1}', "is not a checkpoint"),
        ('{"version": 2}', "another version"),
        ('{"version": 1, "options": "o", "url": "u", "settled": {"end": "70"}}', "is not a checkpoint"),
        ('{"version": 1, "options": "o", "url": "u", "settled": {"end": -1}}', "is not a checkpoint"),
        ('{"version": 1, "options": "o", "url": "u", "settled": {"delivered": null}}', "is not a checkpoint"),
        ('{"version": 1, "options": [], "url": 5, "settled": {}}', "is not a checkpoint"),
        ('{"version": 1, "options": "o", "url": "u", "settled": {}, "rejects_bytes": 1.5}', "is not a checkpoint"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, text: str, why: str) -> None:
    """A file that is no checkpoint is neither used nor overwritten."""
    path = tmp_path / "x.smckpt"
    path.write_text(text)
    with pytest.raises(InputProblem, match=why):
        checkpoint.load(path)
    with pytest.raises(InputProblem, match="cannot read"):
        checkpoint.load(tmp_path)


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path) -> None:
    """An unwritable checkpoint is an error before anything is sent, and leaves no file."""
    checkpoint.check_writable(tmp_path / "x.smckpt")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputProblem, match=r"cannot keep a checkpoint .*--no-checkpoint"):
        checkpoint.check_writable(tmp_path / "missing" / "x.smckpt")


def test_rejects_behind_the_checkpoint_are_written_again(tmp_path: Path) -> None:
    """Rejected rows after the last checkpoint are removed, because they are written again."""
    path = tmp_path / "r.ndjson"
    rejects = RejectsFile(path)
    rejects.add("f", row(1), {"a": 1}, "one")
    kept = rejects.sync()
    rejects.add("f", row(2), None, "two")
    rejects.close()
    rejects = RejectsFile(path, kept)
    rejects.add("f", row(3), None, "three")
    rejects.close()
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["reason"] for line in lines] == ["one", "three"]
    assert lines[0] == {"file": "f", "line": 1, "reason": "one", "text": "x" * 9, "row": {"a": 1}}


def test_a_file_that_is_something_else_is_not_overwritten(tmp_path: Path) -> None:
    """--rejects never overwrites another file or earlier rejected rows."""
    precious = tmp_path / "people.csv"
    for text in ("id,name\n1,Ann\n", '{"method": "contact"}\n', "[]\n", "5"):
        precious.write_text(text)
        with pytest.raises(InputProblem, match="exists and is not a file of rejected rows"):
            RejectsFile(precious)
        assert precious.read_text() == text
    precious.write_text('{"file": "f", "line": 1, "reason": "r", "text": "t"}\n')
    text = precious.read_text()
    with pytest.raises(InputProblem, match="which may have been corrected; name another file"):
        RejectsFile(precious)
    RejectsFile(precious, add=True).close()
    assert precious.read_text() == text
    precious.write_text("")
    RejectsFile(precious).close()
    with pytest.raises(InputProblem, match="cannot write the rejected rows"):
        RejectsFile(tmp_path)
