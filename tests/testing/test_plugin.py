"""The pytest plug-in, in separate runs of pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

TESTS = """
import asyncio, os
import pytest
from salesmachine_async import Agent, Retry
from salesmachine_async.testing import Recorder, Workspace

tokens = set()
agent = Agent("app", base_url="http://127.0.0.1:9")

def test_recorder(salesmachine: Recorder):
    agent.track("u", "ordered", {"order": 9})
    salesmachine.assert_tracked("ordered", contact_uid="u", order=9)

def test_recorder_is_new(salesmachine):
    salesmachine.assert_not_tracked()

async def asynchronous(salesmachine):
    async with Agent() as agent:
        agent.track("u", "e")
        assert (await agent.flush()).delivered == 1
    salesmachine.assert_tracked("e")

@pytest.mark.anyio
async def test_recorder_under_anyio(salesmachine):
    await asynchronous(salesmachine)

@pytest.mark.asyncio
async def test_recorder_under_pytest_asyncio(salesmachine):
    await asynchronous(salesmachine)

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.parametrize("number", range(2))
def test_sandbox(salesmachine_sandbox: Workspace, number):
    assert salesmachine_sandbox.token not in tokens
    tokens.add(salesmachine_sandbox.token)
    assert os.environ["SALESMACHINE_API_URL"] == salesmachine_sandbox.url
    salesmachine_sandbox.faults(503)
    async def main():
        async with Agent(retry=Retry(wait_initial=0.001)) as agent:
            agent.track("u", "ordered")
    asyncio.run(main())
    assert len(salesmachine_sandbox.wait_for("ordered")) == 1
    assert len(salesmachine_sandbox.events()) == 1

class App:
    def __init__(self):
        self.agent = Agent(retry=Retry(wait_initial=0.001))
        self.url = os.environ["SALESMACHINE_API_URL"]

@pytest.fixture
def app():  # asked for before ours
    return App()

@pytest.fixture(scope="session")
def long_lived_app():
    return App()

def test_our_fixtures_come_first(app, long_lived_app, salesmachine_sandbox):
    assert app.url == long_lived_app.url == salesmachine_sandbox.url

def test_our_recorder_comes_first(app, salesmachine):
    assert app.url.endswith("invalid")
    app.agent.track("u", "e")
    salesmachine.assert_tracked("e")

def test_failure(salesmachine):
    agent.track("u", "ordered", {"order": "9"})
    salesmachine.assert_tracked("ordered", order=9)

def test_environment_is_restored():
    assert "SALESMACHINE_API_URL" not in os.environ
"""


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SALESMACHINE_", "PYTEST_"))}
    # Ours is named explicitly: it may or may not be installed where this runs.
    return {**kept, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


@pytest.mark.slow
def test_the_fixtures_work_in_a_project_of_its_own(tmp_path: Path) -> None:
    """The fixtures work in plain tests, under anyio and under pytest-asyncio; a failure shows the nearest miss."""
    (tmp_path / "test_app.py").write_text(TESTS)
    plugins = ["salesmachine_async.testing.plugin", "pytest_asyncio.plugin", "anyio.pytest_plugin"]
    options = ["-q", "-W", "error", "-o", "asyncio_default_fixture_loop_scope=function"]
    command = [sys.executable, "-m", "pytest", *options, *(f"-p{name}" for name in plugins), str(tmp_path)]
    ended = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert "1 failed, 9 passed" in ended.stdout, ended.stdout + ended.stderr
    assert "E       AssertionError: no event with event_uid='ordered', params.order=9" in ended.stdout
    assert "E           + params.order: '9'" in ended.stdout
    assert "def assert_tracked" not in ended.stdout


def test_the_entry_point_is_declared() -> None:
    """The distribution declares the plug-in, so that no setting is needed."""
    assert 'salesmachine = "salesmachine_async.testing.plugin"' in (ROOT / "pyproject.toml").read_text()


def test_the_plugin_imports_nothing_but_pytest() -> None:
    """The plug-in imports a few small modules of the package and no library that pytest does not import."""
    source = """
import json, pytest, sys
before = set(sys.modules)
import salesmachine_async.testing.plugin
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    ended = subprocess.run([sys.executable, "-c", source], env=environment(), capture_output=True, check=True)
    package = "salesmachine_async"
    assert json.loads(ended.stdout) == [
        package,
        f"{package}._version",
        f"{package}.testing",
        f"{package}.testing.plugin",
    ]
