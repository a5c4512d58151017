"""Every snippet of the README and of the documentation runs, page by page; `tests/support/snippets.py` says how."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from salesmachine_async.sandbox import Sandbox
from salesmachine_async.testing import Workspace, serve
from tests.support.example_process import ROOT
from tests.support.snippets import Block, blocks_of, is_run

# A page may start servers, run tests, and wait for an outage.
pytestmark = [pytest.mark.slow, pytest.mark.one_python, pytest.mark.timeout(180)]

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
RUN = [str(page.relative_to(ROOT)) for page in PAGES if any(map(is_run, blocks_of(page.read_text())))]


@pytest.fixture(scope="module")
def server() -> Iterator[Sandbox]:
    with serve() as sandbox:
        yield sandbox


@pytest.mark.parametrize("page", RUN)
def test_a_page_runs(page: str, server: Sandbox, tmp_path: Path) -> None:
    """From top to bottom, in an empty directory, with the keys of a workspace of its own in the environment."""
    if page == "docs/fleet.md" and shutil.which("redis-server") is None:
        pytest.skip("there is no redis-server")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SALESMACHINE_", "PYTEST_"))}
    directory = tmp_path / "page"
    directory.mkdir()
    environment = {
        **kept,
        **Workspace(server).environment,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_COLOR": "1",
        "HOME": str(tmp_path),
    }
    status, printed = run(ROOT / page, directory, environment)
    assert status == 0, printed[-6000:]
    assert not re.search("ResourceWarning|never awaited|Traceback", printed), printed[-6000:]


def run(page: Path, directory: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a page to its end, or end it with all processes that it has started; return its status and its output."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.snippets", str(page)],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            printed, _ = process.communicate(timeout=170)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate()
            return -1, f"{printed}\nThe page does not end."
        return process.returncode, printed


def test_blocks_are_read() -> None:
    """With their comments, at any indentation; languages that are no code are no code."""
    page = "<!-- file: a.py -->\n```python\n1\n```\n\n- x\n\n  ```sh\n  a\n    b\n  ```\n"
    page += "<!-- check\n2\n-->\n```text\nc\n```\n"
    assert blocks_of(page) == [
        Block("python", "file", "a.py", "1\n", 3),
        Block("sh", "", "", "a\n  b\n", 9),
        Block("python", "", "", "2\n", 13),
        Block("text", "", "", "c\n", 16),
    ]
    assert [is_run(block) for block in blocks_of(page)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        ("```python\nassert False\n```", "AssertionError"),
        ("```sh\nfalse\n```", "status 1"),
        ("```sh\nfalse | true\n```", "status 1"),
        ("```python\nprint(1)\n```\n<!-- output -->\n```text\n2\n```", "instead of"),
        ("<!-- not run: -->\n```sh\nx\n```", "why is it not run?"),
        ("<!-- not run: a reason -->\n```python\n(\n```", "SyntaxError"),
        ("<!-- background: 8700 -->\n```sh\necho no\n```", "nothing listens"),
    ],
)
def test_a_page_that_is_wrong_is_noticed(page: str, complaint: str, tmp_path: Path) -> None:
    """By the test above."""
    (tmp_path / "page.md").write_text(page)
    status, printed = run(tmp_path / "page.md", tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)})
    assert status != 0
    assert complaint in printed
