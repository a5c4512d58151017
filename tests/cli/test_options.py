"""--proxy, --cacert and --allow-http of all commands that talk to a server."""

import socket
from pathlib import Path

import pytest
import trustme

from salesmachine_async.sandbox import Sandbox
from tests.support.cli_inside import invoke
from tests.support.cli_process import run
from tests.support.cli_tree import command_paths
from tests.support.servers import RawServer, ok, proxy, server_context

SERVER_COMMANDS = ["ping", "contact", "account", "track", "pageview", "alias", "import", "list", "get", "delete"]
SERVER_COMMANDS += ["request", "tail"]
KEYS = {"SALESMACHINE_API_TOKEN": "t", "SALESMACHINE_ACCESS_TOKEN": "t"}
CALLS = [["ping"], ["contact", "1"], ["list", "users"], ["get", "user", "1"], ["request", "GET", "/v1/x"]]


@pytest.mark.parametrize("name", SERVER_COMMANDS)
async def test_every_command_has_them(name: str) -> None:
    """Each command that talks to a server has the options in its help."""
    assert [name] in command_paths()
    ended = await invoke(name, "--help")
    for option in ("--credentials FILE", "--proxy URL", "--cacert FILE", "--allow-http"):
        assert option in ended.out


@pytest.mark.slow
@pytest.mark.parametrize("call", [*CALLS, ["import", "FILE"]])
async def test_proxy(tmp_path: Path, call: list[str]) -> None:
    """--proxy: the request goes to the proxy, which looks up the name."""
    file = tmp_path / "a.ndjson"
    file.write_text('{"method": "contact", "contact_uid": "1"}\n')
    words = [str(file) if word == "FILE" else word for word in call]
    async with RawServer(then=proxy()) as server:
        env = {**KEYS, "SALESMACHINE_API_URL": "http://api.localhost:1"}
        ended = await run(*words, "--proxy", server.url, **env)
        assert server.seen, ended
        assert server.seen[0].path.startswith("http://api.localhost:1/")


@pytest.mark.parametrize("call", CALLS)
async def test_unusable_options(tmp_path: Path, call: list[str]) -> None:
    """A password in --proxy, and a file without certificates in --cacert, are usage errors."""
    (tmp_path / "empty.pem").write_text("nothing")
    for options, problem in (
        (("--proxy", "http://user:s3cret@proxy:1"), "--proxy must not hold a password"),
        (("--proxy", "proxy:1"), "proxy"),
        (("--cacert", str(tmp_path / "none.pem")), "No such file"),
        (("--cacert", str(tmp_path / "empty.pem")), "it holds no certificate"),
    ):
        ended = await invoke(*call, *options, **KEYS, SALESMACHINE_API_URL="https://127.0.0.1:1")
        assert ended.status == 2, ended
        assert problem in ended.err
        assert "s3cret" not in ended.err


async def test_cacert(tmp_path: Path) -> None:
    """--cacert: a server with a certificate of this authority is trusted, without it it is not."""
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    async with RawServer(then=ok(), tls=server_context(authority, "127.0.0.1")) as server:
        env = {**KEYS, "SALESMACHINE_API_URL": server.url.replace("http://", "https://")}
        assert (await invoke("ping", "--cacert", str(file), **env)).status == 0
        ended = await invoke("ping", "--timeout", "2", **env)
        assert ended.status != 0
        assert "certificate" in ended.err


async def test_allow_http() -> None:
    """--allow-http: http:// to another name than this machine's is used."""
    async with Sandbox(allowed_hosts=[socket.gethostname()]) as sandbox:
        url = sandbox.url.replace("127.0.0.1", "shop.invalid")
        env = {**KEYS, "SALESMACHINE_API_URL": url}
        ended = await invoke("ping", **env)
        assert (ended.status, "--allow-http" in ended.err) == (2, True), ended
        ended = await invoke("ping", "--allow-http", "--timeout", "3", **env)
        # The name does not exist: the connection fails, and not the check.
        assert ended.status == 5, ended
