"""A client of a real sandbox."""

import aiohttp
import pytest

from salesmachine_async import Agent
from salesmachine_async.cli.demo import control as control_module
from salesmachine_async.cli.demo.audit import ExpectedState, RecordingTracker
from salesmachine_async.cli.demo.control import Control
from salesmachine_async.sandbox import Sandbox


async def test_audit_reads_all_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pages of one workspace are read."""
    monkeypatch.setattr(control_module, "PAGE", 2)
    ledger = ExpectedState()
    async with Sandbox() as sandbox:
        async with Agent("other", base_url=sandbox.url) as other:
            other.track("stranger", "noise")
        async with Agent("mine", base_url=sandbox.url) as agent:
            witness = RecordingTracker(agent, ledger)
            for number in range(1, 6):
                witness.contact(f"user-{number}", {"name": f"Member {number}"})
                witness.account(f"account-{number}", {"name": f"Account {number}"})
                witness.pageview(f"user-{number}", {"n": number})
            witness.alias("user-1", "user-2")
        async with Control(sandbox.url, "mine") as control:
            verdict = await control.audit(ledger)
            assert verdict.ok, verdict.examples
            assert (verdict.events, verdict.contacts, verdict.accounts, verdict.merged) == (5, 4, 5, 1)
            assert (await control.summary())["events"] == 5
            ledger.events.pop(3)
            assert not (await control.audit(ledger)).ok


async def test_faults() -> None:
    """Faults are set for one workspace, and counted until all have happened."""
    async with Sandbox() as sandbox, Control(sandbox.url, "mine") as control:
        await control.set_faults([{"status": 503, "times": 2}])
        assert await control.faults_left() == 1
        async with Agent("other", base_url=sandbox.url) as other:
            await other.ping()
        with pytest.raises(aiohttp.ClientResponseError):
            await control.set_faults([{"status": 7}])


async def test_is_sandbox() -> None:
    """A sandbox answers its health endpoint."""
    async with Sandbox() as sandbox, Control(sandbox.url, "mine") as control:
        assert await control.is_sandbox()
