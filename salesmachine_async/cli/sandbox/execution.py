"""``salesmachine sandbox exec``: one command, with a sandbox for as long as it runs."""

import os
from typing import TYPE_CHECKING, Any

import click

from salesmachine_async.cli.sandbox.options import (
    SandboxOptions,
    db_option,
    explain,
    faults_option,
    make_sandbox,
    plan_option,
    port_option,
    rate_option,
    seed_option,
)
from salesmachine_async.cli.terminal import fail, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from salesmachine_async.sandbox import Fault, Sandbox

# Exit statuses of a shell in these cases.
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
# Bad messages that are shown with the reason.
_SHOWN = 20

# One workspace for both APIs: any token opens one.
_TOKEN = "sandbox"  # noqa: S105 (nothing is behind it)


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("arguments", metavar="CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
@port_option(default=0)
@db_option
@seed_option
@faults_option
@rate_option
@plan_option
@click.option("--quiet", "-q", is_flag=True, help="Print neither the address of the sandbox nor the summary.")
def command(arguments: "Sequence[str]", *, port: int, quiet: bool, **options: Any) -> None:
    """
    Run a command against a sandbox of its own.

    The sandbox listens on a free port before the command starts, and ends with it.
    The command finds it by SALESMACHINE_API_URL, SALESMACHINE_API_TOKEN,
    SALESMACHINE_API_SECRET and SALESMACHINE_ACCESS_TOKEN, which are set for it.

    \b
      salesmachine sandbox exec -- pytest -x
      salesmachine sandbox exec --faults '503*2' -- python -m shop.worker
      salesmachine sandbox exec -- salesmachine track 123456 user_registration

    stdin, stdout and stderr are the command's. stderr also gets a line with the
    address of the sandbox's page, where you can watch, and at the end one with what
    the sandbox has seen. Exits with the status of the command; 128 + N when signal N
    ended it, 127 when there is no such command. With --plan, 1 instead of 0 when a message is bad.
    """
    import asyncio  # noqa: PLC0415 - imported late, see the package docstring
    import sqlite3  # noqa: PLC0415

    settings = SandboxOptions(port=port, **options)
    try:
        sandbox, script = make_sandbox(settings)
        status = asyncio.run(_run(sandbox, script, arguments, quiet=quiet))
    except (OSError, sqlite3.Error, ValueError) as error:
        fail(explain(error, settings))
    raise click.exceptions.Exit(status)


async def _run(sandbox: "Sandbox", faults: "Sequence[Fault]", arguments: "Sequence[str]", *, quiet: bool) -> int:
    import asyncio  # noqa: PLC0415

    from salesmachine_async.cli.sandbox.signal_forwarding import signals_forwarded  # noqa: PLC0415

    async with sandbox:
        sandbox.faults(faults)
        if not quiet:
            note(f"Sandbox: {sandbox.url}/")
        # From before the command starts: a signal that comes while it starts is forwarded when it has.
        with signals_forwarded() as forward_to:
            try:
                child = await asyncio.create_subprocess_exec(*arguments, env=_environment(sandbox.url))
            except (FileNotFoundError, NotADirectoryError):
                fail(f"there is no command {arguments[0]!r}", code=_NOT_FOUND)
            except OSError as error:
                fail(f"cannot run {arguments[0]!r}: {error.strerror or error}", code=_NOT_EXECUTABLE)
            except ValueError as error:  # a NUL among the arguments
                fail(f"cannot run {arguments[0]!r}: {error}", code=_NOT_EXECUTABLE)
            forward_to(child)
            status = await child.wait()
        if not quiet:
            note(_summary(sandbox))
        bad = sandbox.bad_messages()
        for message in bad[:_SHOWN]:
            note(f"bad: {message['event_uid'] or message['method']}: {_problems(message)}")
    if status == 0 and bad:
        return 1
    return status if status >= 0 else 128 - status


def _problems(message: "dict[str, Any]") -> str:
    return "; ".join(f"{each['path']}: {each['reason']}" for each in message["problems"])


def _environment(url: str) -> dict[str, str]:
    return os.environ | {
        "SALESMACHINE_API_URL": url,
        "SALESMACHINE_API_TOKEN": _TOKEN,
        "SALESMACHINE_API_SECRET": _TOKEN,
        "SALESMACHINE_ACCESS_TOKEN": _TOKEN,
        # A proxy of the network cannot reach this machine.
        "SALESMACHINE_PROXY": "",
    }


def _summary(sandbox: "Sandbox") -> str:
    seen = sandbox.summary()
    requests = sum(seen["requests"].values())
    counts = (
        _count(seen["contacts"], "contact"),
        _count(seen["accounts"], "account"),
        _count(seen["events"], "event"),
        f"{seen['rejected']} rejected",
        _count(seen["duplicates"], "duplicate"),
    )
    return f"Sandbox: {', '.join(counts)}; {_count(requests, 'request')}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"
