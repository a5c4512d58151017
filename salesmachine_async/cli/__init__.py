"""
The ``salesmachine`` command.

One small module per command; each imports what it runs only when it runs, so that ``--help`` stays quick. What the exit
status means is in ``exits``.
"""

import sys
from importlib.util import find_spec

__all__ = ["main"]

# What the [cli] extra brings.
_EXTRA = ("typer", "rich")


def main() -> None:
    """Run the command line and exit."""
    # Looked for rather than imported: rich is only imported where something is coloured. A module of ours that is
    # missing for another reason is a bug, and keeps its traceback.
    if any(find_spec(name) is None for name in _EXTRA):
        sys.stderr.write("The salesmachine command needs its extra: pip install 'salesmachine-async[cli]'\n")
        sys.exit(2)
    from salesmachine_async.cli.app import app  # noqa: PLC0415 - it needs the extra

    app(prog_name="salesmachine")
