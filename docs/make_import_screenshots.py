"""
Makes the pictures of `salesmachine import`, as `make_screenshots.py` makes those of the other commands.

    .venv/bin/python docs/make_import_screenshots.py

The file it imports has 120,000 rows with three mistakes, and is made anew each time.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import make_screenshots as pictures

COMMAND = (
    "salesmachine import people.csv --type contact --map id=contact_uid --types mrr=number --rejects rejects.ndjson"
)
ROWS = 120_000
# Line: what stands there instead of what should.
MISTAKES = {58: (",", "57,"), 8124: ("lots", "24.5"), 40_002: ('"Bob', "Bob")}


def main() -> None:
    """Make both."""
    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)
    write(Path("people.csv"))
    written: list[str] = []
    run = pictures.run

    def remember(command: str, environment: dict[str, str], keys: tuple[tuple[str, str], ...]) -> str:
        written.append(run(command, environment, keys))
        return written[-1]

    pictures.run = remember
    scene = pictures.Scene("import", (COMMAND,))
    save("import", pictures.draw(scene, pictures.shoot(scene, folder)))
    # The bar as it was at about a half of the file: all that was written until then, and nothing of what followed.
    frames = written[0].split("waiting")
    half = next(number for number, frame in enumerate(frames) if any(f" {share}%" in frame for share in range(45, 70)))
    shown = pictures.screen_of("waiting".join(frames[: half + 1]) + "waiting")
    scene = pictures.Scene("import-half", (COMMAND,))
    save("import-half", pictures.draw(scene, f"\x1b[1;32m$\x1b[0m {COMMAND}\n{shown}"))


def write(path: Path) -> None:
    """Write the file."""
    with path.open("w") as file:
        file.write("id,name,email,phone,mrr,created_at\n")
        for number in range(1, ROWS + 1):
            name = "Bob" if number == 40_001 else f'"Somebody, the {number}th"'
            line = f"{number},{name},c{number}@example.com,06{number:08},{number % 90}.5,2025-06-01T10:00:00Z\n"
            if number + 1 in MISTAKES:
                wrong, right = MISTAKES[number + 1]
                line = line.replace(right if right in line else f"{number % 90}.5", wrong, 1)
            file.write(line)


def save(name: str, picture: str) -> None:
    """Write a picture beside the documents."""
    (pictures.HERE / f"cli-{name}.svg").write_text(picture, encoding="utf-8")
    sys.stdout.write(f"docs/cli-{name}.svg\n")


if __name__ == "__main__":
    main()
