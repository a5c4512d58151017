"""Each integration imports its own framework and no other; the middleware for all of them imports none."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# What frameworks import of each other is their affair; these no one imports for another.
WEB = {"fastapi", "starlette", "litestar", "django", "flask"}
OTHERS = {"prometheus_client", "opentelemetry", "structlog", "celery"}


@pytest.mark.parametrize(
    ("module", "own"),
    [
        ("asgi", set[str]()),
        ("aiohttp", set[str]()),  # which the agent needs anyhow
        ("fastapi", {"fastapi", "starlette"}),
        ("litestar", {"litestar"}),
        ("django", {"django"}),
        ("wsgi", set[str]()),
        ("flask", {"flask"}),
        ("prometheus", {"prometheus_client"}),
        ("opentelemetry", {"opentelemetry"}),
    ],
)
def test_only_its_own_framework(module: str, own: set[str]) -> None:
    """In a new interpreter each integration imports no other framework."""
    source = f"import json, sys, salesmachine_async.integrations.{module}; print(json.dumps(list(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True)
    loaded = set(json.loads(ended.stdout))
    foreign = WEB if own & WEB else WEB | OTHERS
    assert loaded & foreign <= own
    assert own <= loaded
    assert ("aiohttp.web" in loaded) == (module == "aiohttp")
