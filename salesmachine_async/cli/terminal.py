"""Output of the commands: data on stdout, everything else on stderr, colour only on a terminal."""

import os
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, NoReturn, TextIO

import click

if TYPE_CHECKING:
    # Imported when something is printed, because --help does not need it.
    from rich.console import Console

# The controls of C0, DEL and C1, and what is not ASCII: the latter is looked at character by character.
_SUSPECT = re.compile("[\x00-\x1f\x7f-\x9f]|[^\x00-\x7f]")
# Controls, invisible formatting (bidi overrides among it), line and paragraph separators, halves of characters.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def out() -> "Console":
    """Return a console for data. It follows NO_COLOR and writes no ANSI unless stdout is a terminal."""
    return _console(sys.stdout)


def err() -> "Console":
    """Return a console for everything that is not data."""
    return _console(sys.stderr)


def fail(message: str, *, code: int = 1, command: str = "") -> NoReturn:
    """
    Print an error in one line, which begins with the name of the command, and exit.

    Args:
        message: The problem, its place, and the fix.
        code: The exit status.
        command: The command's name; empty for the one that runs.

    Raises:
        click.exceptions.Exit: Always.
    """
    _print(f"{command or _command()}: error:", "bold red", message)
    raise click.exceptions.Exit(code)


def warn(message: str) -> None:
    """Print a warning in one line, which begins with the name of the command."""
    _print(f"{_command()}: warning:", "bold yellow", message)


def note(message: str) -> None:
    """Print one line of information."""
    _print("", "", message)


def emit(text: str) -> None:
    """
    Write a line of data to stdout.

    Raises:
        click.exceptions.Exit: With 0 when the reader has closed the pipe, as ``| head`` does; with 1 when the text
            cannot be written because the disk is full or stdout is closed.
    """
    try:
        stdout = _stdout()
        # Plain text may hold characters that the encoding of stdout lacks; JSON has been escaped before.
        encoding = stdout.encoding
        stdout.write(f"{text.encode(encoding, 'backslashreplace').decode(encoding)}\n")
        stdout.flush()
    except BrokenPipeError:
        reader_left()
    except OSError as error:
        _forget_stdout()
        fail(f"cannot write to stdout: {error.strerror or error}")


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return _stdout().isatty()


def takes_unicode() -> bool:
    """Whether stdout can show any character."""
    return _stdout().encoding.lower().replace("-", "") == "utf8"


def reader_left() -> NoReturn:
    """
    Exit successfully after the reader of stdout has closed it.

    Raises:
        click.exceptions.Exit: Always, with 0.
    """
    _forget_stdout()
    raise click.exceptions.Exit(0)


def harmless(text: str) -> str:
    r"""Escape characters of *text* that could control a terminal or reverse a line, such as ``\x1b``."""
    return _SUSPECT.sub(lambda found: _escaped(found[0]), text)


def harmless_json(text: str) -> str:
    """Escape the same characters within encoded JSON, which keeps its meaning."""
    return _SUSPECT.sub(lambda found: _escaped_in_json(found[0], everything=False), text)


def ascii_json(text: str) -> str:
    """Escape all characters beyond ASCII within encoded JSON."""
    return _SUSPECT.sub(lambda found: _escaped_in_json(found[0], everything=True), text)


def _command() -> str:
    context = click.get_current_context(silent=True)
    return context.command_path if context is not None else "salesmachine"


def _stdout() -> TextIO:
    stdout: TextIO | None = sys.stdout
    if stdout is None:  # started with >&-
        fail("stdout is closed")
    return stdout


def _forget_stdout() -> None:
    # The interpreter flushes stdout at exit and would report the error again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console(file: TextIO) -> "Console":
    from rich.console import Console  # noqa: PLC0415

    # With NO_COLOR rich still prints bold text.
    return Console(file=file, highlight=False, emoji=False, color_system=None if os.environ.get("NO_COLOR") else "auto")


def _print(label: str, style: str, message: str) -> None:
    from rich.text import Text  # noqa: PLC0415

    # A Text is no markup, where "[" would open a style. Line ends are replaced so that a message is one line.
    line = Text.assemble((label, style), " " if label else "", harmless(" ".join(message.split())))
    err().print(line, soft_wrap=True)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _HARMFUL:
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def _escaped_in_json(character: str, *, everything: bool) -> str:
    # Encoded JSON has no control characters except the line ends between its tokens.
    if character == "\n" or not (everything or unicodedata.category(character) in _HARMFUL):
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
