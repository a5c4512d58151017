"""What every command says to a person: data on stdout, the rest on stderr, colour only where a person looks."""

import os
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, NoReturn, TextIO

import typer

if TYPE_CHECKING:
    # Imported when something is printed: --help needs none of it.
    from rich.console import Console

# The controls of C0, DEL and C1, and what is not ASCII: the latter is looked at character by character.
_SUSPECT = re.compile("[\x00-\x1f\x7f-\x9f]|[^\x00-\x7f]")
# Controls, invisible formatting (bidi overrides among it), line and paragraph separators, halves of characters.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def out() -> "Console":
    """Make the console for data. It follows NO_COLOR, and writes no ANSI unless stdout is a terminal."""
    return _console(sys.stdout)


def err() -> "Console":
    """Make the console for everything that is not data."""
    return _console(sys.stderr)


def fail(message: str, *, code: int = 1) -> NoReturn:
    """
    Say in one line what went wrong, and exit.

    Raises:
        typer.Exit: always, with *code*.
    """
    _say("Error:", "bold red", message)
    raise typer.Exit(code)


def warn(message: str) -> None:
    """Say loudly, in one line, what the user should know before it bites."""
    _say("WARNING:", "bold yellow", message)


def note(message: str) -> None:
    """Say in one line what is going on, for who looks."""
    _say("", "", message)


def emit(text: str) -> None:
    """
    Write a line of data to stdout.

    Raises:
        typer.Exit: Who reads it has had enough, as ``| head`` has: that is no failure, so the status is 0. Or it
            cannot be written: the disk is full, stdout is closed.
    """
    try:
        stdout = _stdout()
        # Only what is not JSON can hold what the encoding of the terminal lacks.
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
    End because nobody reads stdout any more.

    Raises:
        typer.Exit: always, with 0.
    """
    _forget_stdout()
    raise typer.Exit(0)


def harmless(text: str) -> str:
    r"""Show what could steer a terminal or reverse a line as an escape, such as ``\x1b``: *text* may be anybody's."""
    return _SUSPECT.sub(lambda found: _escaped(found[0]), text)


def harmless_json(text: str) -> str:
    """Do the same within encoded JSON: what it means stays the same, as strings hold all that is not ASCII."""
    return _SUSPECT.sub(lambda found: _escaped_in_json(found[0], everything=False), text)


def ascii_json(text: str) -> str:
    """Escape all that is not ASCII within encoded JSON."""
    return _SUSPECT.sub(lambda found: _escaped_in_json(found[0], everything=True), text)


def _stdout() -> TextIO:
    stdout: TextIO | None = sys.stdout
    if stdout is None:  # started with >&-
        fail("stdout is closed")
    return stdout


def _forget_stdout() -> None:
    # Or the interpreter would complain when it flushes stdout at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _console(file: TextIO) -> "Console":
    from rich.console import Console  # noqa: PLC0415

    # rich itself takes NO_COLOR by its letters, and still prints bold.
    return Console(file=file, highlight=False, emoji=False, color_system=None if os.environ.get("NO_COLOR") else "auto")


def _say(label: str, style: str, message: str) -> None:
    from rich.text import Text  # noqa: PLC0415

    # Not as markup: "[" would open a style. Lines are joined: one message is one line.
    line = Text.assemble((label, style), " " if label else "", harmless(" ".join(message.split())))
    err().print(line, soft_wrap=True)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _HARMFUL:
        return character
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def _escaped_in_json(character: str, *, everything: bool) -> str:
    # Of the controls JSON leaves only the line ends between its tokens, which are ours.
    if character == "\n" or not (everything or unicodedata.category(character) in _HARMFUL):
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
