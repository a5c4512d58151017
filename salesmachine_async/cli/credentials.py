"""API keys from the environment, a file or stdin; never from arguments, which other users of the machine can read."""

import dataclasses
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.terminal import fail

_NAMES = (
    "SALESMACHINE_API_TOKEN",
    "SALESMACHINE_API_SECRET",
    "SALESMACHINE_API_URL",
    "SALESMACHINE_ACCESS_TOKEN",
)

# Reading stops there, because stdin may be endless.
_MAX_CHARACTERS = 64 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeys:
    """
    The keys of one command; those that are not set are empty.

    Attributes:
        token: The API token of v1.
        secret: The secret of that token.
        base_url: The URL of the API; None for the default of the library.
        access_token: The token of v2.
    """

    token: str = dataclasses.field(repr=False)
    secret: str = dataclasses.field(repr=False)
    base_url: str | None = dataclasses.field(repr=False)
    access_token: str = dataclasses.field(repr=False)

    def need_token(self) -> str:
        """
        Return the API token of v1.

        Raises:
            click.exceptions.Exit: It is not set.
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
            click.exceptions.Exit: It is not set.
        """
        if not self.access_token:
            fail(
                "no token for the Access API (v2): set SALESMACHINE_ACCESS_TOKEN, or pass --credentials FILE",
                code=USAGE,
            )
        return self.access_token


def load(file: Path | None) -> ApiKeys:
    """
    Read the keys; *file* takes precedence over the environment, name by name.

    Raises:
        click.exceptions.Exit: The file cannot be read, or a line of it is not ``NAME=value`` with a known name.
    """
    found: Mapping[str, str] = {} if file is None else _parse(_text(file), str(file))
    # A token in the file is a complete pair, because a secret in the environment belongs to another token.
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
        # The line itself is not shown, because it may hold a secret.
        if not equals or key.strip() not in _NAMES:
            fail(f"line {number} of {name} is not NAME=value with one of {', '.join(_NAMES)}", code=USAGE)
        found[key.strip()] = _value(value.strip(), f"line {number} of {name}")
    return found


def _value(text: str, where: str) -> str:
    """Return a value without its quotes and the comment after it, as a shell would read it."""
    quote = text[:1]
    if quote and quote in "\"'":
        value, closed, rest = text[1:].partition(quote)
        if not closed or (rest.strip() and not rest.lstrip().startswith("#")):
            fail(f"{where} has an unbalanced quotation mark", code=USAGE)
        return value
    # A "#" within a value belongs to it; one after a blank begins a comment.
    return re.split(r"(?:^|\s)#", text, maxsplit=1)[0].rstrip()
