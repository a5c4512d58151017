"""What a commit has confirmed is there after a power loss, whatever the disk forgot of the rest."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from salesmachine_async._spool import pieces as module
from tests.support.forgetful_files import ForgetfulFiles
from tests.support.spool import FaultyFiles, Parts, failing_disk, numbers, recover, segments


@pytest.fixture(autouse=True, scope="module")
def small_records() -> Iterator[None]:
    """Let a commit be many records, of which a power loss may take any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_RECORD_BYTES", 200)
        yield


STEPS = ("accept", "commit", "sync fails", "disk full", "settle", "trim", "sync cursor", "leave")


class Machine:
    """A process that takes given steps until the power fails."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self.chance = chance
        # Sometimes the disk forgets everything, sometimes nothing, mostly some of it.
        likely = chance.choice([0.0, 0.2, 0.5, 0.9, 1.0])
        self.files = ForgetfulFiles(path, lambda: chance.random() < likely)
        self.parts = Parts(path, partitions=2, files=self.files, size=chance.choice([400, 4096, 65536]))
        self.parts.queue.size = 150
        self.confirmed = [0, 0]

    def step(self, name: str) -> None:
        parts, files = self.parts, self.files
        queue, own = parts.queue, parts.log
        if name == "accept":
            queue.accept(self.chance.randint(1, 5), self.chance.randint(0, 1))
        elif name in {"commit", "sync fails", "disk full"}:
            files.sync_fails, files.full = name == "sync fails", name == "disk full"
            with suppress(OSError):
                parts.commit()
                self.confirmed = list(own.durable)
            files.sync_fails = files.full = False
        elif name == "settle":
            which = self.chance.randint(0, 1)
            queue.done[which] = self.chance.randint(queue.done[which], len(queue.lines[which]))
        elif name == "trim":
            own.settled[:] = queue.done
            own.trim()
        elif name == "sync cursor":
            own.sync_cursor()
        else:
            own.settled[:] = queue.done
            own.leave()


def survives(steps: list[str], seed: int) -> None:
    """Run a machine, let the power fail, and look what another process finds."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        before, after = Path(folder) / "before", Path(folder) / "after"
        machine = Machine(before, random.Random(seed))
        for step in steps:
            machine.step(step)
        machine.files.power_loss(after)
        machine.parts.die()
        pieces, reader = recover(after)
        queue = machine.parts.queue
        for partition in (0, 1):
            got = numbers(pieces, partition)
            expected = set(range(queue.done[partition], machine.confirmed[partition]))
            assert expected <= set(got), (partition, got, queue.done, machine.confirmed)
            assert set(got) <= set(range(len(queue.lines[partition])))
        # Directories follow each other; within one, each message comes once and in order.
        if "leave" not in steps:
            assert all(numbers(pieces, which) == sorted(set(numbers(pieces, which))) for which in (0, 1))
        assert not reader.root.skipped


MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@pytest.mark.slow
@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(STEPS), max_size=30), st.integers(0, 2**32))
@example(["accept", "sync fails", "accept", "sync fails", "accept", "commit"], 3)
@example(["accept", "commit", "accept", "sync fails", "settle", "commit", "trim"], 5)
def test_what_is_confirmed_survives(steps: list[str], seed: int) -> None:
    """Confirmed messages survive a power loss through failing syncs, full disks, rolls and removals."""
    survives(steps, seed)


@pytest.mark.slow
def test_what_is_confirmed_survives_a_long_life(untraced: None) -> None:
    """Confirmed messages survive many more steps than Hypothesis tries, with frequent sync failures."""
    chance = random.Random(26)
    steps = [*STEPS, "accept", "accept", "accept", "commit", "commit", "sync fails"]
    steps.remove("leave")
    for seed in range(150):
        survives(chance.choices(steps, k=80), seed)


