"""Restriction of regular expressions in a plan to those that are fast on any value."""

from __future__ import annotations

import re

# `re` backtracks: the time of a match grows with the length of the value to the power of the number of repetitions.
MAX_REPETITIONS = 4
MAX_OPTIONAL = 8
MAX_VALUE_CHARACTERS = 256

ESCAPE = re.compile(r"\\.", re.DOTALL)
CLASS = re.compile(r"\[\^?\]?[^]]*\]")
GROUP = re.compile(r"\(\?(?:[:=!]|<[=!]|P<\w+>)")
TOKEN = re.compile(r"\(|\)|[*+?]|\{\d*,?\d*\}")


def check_pattern(pattern: str) -> None:
    """
    Check that *pattern* is a regular expression without catastrophic backtracking.

    Raises:
        ValueError: The pattern is invalid, or could be slow: it has a repetition or an alternative inside a repetition,
            a back reference, or too many repetitions.
    """
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"pattern is not a regular expression: {error}") from None
    if re.search(r"\\[1-9]|\(\?P=|\(\?\(", pattern):
        raise ValueError("pattern has a back reference, which could be slow; remove it")
    plain = GROUP.sub("(", CLASS.sub("x", ESCAPE.sub("x", pattern)))
    _check_groups(plain)
    unbounded, optional = plain.count("*") + plain.count("+") + plain.count("{"), plain.count("?")
    if unbounded > MAX_REPETITIONS or optional > MAX_OPTIONAL:
        raise ValueError(
            f"pattern has {unbounded} repetitions and {optional} optional parts; "
            f"the limits are {MAX_REPETITIONS} and {MAX_OPTIONAL}"
        )


def _check_groups(plain: str) -> None:
    """Check that no repeated group contains what can match in several ways."""
    # For each open group, and for the last closed one: whether it can match in several ways.
    groups = [False]
    closed = False
    for token in TOKEN.finditer(plain):
        if token[0] == "(":
            groups.append("|" in _body(plain, token.start()))
            continue
        if token[0] == ")" and len(groups) > 1:
            closed = groups.pop()
            groups[-1] |= closed
            continue
        if plain[token.start() - 1] == ")" and closed and _repeats(token[0]):
            raise ValueError("pattern has a repetition or an alternative inside a repetition; simplify it")
        groups[-1] = True


def _repeats(quantifier: str) -> bool:
    return quantifier not in ("?", "{0}", "{1}", "{0,1}", "{,1}", "{1,1}")


def _body(pattern: str, start: int) -> str:
    """Return the group that begins at *start*, with its parentheses."""
    depth = 0
    for place in range(start, len(pattern)):
        depth += {"(": 1, ")": -1}.get(pattern[place], 0)
        if not depth:
            return pattern[start : place + 1]
    return pattern[start:]
