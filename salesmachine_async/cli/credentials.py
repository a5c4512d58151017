"""Where a command's keys come from: the environment, a file or stdin; never its arguments, which others can read."""

import dataclasses
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.terminal import fail

_NAMES = (
    "SALESMACHINE_API_TOKEN",
    "SALESMACHINE_API_SECRET",
    "SALESMACHINE_API_URL",
    "SALESMACHINE_ACCESS_TOKEN",
)

# So much of a key is worth hiding; less is in many words.
_TELLING = 4

# No line of a credentials file is longer; reading stops there, whatever stdin is.
_MAX_CHARACTERS = 64 * 1024

CredentialsFile = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        metavar="FILE",
        help="Read the keys from this file, SALESMACHINE_API_TOKEN=… and so on, one per line (- for stdin). "
        "It wins over the environment.",
    ),
]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeys:
    """
    The keys of one command. Empty where nothing was said.

    Attributes:
        token: The API token of v1.
        secret: Its secret.
        base_url: The API's address; None: the library's default.
        access_token: The token of v2.
    """

    token: str = dataclasses.field(repr=False)
    secret: str = dataclasses.field(repr=False)
    base_url: str | None = dataclasses.field(repr=False)
    access_token: str = dataclasses.field(repr=False)

    def hide(self, text: str) -> str:
        """Return *text*, in which a server may have quoted a request, without the keys in any form they travel in."""
        import base64  # noqa: PLC0415 - only after a failure
        from urllib.parse import quote  # noqa: PLC0415

        pairs = (f"{self.token}:{self.secret}", f"{self.access_token}:")
        encoded = (base64.b64encode(pair.encode(errors="replace")).decode() for pair in pairs)
        plain = (self.token, self.secret, self.access_token)
        forms = {*encoded, *plain, *(quote(each, safe="", errors="replace") for each in plain)}
        # The longest first: a short secret may be part of a token.
        longest_first = sorted(filter(None, forms), key=len, reverse=True)
        for form in longest_first:
            text = text.replace(form, "[key]")
        # What a server says is cut off at some length, and so may be a key at its end.
        cuts = (form[:length] for form in longest_first for length in range(len(form) - 1, _TELLING - 1, -1))
        return next((text[: -len(cut)] + "[key]" for cut in cuts if text.endswith(cut)), text)

    def need_token(self) -> str:
        """
        Return the API token of v1.

        Raises:
            typer.Exit: There is none.
        """
        if not self.token:
            fail(
                "no API token: set SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET, or pass --credentials FILE",
                code=USAGE,
            )
        return self.token

    def need_access_token(self) -> str:
        """
        Return the token of v2.

        Raises:
            typer.Exit: There is none.
        """
        if not self.access_token:
            fail(
                "no token for the Access API (v2): set SALESMACHINE_ACCESS_TOKEN, or pass --credentials FILE",
                code=USAGE,
            )
        return self.access_token


def load(file: Path | None) -> ApiKeys:
    """
    Read the keys: *file* before the environment, name by name.

    Raises:
        typer.Exit: The file cannot be read, or a line of it is not ``NAME=value`` with a known name.
    """
    found: Mapping[str, str] = {} if file is None else _parse(_text(file), str(file))
    # A file that names a token is a whole key pair: a secret of the environment belongs to another token.
    pair_in_file = "SALESMACHINE_API_TOKEN" in found

    def value(name: str) -> str:
        if name == "SALESMACHINE_API_SECRET" and pair_in_file:
            return found.get(name, "")
        return found.get(name) or os.environ.get(name, "")

    token, secret, base_url, access_token = map(value, _NAMES)
    return ApiKeys(token=token, secret=secret, base_url=base_url or None, access_token=access_token)


def _text(file: Path) -> str:
    try:
        if str(file) == "-":
            return sys.stdin.read(_MAX_CHARACTERS)
        with file.open(encoding="utf-8") as lines:
            return lines.read(_MAX_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read the credentials in {file}: {getattr(error, 'strerror', None) or 'not UTF-8'}", code=USAGE)


def _parse(text: str, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, equals, value = stripped.removeprefix("export ").partition("=")
        # The line itself is not shown: it may hold a secret.
        if not equals or key.strip() not in _NAMES:
            fail(f"line {number} of {name} is not NAME=value with one of {', '.join(_NAMES)}", code=USAGE)
        found[key.strip()] = value.strip().strip("\"'")
    return found
