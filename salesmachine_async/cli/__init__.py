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
        # Typer and rich by their names: that works wherever this package itself was installed from.
        sys.stderr.write(
            "The salesmachine command needs its extra [cli]: pip install 'typer>=0.29' 'rich>=14', "
            "or install salesmachine-async[cli] from where you installed it\n"
        )
        sys.exit(2)
    from salesmachine_async.cli.app import app  # noqa: PLC0415 - it needs the extra

    app(prog_name="salesmachine")
