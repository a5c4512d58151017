"""
A mutation run over `_core`: each small change of its code has to fail a test. See `tool.mutmut` in pyproject.

    python .ci/mutation.py [run [MUTANT...]] | [show MUTANT] | [browse]

Without an argument, runs what has not run yet and prints the score. It takes an hour or more.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from mutmut.__main__ import cli

# mutmut calls each function through three more.
DEPTH = 4000


def score() -> str:
    """Return the part of the mutants that failed a test; a time-out counts, too."""
    outcomes: Counter[int | None] = Counter()
    for path in Path("mutants/salesmachine_async/_core").glob("*.meta"):
        outcomes.update(json.loads(path.read_text())["exit_code_by_key"].values())
    ran = outcomes.total() - outcomes[None]
    return f"{ran - outcomes[0]} of {ran} mutants failed a test: {100 * (ran - outcomes[0]) / max(1, ran):.1f} %"


def main() -> None:
    """Run mutmut with one process at a time."""
    sys.setrecursionlimit(DEPTH)
    arguments = sys.argv[1:] or ["run"]
    if arguments[0] == "run":
        arguments[1:1] = ["--max-children", "1"]
    cli(arguments, standalone_mode=False)
    if arguments[0] == "run":
        print(score())  # noqa: T201


if __name__ == "__main__":
    main()
