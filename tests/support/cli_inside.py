"""Runs the command's code in this process: one of its own costs half a second of imports, and often adds nothing."""

import asyncio
import os

from click.testing import CliRunner

from salesmachine_async.cli.app import app
from tests.support.cli_process import Ended


def invoke_here(*arguments: str, stdin: str = "", **extra: str) -> Ended:
    """Run it in this thread: in the main one it may listen to signals. The server must be elsewhere."""
    ours = {name: None for name in os.environ if name.startswith("SALESMACHINE_")}
    env: dict[str, str | None] = {**ours, "COLUMNS": "200", **extra}
    result = CliRunner().invoke(app, list(arguments), input=stdin, env=env, prog_name="salesmachine")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


async def invoke(*arguments: str, stdin: str = "", **extra: str) -> Ended:
    """Run it in another thread, and go on with the event loop, where the server may be."""
    return await asyncio.to_thread(invoke_here, *arguments, stdin=stdin, **extra)
