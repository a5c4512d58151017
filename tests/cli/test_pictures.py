"""docs/command-line.md shows every command, and its pictures load nothing from elsewhere."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support.cli_tree import command_paths, help_of

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


@pytest.mark.parametrize("words", [[], ["spool"], ["relay"], ["relay", "dead"], ["plan"]], ids=" ".join)
def test_pictures_of_help_are_up_to_date(words: list[str]) -> None:
    """They show what the program prints today."""
    typed, *shown = lines_of(DOCS / f"cli-{'-'.join(words) or 'help'}.svg")
    assert typed == " ".join(["$ salesmachine", *words, "--help"])
    assert shown == [line.rstrip() for line in help_of(words).splitlines() if line.strip()]


def lines_of(picture: Path) -> list[str]:
    """Return the text of a picture by its lines, without the empty ones."""
    lines: dict[str, list[tuple[float, str]]] = {}
    for part in ET.parse(picture).iter("{http://www.w3.org/2000/svg}text"):
        if "clip-path" in part.attrib:
            lines.setdefault(part.attrib["y"], []).append((float(part.attrib["x"]), "".join(part.itertext())))
    texts = [
        "".join(text for _, text in sorted(parts)) for _, parts in sorted(lines.items(), key=lambda y: float(y[0]))
    ]
    return [text.replace("\xa0", " ").rstrip() for text in texts if text.strip("\xa0\n ")]
