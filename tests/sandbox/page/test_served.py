"""The page as it is served and shipped, without a browser."""

from __future__ import annotations

import asyncio
import re
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from salesmachine_async.sandbox import Sandbox
from salesmachine_async.sandbox.page.routes import ASSETS, PREFIX, TYPES

ROOT = Path(__file__).parents[3]
NAMES = sorted(path.name for path in ASSETS.iterdir())
SCRIPTS = [name for name in NAMES if name.endswith(".js")]

# Ways from text to markup, style or code, and to other servers.
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|setHTML|srcdoc"
    r"|\beval\b|new Function|\bimport\(|setTimeout\(\s*[\"'`]|javascript:|cssText|\.href\s*=|\.src\s*="
)


async def fetch(session: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, Any, str]:
    async with session.get(url, headers=headers) as response:
        return response.status, response.headers, await response.text()


@pytest.fixture
async def sandbox() -> Any:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def session() -> Any:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.parametrize("path", ["/", "/favicon.ico", *(f"{PREFIX}/{name}" for name in NAMES)])
async def test_every_file_is_served(sandbox: Sandbox, session: aiohttp.ClientSession, path: str) -> None:
    """Each file has its type, and headers that forbid everything else."""
    status, headers, text = await fetch(session, sandbox.url + path)
    name = {"/": "index.html", "/favicon.ico": "icon.svg"}.get(path, path.rpartition("/")[2])
    assert (status, text) == (200, (ASSETS / name).read_text(encoding="utf-8"))
    assert headers["Content-Type"] == f"{TYPES[Path(name).suffix]}; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-cache"
    assert headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )
    status, again, text = await fetch(session, sandbox.url + path, **{"If-None-Match": headers["ETag"]})
    assert (status, text, again["ETag"]) == (304, "", headers["ETag"])
    assert "Content-Security-Policy" in again
    assert (await fetch(session, sandbox.url + path, **{"If-None-Match": '"other"'}))[0] == 200
    async with session.head(sandbox.url + path) as response:
        assert response.status == 200


async def test_nothing_else_is_served(sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
    """Unknown names are answered 404; the checks of Host and Origin apply to the page; nothing is logged."""
    for path in ("nothing.js", "routes.py", "..%2froutes.py", "%2e%2e/routes.py", ""):
        status, headers, _ = await fetch(session, f"{sandbox.url}{PREFIX}/{path}")
        assert (status, headers["Content-Type"]) == (404, "application/json"), path
    async with session.post(sandbox.url) as response:
        assert response.status == 405
    assert (await fetch(session, sandbox.url, Host="evil.example"))[0] == 403
    assert (await fetch(session, sandbox.url, Origin="http://evil.example"))[0] == 403
    assert sandbox.requests() == []


async def test_faults_leave_the_page_alone(sandbox: Sandbox, session: aiohttp.ClientSession) -> None:
    """Faults do not affect the page, which must be able to remove them."""
    async with session.put(f"{sandbox.url}/_sandbox/faults", json=[{"status": 500, "times": None}]) as response:
        assert response.status == 200
    assert (await fetch(session, sandbox.url))[0] == 200


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith(".svg")])
def test_what_is_referenced_exists(name: str) -> None:
    """The page loads only its own files."""
    text = (ASSETS / name).read_text(encoding="utf-8")
    assert not re.search(r"\b(https?|wss?|blob):|@import|url\([\"']?[./\w-]+\)", text)
    # Only comments remain of these.
    assert "//" not in re.sub(r"^\s*//.*$|\s// .*$", "", text, flags=re.MULTILINE)
    references = re.findall(r'from "\./([^"]+)"', text) + re.findall(rf'{PREFIX}/([^"]+)"', text)
    assert not set(references) - set(NAMES)
    if name == "index.html":
        assert set(re.findall(r'(?:src|href)="([^"#]+)"', text)) <= {f"{PREFIX}/{each}" for each in NAMES} | {
            "/_sandbox/export"
        }


def test_every_script_is_used() -> None:
    """No file is unused."""
    text = "".join((ASSETS / name).read_text(encoding="utf-8") for name in NAMES if name.endswith((".js", ".html")))
    for name in NAMES:
        assert f"./{name}" in text or f"{PREFIX}/{name}" in text or name == "index.html", name


@pytest.mark.parametrize("name", SCRIPTS)
def test_texts_stay_texts(name: str) -> None:
    """No script converts text to markup or code."""
    assert SINKS.findall((ASSETS / name).read_text(encoding="utf-8")) == []


def test_the_document_holds_no_code() -> None:
    """The HTML has no inline script or style, which the policy forbids."""
    text = (ASSETS / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text) == []


@pytest.mark.slow
async def test_the_page_ships(tmp_path: Path) -> None:
    """All files are in the wheel and in the sdist."""
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    wanted = {f"salesmachine_async/sandbox/page/assets/{name}" for name in NAMES}
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert wanted <= set(archive.namelist())
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert wanted | {"docs/api-coverage.md", "README.md"} <= names
