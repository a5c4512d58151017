"""The options that name an engine, and how it is opened."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import click

from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.runner import give_up
from salesmachine_async.cli.terminal import fail

if TYPE_CHECKING:
    from salesmachine_async.engines.redis import RedisEngine

ENGINE_VARIABLE = "SALESMACHINE_ENGINE"
NAME_VARIABLE = "SALESMACHINE_ENGINE_NAME"
DEFAULT_NAME = "default"


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--engine`` and ``--name``; pass a function that opens the engine as *open_engine*."""

    @functools.wraps(command)
    def packed(*args: Any, engine: str | None, name: str | None, **others: Any) -> Any:
        group = click.get_current_context().find_root().meta.setdefault(__name__, {})
        # Options before a subcommand hold for it, unless it has its own.
        group.update({key: value for key, value in (("engine", engine), ("name", name)) if value is not None})
        opener = functools.partial(_open, group.get("engine"), group.get("name") or DEFAULT_NAME)
        return command(*args, open_engine=opener, **others)

    engine_option = click.option(
        "--engine",
        metavar="URL",
        callback=_without_password,
        help=f"Redis or Valkey, such as redis://127.0.0.1:6379/3; one with a password: {ENGINE_VARIABLE}.",
    )
    name_option = click.option(
        "--name",
        metavar="NAME",
        help=f"The name of the queue, as of the agents' transport; default: {NAME_VARIABLE}, else {DEFAULT_NAME}.",
    )
    found: Callable[..., Any] = name_option(packed)
    return engine_option(found)


def _without_password(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and _holds_password(value):
        fail(
            f"--engine must not hold a password, which others could read: set {ENGINE_VARIABLE}",
            code=USAGE,
        )
    return value


def _holds_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # malformed, which is reported when it is opened
        return False
    return "@" in parts.netloc or any("password" in option for option in parse_qs(parts.query))


def _open(engine: str | None, name: str, **settings: Any) -> RedisEngine:
    """
    Return the engine, not connected yet.

    Raises:
        click.exceptions.Exit: It is not named, its URL is malformed, or the extra is not installed.
    """
    import os  # noqa: PLC0415 - read when a command runs, not when the program starts

    url = engine or os.environ.get(ENGINE_VARIABLE, "")
    if name == DEFAULT_NAME:
        name = os.environ.get(NAME_VARIABLE) or DEFAULT_NAME
    if not url:
        fail(f"no engine: pass --engine URL or set {ENGINE_VARIABLE}", code=USAGE)
    try:
        from salesmachine_async.engines.redis import RedisEngine  # noqa: PLC0415 - needs an extra
    except ModuleNotFoundError:
        fail("the relay needs redis-py: pip install 'salesmachine-async[redis]'", code=USAGE)
    from salesmachine_async.errors import ConfigError  # noqa: PLC0415

    try:
        return RedisEngine(url, name=name, **settings)
    except ConfigError as error:
        give_up(error)
