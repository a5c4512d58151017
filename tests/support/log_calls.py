"""Finds what the library logs, in its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LEVELS = {"ERROR", "WARNING"}


class LogCall(NamedTuple):
    """A call that logs: its levels, the text of its line with ``…`` for what varies, and where it stands."""

    levels: frozenset[str]
    text: str
    place: str


def log_calls(root: Path) -> Iterator[LogCall]:
    """List the ERROR and WARNING lines of all modules below *root*, but those of the command and the sandbox."""
    for path in sorted(root.rglob("*.py")):
        module = path.relative_to(root)
        if module.parts[0] not in ("cli", "sandbox"):
            yield from _calls_of(ast.parse(path.read_text()), str(module))


def _calls_of(tree: ast.Module, module: str) -> Iterator[LogCall]:
    seen: set[ast.Call] = set()
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and call not in seen and (found := _read(call, function, tree)):
                    seen.add(call)
                    levels, texts = found
                    yield from (LogCall(levels, text, f"{module}:{call.lineno}") for text in texts)


def _read(call: ast.Call, function: ast.AST, module: ast.Module) -> tuple[frozenset[str], list[str]] | None:
    """Return the levels and texts of a call, if it logs."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("warning", "error", "exception") and call.args and ast.unparse(call.func).startswith("logger."):
        levels, message = frozenset({"WARNING" if name == "warning" else "ERROR"}), call.args[0]
    elif name.endswith("log") or name == "log_or_stderr":
        arguments = call.args[0 if name == "log_or_stderr" else 1 :]
        if len(arguments) < 2:
            return None
        levels, message = _levels(arguments[0], function), arguments[1]
    else:
        return None
    texts = [re.sub(r"%[sdgr]", "…", text) for text in _texts(message, function, module)]
    return (levels, texts) if levels and texts else None


def _levels(node: ast.expr, function: ast.AST) -> frozenset[str]:
    """Return the levels that an argument may be: ``logging.ERROR``, or a name that was set to one of several."""
    source = ast.unparse(node)
    if isinstance(node, ast.Name):
        source = " ".join(ast.unparse(value) for value in _assigned(node.id, function))
    return frozenset(re.findall(r"logging\.([A-Z]+)", source)) & LEVELS


def _texts(node: ast.expr, function: ast.AST, module: ast.Module) -> list[str]:
    """Return the texts that a message may be, also where it has a name, or is a value of a table of the module."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if not isinstance(node, ast.Name):
        return []
    before = [value for value in _assigned(node.id, function) if value.lineno <= node.lineno]
    for value in before[-1:] or _assigned(node.id, module):
        return _texts(value, function, module)
    for loop in ast.walk(function):
        if isinstance(loop, ast.For) and node.id in ast.unparse(loop.target):
            (table,) = _assigned(ast.unparse(loop.iter).removesuffix(".items()"), module)
            assert isinstance(table, ast.Dict)
            return [text for value in table.values for text in _texts(value, function, module)]
    return []


def _assigned(name: str, scope: ast.AST) -> list[ast.expr]:
    nodes = scope.body if isinstance(scope, ast.Module) else ast.walk(scope)
    return [
        node.value
        for node in nodes
        if (isinstance(node, ast.Assign) and any(ast.unparse(target) == name for target in node.targets))
        or (isinstance(node, ast.AnnAssign) and node.value is not None and ast.unparse(node.target) == name)
        if node.value is not None
    ]
