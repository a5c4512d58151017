"""Regular expressions of a plan."""

from __future__ import annotations

import pytest

from salesmachine_async.sandbox.plan.patterns import check_pattern


@pytest.mark.parametrize(
    "pattern",
    [
        "^[a-z]+$",
        r"^[^@]+@[^@]+\.[^@]+$",
        "^(ab)+$",
        "^(EUR|USD)?$",
        r"^\d{4}-\d{2}-\d{2}$",
        r"\(a+\)+",
        "[(a+)+]+",
        "(?:ab)+",
        "(?i)abc",
        "",
    ],
)
def test_ordinary_patterns_are_accepted(pattern: str) -> None:
    """Patterns that take polynomial time of a low degree are accepted."""
    check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*$",
        "(a|aa)+$",
        "(.*)*",
        "((a)b*)*",
        "((a+))+",
        "(([a-z])+.)+",
        "(x{2,})+",
        "(?:a?){50}b",
        "(a?)+",
        "a?" * 30 + "a" * 30,
        "a+b+c+d+e+",
        r"(a)\1+",
        "(?P<x>a)(?P=x)",
        "(",
        "a{99999999999}",
    ],
)
def test_patterns_that_could_be_slow_are_rejected(pattern: str) -> None:
    """Patterns with exponential backtracking, and invalid ones, are rejected."""
    with pytest.raises(ValueError, match=r"^pattern "):
        check_pattern(pattern)
