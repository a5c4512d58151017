"""The importer in this process, with small bounds."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from salesmachine_async import Batch, Outcome, Verdict
from salesmachine_async.cli.importing import importer
from salesmachine_async.cli.importing.mapping import TrackingCall
from salesmachine_async.cli.importing.models import Ending, ImportPlan, ImportResults
from salesmachine_async.cli.importing.preflight import make_columns, make_inputs
from salesmachine_async.cli.importing.progress import QuietProgress
from salesmachine_async.cli.importing.reader import Reading
from salesmachine_async.errors import ServerFailure


class Carrier:
    """A transport that keeps the numbers of the rows."""

    numbers: list[int]

    def __init__(self) -> None:
        type(self).numbers = []

    async def send(self, batch: Batch) -> Outcome:
        await asyncio.sleep(0.001)
        self.numbers.extend(message["params"]["n"] for message in batch.messages())
        return Outcome(verdict=Verdict.DELIVERED)

    async def aclose(self) -> None:
        pass


async def conduct(file: Path, **different: Any) -> ImportResults:
    plan = {
        "inputs": make_inputs([file], None, None),
        "reading": Reading(columns=make_columns(None, [], [], [])),
        "token": "token",
        "secret": "",
        "base_url": None,
        "batch": 100,
        "concurrency": 2,
        "rate": None,
        "give_up_after": 300.0,
        "dry_run": True,
        "checkpoints": (None,),
        "resume": False,
        "rejects": None,
        **different,
    }
    return await importer.Importer(ImportPlan(**plan), QuietProgress(Console(file=io.StringIO())), None).run()


def numbered(path: Path, count: int) -> Path:
    row = {"method": "event", "contact_uid": "", "event_uid": "e", "params": {"text": "x" * 400}}
    with path.open("w") as file:
        for number in range(count):
            row |= {"contact_uid": f"c{number % 7}", "params": {"n": number, "text": "x" * 400}}
            file.write(json.dumps(row) + "\n")
    return path


@pytest.mark.slow
async def test_a_full_queue_drops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without room in the agent are offered again."""
    full = asyncio.Event()

    class Late(Carrier):
        async def send(self, batch: Batch) -> Outcome:
            # Not by speed, which the machine decides: nothing is delivered before a row was refused.
            await asyncio.wait_for(full.wait(), 30)
            return await super().send(batch)

    real = TrackingCall.send

    def send(call: TrackingCall, agent: Any) -> bool:
        accepted = real(call, agent)
        if not accepted:
            full.set()
        return accepted

    monkeypatch.setattr(importer, "MAX_HELD_BYTES", 520_000)
    monkeypatch.setattr(importer, "NullTransport", Late)
    monkeypatch.setattr(TrackingCall, "send", send)
    results = await conduct(numbered(tmp_path / "a.ndjson", 10_000))
    assert full.is_set()
    assert (results.ending, results.delivered, results.unanswered) == (Ending.DONE, 10_000, 0)
    assert sorted(Late.numbers) == list(range(10_000))


@pytest.mark.slow
async def test_the_reader_waits_for_the_first_row_without_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one partition is stuck, the others do not advance without bound."""
    monkeypatch.setattr(importer, "MAX_HELD_ROWS", 1000)
    most = 0

    class Stuck(Carrier):
        async def send(self, batch: Batch) -> Outcome:
            nonlocal most
            if batch.partition == 0:
                return Outcome.failed(ServerFailure("broken", status=500))
            most = max(most, len(self.numbers))
            return await super().send(batch)

    monkeypatch.setattr(importer, "NullTransport", Stuck)
    results = await conduct(numbered(tmp_path / "a.ndjson", 20_000), give_up_after=1.0, concurrency=2)
    assert results.ending is Ending.UNAVAILABLE
    assert "broken" in results.error
    assert most < 3000
    assert results.delivered < 1000


async def test_an_answer_for_other_rows_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer for another row is a bug that ends the import."""
    real = TrackingCall.send

    def send(call: TrackingCall, agent: Any) -> bool:
        return real(call._replace(message_id="another"), agent)

    monkeypatch.setattr(TrackingCall, "send", send)
    results = await conduct(numbered(tmp_path / "a.ndjson", 1000))
    assert results.ending is Ending.FAILED
    assert "answered for another row" in results.error
    assert results.status == 1