def test_a_disk_that_only_claims_to_sync_is_detected() -> None:
    """A disk that only claims to sync fails the check, which proves the tests above."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        machine = Machine(Path(folder) / "before", random.Random(1))
        machine.files.sync = lambda fd: None  # type: ignore[method-assign]
        machine.files._choice = lambda: False
        for step in ("accept", "commit"):
            machine.step(step)
        machine.files.power_loss(Path(folder) / "after")
        machine.parts.die()
        assert sum(machine.confirmed) > 0
        assert recover(Path(folder) / "after")[0] == []


def test_a_repetition_is_not_hidden_by_what_it_repeats(tmp_path: Path) -> None:
    """A record visible in a failed segment does not hide the complete repetition in the next one."""
    files = FaultyFiles()
    parts = Parts(tmp_path, files=files)
    parts.queue.size, parts.queue.piece = 600, 1
    parts.queue.accept(1)
    parts.commit()
    parts.queue.accept(2)
    files.faults.update(sync=failing_disk(), truncate=failing_disk())
    with pytest.raises(OSError, match="Input/output"):
        parts.commit()
    files.faults.clear()
    parts.queue.accept(1)
    parts.commit()
    parts.die()
    failed = segments(tmp_path)[0]
    data = failed.read_bytes()
    at = data.index(b'"n":1')
    failed.write_bytes(data[:at] + bytes(500) + data[at + 500 :])
    assert b'"n":2' in failed.read_bytes()
    assert numbers(recover(tmp_path)[0]) == [0, 1, 2, 3]


def test_what_a_dying_process_did_not_repeat_is_taken_from_what_it_had_written(tmp_path: Path) -> None:
    """A failed segment is read where the end of the process cut off its repetition."""
    files = FaultyFiles()
    parts = Parts(tmp_path, files=files)
    parts.queue.size, parts.queue.piece = 300, 1
    parts.queue.accept(4)
    files.faults.update(sync=failing_disk(), truncate=failing_disk())
    with pytest.raises(OSError, match="Input/output"):
        parts.commit()
    files.faults.clear()
    # The first failed before it had a record; the second has them, and fails.
    parts.commit()
    parts.die()
    [only] = segments(tmp_path)
    whole = only.read_bytes()
    cut = whole.index(b'"n":2')
    second = only.with_name("00000009.seg")
    second.write_bytes(whole[:cut])
    assert numbers(recover(tmp_path)[0]) == [0, 1, 2, 3]
    assert list(tmp_path.glob("*/*.seg")) == []


def test_what_left_the_memory_is_not_hidden_by_a_repetition_without_it(tmp_path: Path) -> None:
    """Without `Spool.sync`, messages that are only in a segment whose sync failed are read in their place."""
    files = FaultyFiles()
    parts = Parts(tmp_path, files=files, sync=False, size=65536)
    parts.queue.piece = 1
    parts.queue.accept(9)
    parts.commit()
    files.faults["sync"] = failing_disk()
    with pytest.raises(OSError, match="Input/output"):
        parts.log.sync()
    files.faults.clear()
    unwritten = [piece for piece in parts.queue.unwritten(0, 0) if not 3 <= piece.first < 6]
    parts.log.commit(unwritten)
    assert parts.log.durable == [9]
    parts.die()
    assert len(segments(tmp_path)) == 2
    assert numbers(recover(tmp_path)[0]) == [*range(9)]


def test_the_oldest_of_two_repetitions_is_read_first(tmp_path: Path) -> None:
    """A process that dies in the middle of a second repetition hides nothing of the first one."""
    files = FaultyFiles()
    parts = Parts(tmp_path, files=files, size=65536)
    parts.queue.piece = 1
    parts.queue.accept(6)
    pieces = parts.queue.unwritten(0, 0)
    parts.commit()
    # As three attempts leave it that failed by their syncs, and of which the disk has kept some.
    for number, kept in ((2, (0, 4, 5)), (3, (0, 1, 2)), (4, (0,))):
        other = Parts(tmp_path / str(number), files=FaultyFiles(), size=65536)
        other.log._restarted = True
        other.log.commit([pieces[at] for at in kept])
        other.die()
        [segment] = segments(tmp_path / str(number))
        segment.rename(segments(tmp_path)[0].with_name(f"{number:08d}.seg"))
    parts.die()
    segments(tmp_path)[0].unlink()
    assert numbers(recover(tmp_path)[0]) == [0, 1, 2, 4, 5]
