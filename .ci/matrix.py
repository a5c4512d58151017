"""
Runs tests with other releases of the dependencies and frameworks: ``make test-matrix``.

Each row gets a virtual environment in .venv-matrix/, which is kept. Names on the command line choose rows:
``python .ci/matrix.py oldest django-newest``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import tomllib
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
HOME: Final = ROOT / ".venv-matrix"


def lowest(requirement: str) -> str:
    """Pin a requirement such as ``anyio>=4.8`` to its lower bound."""
    name, version = re.findall(r"^([\w-]+)>=([\d.]+)", requirement)[0]
    return f"{name}=={version}"


def name(requirement: str) -> str:
    """Return the name of a required distribution."""
    return re.split(r"[<>=]", requirement)[0]


DEPENDENCIES: Final[list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]

# What the tests themselves need; warnings are errors, so releases must agree with each other: no upper bounds here.
TOOLS: Final = (
    *("pytest>=9,<10", "pytest-asyncio>=1.3,<2", "pytest-timeout", "coverage", "hypothesis", "aioresponses==0.7.9"),
    *("trustme", "attrs", "pydantic", "uvicorn", "websockets"),
)

CORE: Final = ("tests/_core", "tests/_http", "tests/_delivery")
FASTAPI: Final = ("tests/integrations/test_fastapi.py", "tests/examples/test_fastapi_app.py")
STARLETTE: Final = (
    "tests/integrations/test_starlette.py",
    "tests/examples/test_web_apps.py",
    "-k",
    "starlette or test_starlette",
)
LITESTAR: Final = ("tests/integrations/test_litestar.py", "tests/examples/test_web_apps.py", "-k", "litestar")
FLASK: Final = ("tests/integrations/test_flask.py", "tests/integrations/test_wsgi.py")
DJANGO: Final = ("tests/integrations/test_django.py", "tests/examples/test_web_apps.py", "-k", "django")
AIOHTTP: Final = (
    "tests/_delivery",
    "tests/integrations/test_aiohttp.py",
    "tests/examples/test_web_apps.py",
    "-k",
    "_delivery or aiohttp",
)
SPOOL: Final = "tests/hosts/test_spool.py"
VISITORS: Final = "tests/hosts/test_visitors_who_leave.py"
GREENLETS: Final = ("tests/hosts/test_greenlets.py", "tests/_delivery/test_green.py", SPOOL, VISITORS)
SERVERS_OF_ASGI: Final = ("tests/hosts/test_asgi_servers.py", f"{SPOOL}::test_two_workers_are_killed", VISITORS)
ASGI: Final = tuple(f"tests/integrations/test_asgi_{name}.py" for name in ("messages", "life", "rules", "hostile"))

# By name: what is installed, what is run. A comment says why an old release is there.
MATRIX: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "oldest": (tuple(map(lowest, DEPENDENCIES)), CORE),  # all lower bounds of pyproject.toml at once
    "newest": (tuple(map(name, DEPENDENCIES)), CORE),
    # 0.137 put routers without a path among the routes, which broke every tool that walked them.
    "fastapi-0.136.3": (("fastapi==0.136.3",), FASTAPI),
    "fastapi-0.137.0": (("fastapi==0.137.0",), FASTAPI),
    "fastapi-0.137.2": (("fastapi==0.137.2",), FASTAPI),
    "fastapi-0.115.0": (("fastapi==0.115.0",), FASTAPI),  # the oldest promised
    "fastapi-newest": (("fastapi",), FASTAPI),
    # 1.7 was the first to note the route in the scope.
    "starlette-0.52.1": (("starlette==0.52.1",), STARLETTE),
    "starlette-1.6.0": (("starlette==1.6.0",), STARLETTE),
    "starlette-1.7.0": (("starlette==1.7.0",), STARLETTE),
    "starlette-newest": (("starlette",), STARLETTE),
    # 2.23 was the first to want dependencies marked.
    "litestar-2.22.0": (("litestar==2.22.0",), LITESTAR),
    "litestar-newest": (("litestar",), LITESTAR),
    "django-5.0": (("django~=5.0.0",), DJANGO),  # the first with request.auser()
    "django-newest": (("django",), DJANGO),
    "aiohttp-3.14.2": (("aiohttp==3.14.2",), AIOHTTP),  # the oldest the agent works with
    "aiohttp-newest": (("aiohttp",), AIOHTTP),
    "plain-asgi": ((), ASGI),  # without any framework
    "flask-3.0.0": (("flask==3.0.0",), FLASK),  # the oldest promised
    "flask-newest": (("flask",), FLASK),
    # Hosts: real servers and workers, a scripted visit and SIGTERM. Greenlets in place of threads among them.
    "greenlets": (("gevent", "eventlet", "gunicorn", "django", "flask", "celery", "redis"), GREENLETS),
    "uwsgi": (("pyuwsgi",), ("tests/hosts/test_uwsgi.py", f"{SPOOL}::test_two_workers_of_uwsgi_are_killed")),
    "taskiq": (("taskiq",), ("tests/hosts/test_taskiq.py",)),
    "asgi-servers": (
        ("granian", "hypercorn", "gunicorn", "uvicorn-worker", "starlette", "fastapi", "litestar", "django", "flask"),
        SERVERS_OF_ASGI,
    ),
}


def run(row: str) -> bool:
    """Install one environment and run its tests; returns whether they passed."""
    packages, tests = MATRIX[row]
    home = HOME / row
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    install = (str(python), "-m", "pip", "install", "--quiet", "--upgrade", "--upgrade-strategy=eager")
    if subprocess.run((*install, "-e", str(ROOT), *TOOLS, *packages), cwd=ROOT, check=False).returncode:
        return False
    # Not the repository's coverage, nor its plug-ins: these environments have only what they need.
    test = (str(python), "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *tests)
    return subprocess.run(test, cwd=ROOT, check=False).returncode == 0


def say(text: str) -> None:
    """Print at once: the tests write to the same terminal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(rows: list[str]) -> int:
    """Run the named rows, or all; returns the exit status."""
    unknown = [row for row in rows if row not in MATRIX]
    if unknown:
        say(f"matrix: there is no row {', '.join(unknown)}; the rows are {', '.join(MATRIX)}")
        return 2
    results: dict[str, bool] = {}
    for row in rows or MATRIX:
        begun = time.monotonic()
        say(f"\n--- {row}")
        results[row] = run(row)
        say(f"{'passed' if results[row] else 'FAILED'}  {row}, {time.monotonic() - begun:.0f} s")
    say("")
    for row, passed in results.items():
        say(f"{'passed' if passed else 'FAILED'}  {row}")
    say(f"{sum(results.values())} passed, {len(results) - sum(results.values())} failed")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
