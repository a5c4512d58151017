"""Sources of keys, and places where keys must not appear."""

from pathlib import Path

import pytest

from salesmachine_async.cli.credentials import ApiKeys, load
from tests.support.cli_inside import invoke
from tests.support.cli_process import run


def test_repr() -> None:
    """The keys are not in the repr."""
    keys = ApiKeys(token="tok+en/123", secret="s3cret!", base_url=None, access_token="v2-token")
    assert repr(keys) == "ApiKeys()"


def test_file_before_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file takes precedence by name; a secret of the environment is not used with a token of the file."""
    monkeypatch.setenv("SALESMACHINE_API_TOKEN", "env")
    monkeypatch.setenv("SALESMACHINE_API_SECRET", "env-secret")
    monkeypatch.setenv("SALESMACHINE_ACCESS_TOKEN", "env-v2")
    file = tmp_path / "keys.env"
    file.write_text("# ours\n\nexport SALESMACHINE_API_TOKEN='file'\n")
    found = load(file)
    assert (found.token, found.secret, found.access_token) == ("file", "", "env-v2")
    assert load(None).secret == "env-secret"


@pytest.mark.parametrize(
    ("line", "token"),
    [
        ("SALESMACHINE_API_TOKEN=abc # the shop", "abc"),
        ("SALESMACHINE_API_TOKEN=abc\t#", "abc"),
        ("SALESMACHINE_API_TOKEN=a#b", "a#b"),
        ("SALESMACHINE_API_TOKEN='a # b' # the shop", "a # b"),
        ('export SALESMACHINE_API_TOKEN="abc"# the shop', "abc"),
        ("SALESMACHINE_API_TOKEN = abc", "abc"),
        ("SALESMACHINE_API_TOKEN=# none", ""),
        ("SALESMACHINE_API_TOKEN=", ""),
    ],
)
def test_comments_after_values(tmp_path: Path, line: str, token: str) -> None:
    """A comment after a value is left out; a # within a value or quotes is part of it."""
    file = tmp_path / "keys.env"
    file.write_text(f"# keys\n{line}\n")
    assert load(file).token == token


@pytest.mark.parametrize("value", ["'abc", '"abc" def', "'a'b'"])
async def test_unbalanced_quotes(tmp_path: Path, value: str) -> None:
    """An unbalanced quotation mark is an error that does not show the value."""
    file = tmp_path / "keys.env"
    file.write_text(f"SALESMACHINE_API_TOKEN={value}\n")
    ended = await invoke("ping", "--credentials", str(file))
    assert ended.status == 2
    assert "line 1 of" in ended.err
    assert "unbalanced quotation mark" in ended.err
    assert "abc" not in ended.err.replace(str(file), "")


async def test_the_error_of_a_bad_file_has_none_of_its_lines(tmp_path: Path) -> None:
    """An error names the line and the known names, never the content."""
    file = tmp_path / "keys.env"
    file.write_text("SALESMACHINE_API_TOKEN=t\nsecret-asdfghjkl\n")
    ended = await invoke("ping", "--credentials", str(file))
    assert ended.status == 2
    assert "line 2 of" in ended.err
    assert "asdfghjkl" not in ended.err
    file.write_bytes(b"\xff")
    assert "not UTF-8" in (await invoke("ping", "--credentials", str(file))).err
    ended = await invoke("ping", "--credentials", str(tmp_path / "none"))
    assert ended.status == 2
    assert "No such file" in ended.err


@pytest.mark.parametrize("command", [["ping"], ["track", "1", "x"], ["list", "users"], ["request", "GET", "/v1/x"]])
async def test_no_keys(command: list[str]) -> None:
    """Without keys one line names the missing variable: status 2."""
    ended = await invoke(*command)
    assert ended.status == 2
    assert ended.out == ""
    assert len(ended.err.splitlines()) == 1
    assert "SALESMACHINE_A" in ended.err
    assert "--credentials FILE" in ended.err


@pytest.mark.slow
async def test_unusable_keys() -> None:
    """An unusable key is an error that does not show it, in a real process."""
    ended = await run("ping", SALESMACHINE_API_TOKEN="to ken-qwertyuiop")
    assert ended.status == 2
    problem = "the API token may only hold visible ASCII characters (no spaces, no line ends)"
    assert ended.err == f"salesmachine ping: error: {problem}\n"


async def test_another_host_without_tls() -> None:
    """http:// to another machine is an error unless --allow-http is given."""
    server = {"SALESMACHINE_API_TOKEN": "t", "SALESMACHINE_API_URL": "http://example.com"}
    ended = await invoke("ping", **server)
    assert ended.status == 2
    problem = (
        "http:// would send the API token in clear text to example.com: use https://, "
        "or set SALESMACHINE_ALLOW_HTTP=1, or use --allow-http"
    )
    assert ended.err == f"salesmachine ping: error: {problem}\n"
