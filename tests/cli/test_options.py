"""--proxy, --cacert and --allow-http of all commands that talk to a server."""

import socket
from pathlib import Path

import pytest
import trustme
from aiohttp.test_utils import unused_port

from salesmachine_async.sandbox import Sandbox
from tests.support.cli_inside import invoke
from tests.support.cli_process import run
from tests.support.cli_tree import command_paths
from tests.support.servers import RawServer, ok, proxy, server_context

pytestmark = pytest.mark.one_python

# Commands and groups that talk to no server but their own, and those whose server needs no key.
LOCAL = [
    *([], ["plan"], ["sandbox"], ["sandbox", "exec"], ["completion"]),
    *(
        ["relay", *words]
        for words in (["status"], ["dead"], *(["dead", name] for name in ("ls", "show", "retry", "purge")))
    ),
    *(["spool"], *(["spool", name] for name in ("ls", "check", "show", "export", "purge"))),
]
KEYLESS = [["demo"], ["plan", "infer"]]
KEYS = {"SALESMACHINE_API_TOKEN": "t", "SALESMACHINE_ACCESS_TOKEN": "t"}
CALLS = [["ping"], ["contact", "1"], ["list", "users"], ["get", "user", "1"], ["request", "GET", "/v1/x"]]
OTHERS = [["tail"], ["plan", "infer", "http://api.localhost:1"], ["demo", "--url", "http://api.localhost:1"]]


@pytest.mark.parametrize("path", [path for path in command_paths() if path not in LOCAL], ids=" ".join)
async def test_every_command_has_them(path: list[str]) -> None:
    """Each command that talks to a server has the options in its help: all but those listed here do."""
    ended = await invoke(*path, "--help")
    for option in ("--proxy URL", "--cacert FILE", "--allow-http"):
        assert option in ended.out
    assert ("--credentials FILE" in ended.out) == (path not in KEYLESS)


@pytest.mark.slow
@pytest.mark.parametrize("call", [*CALLS, ["import", "FILE"], *OTHERS], ids=" ".join)
async def test_proxy(tmp_path: Path, call: list[str]) -> None:
    """--proxy, or the variable: the request goes to the proxy, which looks up the name."""
    file = tmp_path / "a.ndjson"
    file.write_text('{"method": "contact", "contact_uid": "1"}\n')
    words = [str(file) if word == "FILE" else word for word in call]
    async with RawServer(then=proxy()) as server:
        env = {**KEYS, "SALESMACHINE_API_URL": "http://api.localhost:1"}
        for options, variables in ((("--proxy", server.url), {}), ((), {"SALESMACHINE_PROXY": server.url})):
            server.seen.clear()
            ended = await run(*words, *options, **env, **variables)
            assert server.seen, ended
            assert server.seen[0].path.startswith("http://api.localhost:1/")


@pytest.mark.parametrize("call", [*CALLS, *OTHERS], ids=" ".join)
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


@pytest.mark.slow
@pytest.mark.parametrize("command", ["tail", "plan infer", "demo"])
async def test_cacert_of_a_sandbox(tmp_path: Path, command: str) -> None:
    """--cacert, or the variable: commands that read a sandbox trust this authority, and without it they do not."""
    authority = trustme.CA()
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    async with RawServer(then=ok(), tls=server_context(authority, "127.0.0.1")) as server:
        url = server.url.replace("http://", "https://")
        words = {"tail": ["tail"], "plan infer": ["plan", "infer", url], "demo": ["demo", "--url", url]}[command]
        env = {"SALESMACHINE_API_URL": url}
        ended = await invoke(*words, **env)
        assert (server.seen, "certificate" in ended.err.lower()) == ([], True), ended
        for options, variables in ((("--cacert", str(file)), {}), ((), {"SALESMACHINE_CA_FILE": str(file)})):
            server.seen.clear()
            ended = await invoke(*words, *options, **env, **variables)
            assert server.seen, ended


@pytest.mark.parametrize("words", [["tail"], ["plan", "infer", "URL"], ["demo", "--url", "URL"]], ids=" ".join)
async def test_allow_http_to_a_sandbox(words: list[str]) -> None:
    """http:// to another machine is a usage error, except with --allow-http or the variable."""
    url = f"http://shop.invalid:{unused_port()}"
    words = [url if word == "URL" else word for word in words]
    env = {"SALESMACHINE_API_URL": url}
    ended = await invoke(*words, **env)
    assert ended.status == 2, ended
    assert "or use --allow-http" in ended.err
    for options, variables in ((("--allow-http",), {}), ((), {"SALESMACHINE_ALLOW_HTTP": "1"})):
        ended = await invoke(*words, *options, **env, **variables)
        assert "--allow-http" not in ended.err, ended
        assert "shop.invalid" in ended.err or "Name or service" in ended.err, ended


@pytest.mark.parametrize("option", ["--proxy=http://127.0.0.1:1", "--cacert=/dev/null", "--allow-http"])
async def test_options_of_the_demo_without_a_server(option: str) -> None:
    """The embedded sandbox needs none of the options; a proxy in the environment is not used for it."""
    ended = await invoke("demo", option)
    assert (ended.status, "need --url" in ended.err) == (2, True), ended


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
