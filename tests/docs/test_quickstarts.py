"""The quickstarts of the guides are what the examples say."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.example_process import ROOT

pytestmark = pytest.mark.one_python

# By page: whose code it shows.
QUICKSTARTS = {
    "fastapi": "fastapi_app",
    "starlette": "starlette_app",
    "litestar": "litestar_app",
    "django": "django_app",
    "aiohttp": "aiohttp_app",
    "flask": "flask_app",
    "scripts": "script",
    "celery": "celery_worker",
    "taskiq": "taskiq_worker",
}


def quickstart(page: str) -> str:
    """Return the first Python block of a guide; of Django's, which has one for each file, all before its options."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / f"docs/guides/{page}.md").read_text(), re.DOTALL | re.MULTILINE
    )
    return "\n".join(blocks[:3]) if page == "django" else str(blocks[0])


class Said:
    """What a module says: its statements at any depth, without docstrings and comments, and its keyword arguments."""

    def __init__(self, source: str) -> None:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node):
                del node.body[0]
        self.statements = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.stmt)}
        self.imports = {name for node in ast.walk(tree) for name in imported(node)}
        self.keywords = {
            each.arg: each.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            for each in node.keywords
            if each.arg
        }

    def has(self, statement: ast.stmt) -> bool:
        """Whether a statement stands here; a setting may stand here as a keyword argument, for its like in a module."""
        if names := set(imported(statement)):
            return names <= self.imports
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            value = self.keywords.get(statement.targets[0].id)
            if value is not None and fits(statement.value, value):
                return True
        if ast.unparse(statement) in self.statements:
            return True
        # What stands in a function of a guide stands in the same function here, which may do more.
        if isinstance(statement, ast.FunctionDef):
            return all(map(self.has, statement.body)) and any(
                text.startswith(ast.unparse(statement).splitlines()[0]) for text in self.statements
            )
        return False


def imported(node: ast.AST) -> Iterator[tuple[str, str, str | None]]:
    """List what an import brings: from where, what, as what."""
    if isinstance(node, ast.ImportFrom):
        yield from ((node.module or "", each.name, each.asname) for each in node.names)
    elif isinstance(node, ast.Import):
        yield from ((each.name, "", each.asname) for each in node.names)


def fits(shown: ast.expr, there: ast.expr) -> bool:
    """Whether two values are the same; a list that begins with ``...`` is the end of the other."""
    if isinstance(shown, ast.List) and isinstance(there, ast.List) and ast.unparse(shown).startswith("[...,"):
        rest = [ast.unparse(each) for each in shown.elts[1:]]
        return rest == [ast.unparse(each) for each in there.elts][-len(rest) :]
    return ast.unparse(shown) == ast.unparse(there)


@pytest.mark.parametrize(("page", "example"), QUICKSTARTS.items())
def test_a_quickstart_is_copied_from_an_example(page: str, example: str) -> None:
    """Each of its statements; the example itself is run by another test, in its server."""
    said = Said((ROOT / "examples" / f"{example}.py").read_text())
    missing = [ast.unparse(node) for node in ast.parse(quickstart(page)).body if not said.has(node)]
    assert missing == []


def test_drift_would_be_noticed() -> None:
    """By the test above: another name, argument, option, import or setting."""
    said = Said((ROOT / "examples" / "fastapi_app.py").read_text() + 'configure(MIDDLEWARE=["a", "b"], X={"y": True})')
    for same in ("from fastapi import FastAPI", 'MIDDLEWARE = [..., "b"]', 'X = {"y": True}', "app = FastAPI()"):
        assert said.has(ast.parse(same).body[0]), same
    for other in (
        "from fastapi import Fast",
        "from starlette import FastAPI",
        'MIDDLEWARE = [..., "a"]',
        'X = {"y": False}',
        "app = FastAPI(debug=True)",
        "async def health() -> str:\n    return 'bad'",
        "def order(sm):\n    pass",
    ):
        assert not said.has(ast.parse(other).body[0]), other
