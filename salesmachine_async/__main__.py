"""Entry point of ``python -m salesmachine_async``, which runs the ``salesmachine`` command."""

from salesmachine_async.cli import main

if __name__ == "__main__":
    main()
