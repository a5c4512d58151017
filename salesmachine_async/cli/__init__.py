"""
The ``salesmachine`` command.

One small module per command; each imports what it runs only when it runs, so that ``--help`` stays quick. What the exit
status means is in ``exits``.
"""

import sys

__all__ = ["main"]

# What the [cli] extra brings. A missing module of any other name is a bug of ours and keeps its traceback.
_EXTRA = frozenset({"typer", "rich"})


def main() -> None:
    """Run the command line and exit."""
    try:
        from salesmachine_async.cli.app import app  # noqa: PLC0415 - it needs the extra, whose absence is explained below
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write("The salesmachine command needs its extra: pip install 'salesmachine-async[cli]'\n")
        sys.exit(2)
    app(prog_name="salesmachine")
