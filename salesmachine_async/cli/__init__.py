"""
The ``salesmachine`` command.

One module per command. Each imports what it needs when it runs, so that ``--help`` stays fast. `exit_codes` defines the
exit statuses.
"""

import sys
from importlib.util import find_spec

__all__ = ["main"]

# Packages of the [cli] extra.
_EXTRA = ("click", "rich")


def main() -> None:
    """Run the command line and exit."""
    # find_spec() instead of an import: rich is only imported by commands that use it, and an ImportError from another
    # module is a bug whose traceback has to stay.
    if any(find_spec(name) is None for name in _EXTRA):
        # These names can be installed wherever this package itself came from.
        sys.stderr.write(
            "salesmachine: error: the command needs the extra [cli]: pip install 'click>=8.2' 'rich>=14', "
            "or install salesmachine-async[cli]\n"
        )
        sys.exit(2)
    from salesmachine_async.cli.app import app  # noqa: PLC0415 - needs the extra

    app(prog_name="salesmachine")
