"""``python -m salesmachine_async``: the same as the ``salesmachine`` command."""

from salesmachine_async.cli import main

if __name__ == "__main__":
    main()
