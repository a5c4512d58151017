"""
Checks what a release consists of, before a tag is pushed: ``make release-check``.

Builds the distributions of the last commit twice and compares them; checks their metadata and contents; installs each
in a clean environment of every CPython that this machine has, and runs the demo there; writes what the wheel brings
with it to ``build/sbom.cdx.json`` (CycloneDX).
"""

from __future__ import annotations

import email.message
import email.parser
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "salesmachine_async"
# What may stand at the top of a source distribution.
TOP = {"pyproject.toml", "PKG-INFO", ".gitignore"}


class CheckFailed(Exception):
    """A check failed; the text says which, and why."""


def check(holds: object, problem: str) -> None:
    """Raise `CheckFailed` unless a condition holds."""
    if not holds:
        raise CheckFailed(problem)


def say(text: str) -> None:
    """Print at once: other programs write to the same terminal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(*command: object, cwd: Path = ROOT, env: dict[str, str] | None = None) -> str:
    """Run a program; return what it printed, or raise `CheckFailed` with it."""
    words = [str(word) for word in command]
    ended = subprocess.run(
        words, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    check(ended.returncode == 0, f"{' '.join(words)}\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}")
    return ended.stdout


def build(into: Path, work: Path) -> list[Path]:
    """Build the wheel and the source distribution of the last commit, from a copy without any other file."""
    source = work / "source"
    source.mkdir(parents=True)
    archive = work / "source.tar"
    run("git", "archive", "--output", archive, "HEAD")
    with tarfile.open(archive) as tar:
        tar.extractall(source, filter="data")
    epoch = run("git", "log", "-1", "--format=%ct").strip()
    run(sys.executable, "-m", "build", "--outdir", into, source, env={"SOURCE_DATE_EPOCH": epoch})
    return sorted(into.iterdir())


def check_reproducible(first: list[Path], second: list[Path]) -> None:
    """Two builds, in other directories, have the same bytes."""
    for one, other in zip(first, second, strict=True):
        digest = hashlib.sha256(one.read_bytes()).hexdigest()
        check(digest == hashlib.sha256(other.read_bytes()).hexdigest(), f"two builds of {one.name} differ")
        say(f"{digest}  {one.name}")


def check_metadata(metadata: email.message.Message, version: str) -> None:
    """Name, version, licence, Pythons; a description without links that lead nowhere on an index."""
    wanted = {"Name": "salesmachine-async", "Version": version, "License-Expression": "MIT", "License-File": "LICENSE"}
    for field, value in wanted.items():
        check(metadata[field] == value, f"{field} is {metadata[field]!r}, not {value!r}")
    check(metadata["Requires-Python"] == ">=3.11", "Requires-Python")
    check(metadata["Description-Content-Type"] == "text/markdown", "Description-Content-Type")
    text = str(metadata.get_payload())
    check(len(text) > 1000, "there is no description")
    relative = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link and not link.startswith("#")]
    check(not relative, f"links of the description that lead nowhere on an index: {relative}")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    check(f"\n## [{version}]" in changelog, f"CHANGELOG.md has no section of {version}")
    if "- " in changelog.partition("## [Unreleased]")[2].partition("\n## [")[0]:
        say(f"note: CHANGELOG.md has lines under Unreleased; they are a part of what is built as {version}")


def check_wheel(wheel: Path, version: str) -> None:
    """The package and its metadata, and nothing else; typed, licensed, with its command and its pytest plug-in."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"{NAME}-{version}.dist-info"
        check(all(name.startswith((f"{NAME}/", f"{info}/")) for name in names), "the wheel holds other files")
        check(not [name for name in names if re.search(r"(^|/)(tests?|__pycache__)/|\.pyc$", name)], "tests or caches")
        for name in (f"{NAME}/py.typed", f"{info}/licenses/LICENSE", f"{info}/entry_points.txt"):
            check(name in names, f"the wheel lacks {name}")
        points = archive.read(f"{info}/entry_points.txt").decode()
        check("salesmachine = salesmachine_async.cli:main" in points and "[pytest11]" in points, "entry points")
        check_metadata(email.parser.BytesParser().parsebytes(archive.read(f"{info}/METADATA")), version)


