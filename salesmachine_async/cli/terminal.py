"""What every command says to a person: data on stdout, the rest on stderr, colour only where a person looks."""

import sys
from typing import NoReturn

import typer
from rich.console import Console


def out() -> Console:
    """Make the console for data. It follows NO_COLOR, and writes no ANSI unless stdout is a terminal."""
    return Console(file=sys.stdout, highlight=False, emoji=False)


def err() -> Console:
    """Make the console for everything that is not data."""
    return Console(file=sys.stderr, highlight=False, emoji=False)


def fail(message: str, *, code: int = 1) -> NoReturn:
    """
    Say in one line what went wrong, and exit.

    Raises:
        typer.Exit: always, with *code*.
    """
    err().print(f"[bold red]Error:[/] {_literal(message)}", soft_wrap=True)
    raise typer.Exit(code)


def warn(message: str) -> None:
    """Say loudly, in one line, what the user should know before it bites."""
    err().print(f"[bold yellow]WARNING:[/] {_literal(message)}", soft_wrap=True)


def _literal(text: str) -> str:
    # "[" would open a style: a URL with an IPv6 host has one. Lines are joined: one message is one line.
    return " ".join(text.split()).replace("[", r"\[")
