"""docs/command-line.md shows every command, and its pictures load nothing from elsewhere."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support.cli_tree import command_paths

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "command-line.md"
COMMANDS = ["-".join(words) or "help" for words in command_paths()]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_picture(command: str) -> None:
    """The page shows a picture of every command, drawn from the program."""
    assert f"(cli-{command}.svg)" in PAGE.read_text()
    picture = (DOCS / f"cli-{command}.svg").read_text()
    root = ET.fromstring(picture)
    text = "".join("".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text"))
    assert f"salesmachine {'--help' if command == 'help' else command.replace('-', ' ')}" in text.replace("\xa0", " ")


def test_pictures_load_nothing() -> None:
    """Pictures hold no address except those of this machine that the program printed."""
    for picture in DOCS.glob("cli-*.svg"):
        found = set(re.findall(r"(?:\w+:)?//[\w.]+", picture.read_text()))
        assert found <= {"http://www.w3.org", "http://127.0.0.1", "redis://127.0.0.1"}, picture


def test_the_picture_of_the_help_is_up_to_date() -> None:
    """The picture of the help names all commands."""
    picture = (DOCS / "cli-help.svg").read_text()
    for command in COMMANDS:
        if command != "help" and "-" not in command:
            assert f"&#160;{command}&#160;" in picture, command