def check_sdist(sdist: Path) -> None:
    """Only files of the repository."""
    tracked = set(run("git", "ls-files").splitlines())
    with tarfile.open(sdist) as tar:
        names = {member.name.partition("/")[2] for member in tar.getmembers() if member.isfile()}
    stray = names - tracked - TOP
    check(not stray, f"the source distribution holds files that are not in the repository: {sorted(stray)[:10]}")
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "tests/test_agent.py", "docs/index.md", f"{NAME}/agent.py"):
        check(name in names, f"the source distribution lacks {name}")


def environment(python: str, home: Path, distribution: Path, extras: str) -> Path:
    """Make a clean environment with a distribution in it, and nothing of this checkout."""
    run(python, "-m", "venv", home)
    found = home / "bin" / "python"
    run(found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{distribution}{extras}")
    return found


def check_installed(python: Path, version: str, work: Path) -> None:
    """The installed command runs its demo, which accounts for every message, away from this checkout."""
    clean = {"PYTHONPATH": "", "SALESMACHINE_API_URL": "", "SALESMACHINE_API_TOKEN": ""}
    command = python.parent / "salesmachine"
    check(run(command, "--version", cwd=work, env=clean).split()[-1] == version, "--version")
    run(command, "demo", "--seconds", "3", cwd=work, env=clean)
    where = run(python, "-c", f"import {NAME}.agent as m; print(m.__file__)", cwd=work, env=clean)
    check(str(ROOT) not in where, f"the checkout was imported: {where}")


def check_light(python: Path, work: Path) -> None:
    """Without the extra, the library sends and the command says what it lacks."""
    run(python, "-c", f"from {NAME} import Agent, Batching; Agent('token')", cwd=work, env={"PYTHONPATH": ""})
    ended = subprocess.run(
        [python.parent / "salesmachine", "--help"], cwd=work, capture_output=True, text=True, check=False
    )
    check(ended.returncode == 2 and "[cli]" in ended.stderr, "the command without its extra")


def write_sbom(python: Path, wheel: Path) -> Path:
    """Write what an environment with the wheel holds, beside pip; as CycloneDX."""
    found = ROOT / "build" / "sbom.cdx.json"
    found.parent.mkdir(exist_ok=True)
    run(python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip")
    arguments = ("environment", "--output-reproducible", "--of", "JSON", "--output-file", found, python)
    run(sys.executable, "-m", "cyclonedx_py", *arguments)
    components = {each["name"]: each["version"] for each in json.loads(found.read_text())["components"]}
    check({"salesmachine-async", "aiohttp", "orjson"} <= components.keys(), f"the SBOM of {wheel.name} is incomplete")
    return found


def interpreters() -> list[tuple[str, str]]:
    """List the CPythons of this machine: version and path."""
    lines = run("bash", ".ci/interpreters").splitlines()
    return [(version, path) for version, _, path in (line.partition(" ") for line in lines)]


def main() -> int:
    """Check everything; return the exit status."""
    version = run(sys.executable, "-c", f"from {NAME}._version import __version__; print(__version__)").strip()
    if run("git", "status", "--porcelain").strip():
        say("note: changes that are not committed are not checked")
    dist = ROOT / "dist"
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        try:
            for old in dist.glob("*"):
                old.unlink()
            sdist, wheel = sorted(build(dist, work / "1"), key=_gz_first)
            check_reproducible([sdist, wheel], sorted(build(work / "2" / "dist", work / "2"), key=_gz_first))
            say(run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel).strip())
            check_wheel(wheel, version)
            check_sdist(sdist)
            for number, (minor, path) in enumerate(interpreters()):
                python = environment(path, work / f"wheel-{minor}", wheel, "[cli]")
                check_installed(python, version, work)
                python = environment(path, work / f"sdist-{minor}", sdist, "")
                check_light(python, work)
                say(f"installed and run on CPython {minor}: {wheel.name}[cli], {sdist.name}")
                if number == 0:
                    say(f"SBOM: {write_sbom(python, wheel).relative_to(ROOT)}")
        except CheckFailed as exc:
            say(f"release-check: {exc}")
            return 1
    say(f"salesmachine-async {version} can be released. What is left for a person: CONTRIBUTING.md, Releasing")
    return 0


def _gz_first(path: Path) -> bool:
    return path.suffix != ".gz"


if __name__ == "__main__":
    sys.exit(main())
