"""The API reference has every public name, once, and nothing private."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections import Counter
from importlib import import_module

import pytest

from tests.support.example_process import ROOT

pytestmark = pytest.mark.one_python

REFERENCE = "\n".join(path.read_text() for path in sorted((ROOT / "docs/reference").glob("api*.md")))
DOCUMENTED = Counter(re.findall(r"^\.\. auto(?:class|exception|function|data):: ([\w.]+)$", REFERENCE, re.MULTILINE))
PACKAGE = "salesmachine_async"
INTEGRATIONS = ["aiohttp", "asgi", "django", "fastapi", "flask", "litestar", "opentelemetry", "prometheus", "wsgi"]
MODULES = [
    PACKAGE,
    *(f"{PACKAGE}.{name}" for name in ("access", "sandbox", "testing", "relay", "engines.redis")),
    *(f"{PACKAGE}.integrations.{name}" for name in INTEGRATIONS),
]


def test_no_module_is_forgotten() -> None:
    """A new integration or package has to be added above, and with it to the reference."""
    there = {path.stem for path in (ROOT / PACKAGE / "integrations").glob("[a-z]*.py")}
    assert sorted(there) == INTEGRATIONS
    packages = {path.parent.name for path in (ROOT / PACKAGE).glob("[a-z]*/__init__.py")}
    assert packages == {"access", "cli", "engines", "integrations", "relay", "sandbox", "testing"}
    assert [path.name for path in (ROOT / PACKAGE / "engines").glob("[a-z]*/")] == ["redis"]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_documented(module: str) -> None:
    """By this name, or where it comes from another public module by that module's."""
    missing = [
        name
        for name in import_module(module).__all__
        if f"{module}.{name}" not in DOCUMENTED and not documented_elsewhere(module, name)
    ]
    assert missing == []


@pytest.mark.parametrize("path", sorted(DOCUMENTED))
def test_every_field_is_documented(path: str) -> None:
    """Each public field of a dataclass is in its docstring, or, where all of a kind have it, in a sentence."""
    module, _, name = path.rpartition(".")
    documented = getattr(import_module(module), name)
    if dataclasses.is_dataclass(documented):
        text = inspect.getdoc(documented) or ""
        missing = [
            field.name
            for field in dataclasses.fields(documented)
            if not field.name.startswith("_")
            and not re.search(rf"^ +{field.name}: ", text, re.MULTILINE)
            and f"`{field.name}`" not in REFERENCE
        ]
        assert missing == []


def documented_elsewhere(module: str, name: str) -> bool:
    """Return whether the reference has the same object by the name of another module, or names it in a sentence."""
    if f"`{name}`" in REFERENCE or f"`{module}.{name}`" in REFERENCE:
        return True
    value = getattr(import_module(module), name)
    others = (other.rpartition(".")[0] for other in DOCUMENTED if other.endswith(f".{name}"))
    return any(getattr(import_module(other), name) is value for other in others)


def test_everything_documented_is_public() -> None:
    """Each once."""
    for path, times in DOCUMENTED.items():
        module, _, name = path.rpartition(".")
        assert times == 1, path
        assert name in import_module(module).__all__, path
