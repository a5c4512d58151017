"""Credentials and base URL are checked before a request is sent, and errors never hold them."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import trustme

from salesmachine_async import Agent, ThreadedAgent
from salesmachine_async._core.batch import Batch
from salesmachine_async._delivery.transport import HttpTransport
from salesmachine_async._http.config import (
    ALLOW_HTTP_VARIABLE,
    CA_FILE_VARIABLE,
    DEFAULT_URL,
    PROXY_VARIABLE,
    SECRET_VARIABLE,
    TOKEN_VARIABLE,
    URL_VARIABLE,
    check_base_url,
    check_credentials,
    check_proxy,
    from_environment,
)
from salesmachine_async.access import AccessClient
from salesmachine_async.access.client import ACCESS_TOKEN_VARIABLE
from salesmachine_async.errors import ConfigError
from tests.support.servers import RawServer, proxy, says, server_context

HIDDEN = "hush4711"


def traceback_of(error: pytest.ExceptionInfo[BaseException]) -> str:
    """Return the text of a traceback of an error, with its cause and context."""
    texts = []
    exc: BaseException | None = error.value
    while exc is not None:
        texts.append(f"{exc!s} {exc!r}")
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return " ".join(texts)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *(TOKEN_VARIABLE, SECRET_VARIABLE, URL_VARIABLE),
        *(ALLOW_HTTP_VARIABLE, PROXY_VARIABLE, CA_FILE_VARIABLE, ACCESS_TOKEN_VARIABLE),
    ):
        monkeypatch.delenv(name, raising=False)


# The base URL.


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        (f"https://user:{HIDDEN}@api.example.com", "credentials"),
        (f"https://{HIDDEN}@api.example.com", "credentials"),
        (f"https://:{HIDDEN}@api.example.com", "credentials"),
        ("https://:@api.example.com", "credentials"),
        (f"http://user:{HIDDEN}@api.example.com", "credentials"),
        (f"ftp://user:{HIDDEN}@api.example.com", "https://"),
        (f"https://user:{HIDDEN}@", "not a URL|no host"),
        (f"https://user:{HIDDEN}@api.example.com:port", "not a URL"),
        (f"https://a\\@{HIDDEN}.com", "not a URL|credentials"),
        ("ws://api.example.com", "https://"),
        ("file:///etc/passwd", "https://"),
        ("api.example.com", "https://"),
        ("//api.example.com", "https://"),
        ("", "https://"),
        ("https:", "no host"),
        ("https://", "no host"),
        ("https:///v1", "no host"),
        ("https://:443", "no host|not a URL"),
        ("https://api.example.com:0", "port"),
        ("https://api.example.com:99999", "not a URL|port"),
        ("https://api.example.com:-1", "not a URL|port"),
        ("https://[::1", "not a URL"),
        (f"https://api.example.com/?key={HIDDEN}", "query"),
        (f"https://api.example.com/#{HIDDEN}", "fragment"),
        ("https://api.example.com/a b", "spaces"),
        (" https://api.example.com", "spaces"),
        ("https://api.example.com\n", "control"),
        (f"https://api.example.com\r\nX-Key: {HIDDEN}", "control"),
        ("https://api.example.com\t", "control"),
        ("https://api.example.com\x00", "control"),
        ("https://api.example.com\x7f", "control"),
        ("https://api.example.com\u2028", "control"),
        ("https://api.example.com/\ud800", "control"),
        (f"https://xn--{HIDDEN}-\u00e4.com", "not a URL"),
    ],
)
def test_unusable_base_url_is_refused_unechoed(url: str, complaint: str) -> None:
    """The error names the problem and does not repeat the URL, which may hold a password."""
    with pytest.raises(ConfigError, match=complaint) as error:
        HttpTransport("token", base_url=url)
    assert HIDDEN not in traceback_of(error)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("url", [b"https://api.example.com", 7, ["https://api.example.com"], object()])
def test_base_url_of_another_type_is_refused(url: Any) -> None:
    """A base URL that is not a str raises ConfigError."""
    with pytest.raises(ConfigError, match="must be a str, not"):
        check_base_url(url)


@pytest.mark.parametrize(
    "url",
    ["http://api.example.com", "http://10.0.0.1", "http://0.0.0.0:8080", "http://[::]", "http://[2001:db8::1]:8000"],
)
def test_plain_http_to_another_machine_must_be_allowed(url: str) -> None:
    """http:// to another machine needs allow_http, because it sends the token in clear text."""
    with pytest.raises(ConfigError, match="allow_http=True"):
        HttpTransport("token", base_url=url)
    assert url in repr(HttpTransport("token", base_url=url, allow_http=True))


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost.example.com",
        "http://notlocalhost",
        "http://127.0.0.1.example.com",
        "http://127.1",
        "http://2130706433",
        "http://0x7f000001",
        "http://localhost%00.example.com",
    ],
)
def test_names_that_resemble_loopback_are_not_loopback(url: str) -> None:
    """A name or number that a resolver may read differently is not loopback."""
    with pytest.raises(ConfigError, match="http:// would send"):
        check_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "http://LocalHost:8000",
        "http://x.localhost:8000/base",
        "http://127.0.0.1:1",
        "http://127.0.0.2",
        "http://[::1]:8000",
    ],
)
def test_plain_http_to_this_machine_is_allowed(url: str) -> None:
    """Loopback addresses and names under localhost may use http://."""
    assert check_base_url(url).scheme == "http"


@pytest.mark.parametrize(
    "url", ["https://api.example.com", "HTTPS://api.example.com:65535/", "https://bücher.example/base", "https://[::1]"]
)
def test_https_is_allowed_anywhere(url: str) -> None:
    """Any host, port and path may use https://."""
    assert check_base_url(url).scheme == "https"


# Credentials.

UNUSABLE = [
    "a\rb",
    "a\nb",
    "a\r\nX: y",
    "a\x00b",
    "a\x7fb",
    "a\tb",
    "a b",
    " ",
    "a\x1bb",
    "pässword",
    "a\u2028",
    "\ud800",
]


@pytest.mark.parametrize("bad", UNUSABLE)
@pytest.mark.parametrize("name", ["token", "secret"])
def test_unusable_credentials_are_refused_unechoed(name: str, bad: str) -> None:
    """Only visible ASCII is accepted in a header; the error does not repeat the value."""
    credentials = {"token": "t", "secret": "s", name: HIDDEN + bad}
    with pytest.raises(ConfigError, match=f"the API {name} may only hold visible ASCII") as error:
        HttpTransport(credentials["token"], credentials["secret"])
    assert HIDDEN not in traceback_of(error)


def test_colon_belongs_to_the_secret_only() -> None:
    """A token must not hold a colon, because HTTP Basic ends the user at the first one."""
    with pytest.raises(ConfigError, match="colon") as error:
        check_credentials(f"{HIDDEN}:x", "secret")
    assert HIDDEN not in traceback_of(error)
    check_credentials("token", "a:b:c")


@pytest.mark.parametrize("value", [None, 7, b"bytes", ["t"]])
def test_credentials_of_another_type_are_refused(value: Any) -> None:
    """A token or secret that is not a str raises ConfigError."""
    with pytest.raises(ConfigError, match=f"the API token must be a str, not {type(value).__name__}"):
        check_credentials(value, "")
    with pytest.raises(ConfigError, match="the API secret must be a str"):
        check_credentials("token", value)


def test_token_is_needed_and_secret_is_not() -> None:
    """An empty token raises; an empty secret is allowed, as the documentation shows an empty password."""
    with pytest.raises(ConfigError, match=TOKEN_VARIABLE):
        HttpTransport()
    with pytest.raises(ConfigError, match=TOKEN_VARIABLE):
        HttpTransport("", "secret")
    HttpTransport("token")


def test_all_visible_ascii_is_allowed() -> None:
    """Every visible ASCII character is accepted."""
    visible = "".join(map(chr, range(0x21, 0x7F)))
    check_credentials(visible.replace(":", ""), visible)


# The environment.


def test_missing_arguments_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each argument that is None comes from its environment variable."""
    monkeypatch.setenv(TOKEN_VARIABLE, "t")
    monkeypatch.setenv(SECRET_VARIABLE, "s")
    monkeypatch.setenv(URL_VARIABLE, "http://localhost:1")
    assert from_environment(None, None, None) == ("t", "s", "http://localhost:1")
    assert from_environment("T", "S", "U") == ("T", "S", "U")
    assert from_environment("T", None, None) == ("T", "s", "http://localhost:1")
    assert repr(HttpTransport()) == "<HttpTransport http://localhost:1>"


def test_defaults_without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a secret it is empty; without a URL, or with an empty variable, it is Salesmachine's."""
    assert from_environment(None, None, None) == ("", "", DEFAULT_URL)
    monkeypatch.setenv(URL_VARIABLE, "")
    assert from_environment("t", None, None) == ("t", "", "https://api.salesmachine.io")


def test_empty_arguments_are_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty token or URL that is passed raises and is not replaced by the environment."""
    monkeypatch.setenv(TOKEN_VARIABLE, "t")
    monkeypatch.setenv(URL_VARIABLE, "http://localhost:1")
    assert from_environment("", "", "") == ("", "", "")
    with pytest.raises(ConfigError):
        HttpTransport("")
    with pytest.raises(ConfigError):
        HttpTransport("t", base_url="")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (TOKEN_VARIABLE, f"{HIDDEN}\n"),
        (SECRET_VARIABLE, f"{HIDDEN}\n"),
        (URL_VARIABLE, f"https://user:{HIDDEN}@api.example.com"),
    ],
)
def test_environment_is_checked_like_arguments(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """A variable with a line end raises at construction; the error does not repeat the value."""
    monkeypatch.setenv(TOKEN_VARIABLE, "t")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as error:
        HttpTransport()
    assert HIDDEN not in traceback_of(error)


@pytest.mark.parametrize(
    "proxy", ["nonsense", "", "socks5://h:1", "ftp://h", "http://", "http://h:99999", "//h:1", 7, b"http://h:1"]
)
def test_unusable_proxy_is_refused_and_not_echoed(proxy: Any) -> None:
    """An unusable proxy raises at construction."""
    with pytest.raises(ConfigError, match="proxy must be") as caught:
        check_proxy(proxy)
    assert "99999" not in str(caught.value)


def test_usable_proxy_may_hold_credentials() -> None:
    """The user and password of a proxy are part of its URL."""
    assert check_proxy("http://user:pw@127.0.0.1:3128").port == 3128


# What the errors say: each names the way out.


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (7, "the base URL must be a str, not int"),
        ("https://a b", "the base URL must not hold spaces or control characters"),
        ("https://[::1", "the base URL is not a URL"),
        ("ftp://h", "the base URL must begin with https:// (or http:// for this machine)"),
        ("https:///v1", "the base URL has no host"),
        ("https://u:p@h", "the base URL must not hold credentials: pass token= and secret="),
        ("https://h/?q", "the base URL must not hold a query or a fragment"),
        ("https://h/#f", "the base URL must not hold a query or a fragment"),
        ("https://h:0", "the base URL has no usable port"),
        (
            "http://h",
            "http:// would send the API token in clear text to h: use https://, "
            "or set SALESMACHINE_ALLOW_HTTP=1, or pass transport=HttpTransport(..., allow_http=True)",
        ),
    ],
)
def test_error_says_what_is_wrong_with_the_base_url(url: Any, says: str) -> None:
    """The error names the first problem in a sentence that says what to do."""
    with pytest.raises(ConfigError) as error:
        check_base_url(url)
    assert str(error.value) == says


@pytest.mark.parametrize(
    ("token", "secret", "says"),
    [
        ("", "s", "no API token: pass token= or set SALESMACHINE_API_TOKEN"),
        ("t", 7, "the API secret must be a str, not int"),
        ("a b", "s", "the API token may only hold visible ASCII characters (no spaces, no line ends)"),
        ("a:b", "s", "the API token must not hold a colon: it is the user of HTTP Basic authentication"),
    ],
)
def test_error_says_what_is_wrong_with_the_credentials(token: Any, secret: Any, says: str) -> None:
    """The error names the argument and the characters that it may hold."""
    with pytest.raises(ConfigError) as error:
        check_credentials(token, secret)
    assert str(error.value) == says


@pytest.mark.parametrize(
    ("proxy", "says"), [(7, "proxy must be a str, not int"), ("nonsense", "proxy must be a URL as http://host:port")]
)
def test_error_says_what_is_wrong_with_the_proxy(proxy: Any, says: str) -> None:
    """The error holds an example of a usable proxy URL."""
    with pytest.raises(ConfigError) as error:
        check_proxy(proxy)
    assert str(error.value) == says


def test_proxy_over_tls() -> None:
    """An https:// proxy is accepted; its default port is 443."""
    assert check_proxy("https://proxy.example.com").port == 443


def test_names_of_the_variables_are_public() -> None:
    """The default URL and the names of the variables are part of the public interface."""
    assert (TOKEN_VARIABLE, SECRET_VARIABLE, URL_VARIABLE) == (
        "SALESMACHINE_API_TOKEN",
        "SALESMACHINE_API_SECRET",
        "SALESMACHINE_API_URL",
    )


# The network, by arguments or the environment, for both clients.

CLIENTS: dict[str, Callable[..., Any]] = {
    "transport": lambda **options: HttpTransport("token", **options),
    "access client": lambda **options: AccessClient("token", retry=None, **options),
}
both = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
ELSEWHERE = "http://sandbox:8700"


async def ping(client: Any) -> None:
    """Make one request and check that it is answered 200."""
    async with aclosing(client):
        if isinstance(client, HttpTransport):
            outcome = await client.send(Batch.ping())
            assert outcome.status == 200, outcome.error
        else:
            await client.ping()


@both
@pytest.mark.parametrize("value", ["1", "true", "TRUE", "yes", "on", " 1 "])
def test_plain_http_may_be_allowed_by_the_environment(
    client: Callable[..., Any], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SALESMACHINE_ALLOW_HTTP=1 allows http:// to another host, as in docker compose; an argument takes precedence."""
    monkeypatch.setenv(ALLOW_HTTP_VARIABLE, value)
    assert ELSEWHERE in repr(client(base_url=ELSEWHERE))
    with pytest.raises(ConfigError, match=f"{ALLOW_HTTP_VARIABLE}=1"):
        client(base_url=ELSEWHERE, allow_http=False)


@both
@pytest.mark.parametrize("value", ["0", "false", "no", "off", "", " "])
def test_plain_http_is_not_allowed_by_an_environment_that_says_no(
    client: Callable[..., Any], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that is off or empty does not allow http://; an argument takes precedence."""
    monkeypatch.setenv(ALLOW_HTTP_VARIABLE, value)
    with pytest.raises(ConfigError, match="http:// would send"):
        client(base_url=ELSEWHERE)
    assert ELSEWHERE in repr(client(base_url=ELSEWHERE, allow_http=True))


@both
@pytest.mark.parametrize("value", ["2", "maybe", "1 0", "ja", "True!"])
def test_invalid_flag_is_an_error(client: Callable[..., Any], value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid value of SALESMACHINE_ALLOW_HTTP raises; the error names the variable."""
    monkeypatch.setenv(ALLOW_HTTP_VARIABLE, value)
    with pytest.raises(ConfigError, match=f"^{ALLOW_HTTP_VARIABLE} must be 1 or 0$"):
        client()


def test_an_agent_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent reads the variable for its own transport."""
    monkeypatch.setenv(ALLOW_HTTP_VARIABLE, "1")
    monkeypatch.setenv(URL_VARIABLE, ELSEWHERE)
    Agent("token")
    monkeypatch.delenv(ALLOW_HTTP_VARIABLE)
    with pytest.raises(ConfigError, match=ALLOW_HTTP_VARIABLE):
        Agent("token")


@both
async def test_proxy_of_the_environment(client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """SALESMACHINE_PROXY carries the requests; an argument takes precedence; an empty variable means no proxy."""
    async with RawServer(then=proxy()) as first, RawServer(then=proxy()) as second, RawServer() as server:
        monkeypatch.setenv(PROXY_VARIABLE, first.url)
        await ping(client(base_url="http://api.localhost:1"))
        await ping(client(base_url="http://api.localhost:1", proxy=second.url))
        monkeypatch.setenv(PROXY_VARIABLE, "")
        await ping(client(base_url=server.url))
        assert [len(each.seen) for each in (first, second, server)] == [1, 1, 1]


@both
@pytest.mark.parametrize("value", [f"socks5://user:{HIDDEN}@host:1", "host:3128", f"http://{HIDDEN}@", "http://h:x"])
def test_unusable_proxy_of_the_environment(
    client: Callable[..., Any], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unusable SALESMACHINE_PROXY raises; the error names the variable and does not repeat the value."""
    monkeypatch.setenv(PROXY_VARIABLE, value)
    with pytest.raises(ConfigError, match=f"^{PROXY_VARIABLE} must be") as error:
        client()
    assert HIDDEN not in traceback_of(error)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, Path]:
    """Create a certificate authority and the file of its certificate."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made, tmp_path / "ca.pem"


@both
async def test_certificate_authorities_from_a_file(
    client: Callable[..., Any], authority: tuple[trustme.CA, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ca_file is accepted as a str, a path or a variable; an argument takes precedence."""
    made, path = authority
    async with RawServer(tls=server_context(made)) as server:
        url = server.url.replace("http:", "https:")
        await ping(client(base_url=url, ca_file=path))
        await ping(client(base_url=url, ca_file=str(path)))
        monkeypatch.setenv(CA_FILE_VARIABLE, str(path))
        await ping(client(base_url=url))
        monkeypatch.setenv(CA_FILE_VARIABLE, "/nonexistent")
        await ping(client(base_url=url, ca_file=path))
        await ping(client(base_url=url, ssl_context=ssl.create_default_context(cafile=str(path))))


async def test_client_certificate(authority: tuple[trustme.CA, Path]) -> None:
    """ssl_context can hold a client certificate for a server that requires one."""
    made, path = authority
    demanding = server_context(made)
    demanding.verify_mode = ssl.CERT_REQUIRED
    made.configure_trust(demanding)
    context = ssl.create_default_context(cafile=str(path))
    made.issue_cert("client@example.com").configure_cert(context)
    async with RawServer(tls=demanding) as server:
        await ping(HttpTransport("token", base_url=server.url.replace("http:", "https:"), ssl_context=context))


@both
@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "cannot be read"), (b"", "not a PEM"), (b"no certificate", "not a PEM"), ("folder", "cannot be read|PEM")],
)
def test_unusable_file_of_authorities(
    client: Callable[..., Any], content: Any, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unusable file raises; the error names the setting and the file."""
    path = tmp_path / "ca.pem"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"^ca_file .*({complaint}).*ca.pem"):
        client(ca_file=path)
    monkeypatch.setenv(CA_FILE_VARIABLE, str(path))
    with pytest.raises(ConfigError, match=f"^{CA_FILE_VARIABLE} .*({complaint}).*ca.pem"):
        client()


@both
@pytest.mark.parametrize("path", [7, b"ca.pem", ["ca.pem"], "a\0b"])
def test_file_of_authorities_that_is_no_path(client: Callable[..., Any], path: Any) -> None:
    """A ca_file that is neither a str nor path-like raises ConfigError."""
    with pytest.raises(ConfigError, match=r"^ca_file "):
        client(ca_file=path)


@both
def test_file_and_context_exclude_each_other(client: Callable[..., Any], authority: tuple[trustme.CA, Path]) -> None:
    """ca_file and ssl_context together raise ConfigError, because they could contradict each other."""
    with pytest.raises(ConfigError, match="not both"):
        client(ca_file=authority[1], ssl_context=ssl.create_default_context())


# What an error tracker records of a frame.


HIDDEN_NAMES = ("token", "secret")


def shown_of(value: object) -> str:
    """Return the repr of a value; a partially constructed object may have none."""
    try:
        return repr(value)
    except AttributeError:
        return object.__repr__(value)


def recorded(traceback: TracebackType | None) -> str:
    """Return the local variables of this package's frames, except those that every error tracker hides."""
    shown = []
    while traceback is not None:
        frame = traceback.tb_frame
        if (
            f"{os.sep}salesmachine_async{os.sep}" in frame.f_code.co_filename
            and "tests" not in frame.f_code.co_filename
        ):
            shown += [f"{name}={shown_of(value)}" for name, value in frame.f_locals.items() if name not in HIDDEN_NAMES]
        traceback = traceback.tb_next
    assert shown
    return "\n".join(shown)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HttpTransport(f"{HIDDEN}\n"),
        lambda: HttpTransport(f"{HIDDEN}:x"),
        lambda: HttpTransport(HIDDEN, f"{HIDDEN} "),
        lambda: HttpTransport(HIDDEN, HIDDEN.encode()),  # type: ignore[arg-type]
        lambda: HttpTransport(HIDDEN, HIDDEN, base_url="ftp://x"),
        lambda: HttpTransport(HIDDEN, HIDDEN, proxy="x"),
        lambda: HttpTransport(HIDDEN, HIDDEN, ca_file="/nonexistent"),
        lambda: HttpTransport("t", proxy=f"ftp://user:{HIDDEN}@h"),
        lambda: HttpTransport("t", proxy=f"http://user:{HIDDEN}@h:99999"),
        lambda: HttpTransport("t", base_url=f"https://user:{HIDDEN}@h"),
        lambda: HttpTransport("t", base_url=f"https://user:{HIDDEN}@[h"),
        lambda: HttpTransport("t", base_url=f"https://h/?secret={HIDDEN}"),
        lambda: Agent("t", base_url=f"https://user:{HIDDEN}@h"),
        lambda: ThreadedAgent("t", base_url=f"https://user:{HIDDEN}@h"),
        lambda: AccessClient("t", base_url=f"https://user:{HIDDEN}@h"),
        lambda: AccessClient("t", proxy=f"http://user:{HIDDEN}@h:99999"),
        lambda: Agent(f"{HIDDEN}\n"),
        lambda: Agent(HIDDEN, f"{HIDDEN}\n"),
        lambda: AccessClient(f"{HIDDEN}\n"),
        lambda: AccessClient(HIDDEN, tracking_token=f"{HIDDEN}\n"),
        lambda: AccessClient(HIDDEN, tracking_token=HIDDEN, tracking_secret=f"{HIDDEN}\n"),
        lambda: AccessClient(tracking_token=HIDDEN, tracking_secret=HIDDEN),
        lambda: AccessClient(HIDDEN, tracking_token=HIDDEN, tracking_secret=HIDDEN, auth="no"),  # type: ignore[arg-type]
        lambda: AccessClient(HIDDEN, tracking_token=HIDDEN, tracking_secret=HIDDEN, base_url="ftp://x"),
        lambda: AccessClient(HIDDEN, tracking_token=HIDDEN, tracking_secret=HIDDEN, max_connections=0),
    ],
)
def test_no_local_variable_holds_a_credential(make: Callable[[], object]) -> None:
    """No local variable holds credentials, except `token` and `secret`, which error trackers hide by name."""
    with pytest.raises(ConfigError) as error:
        make()
    assert HIDDEN not in recorded(error.value.__traceback__)
    assert HIDDEN not in traceback_of(error)


@pytest.mark.parametrize("client", [HttpTransport, Agent, ThreadedAgent, AccessClient])
@pytest.mark.parametrize("proxy", [f"ftp://user:{HIDDEN}@h", f"http://user:{HIDDEN}@h:99999", f"user:{HIDDEN}@h"])
def test_no_local_variable_holds_the_password_of_a_proxy(
    client: Callable[..., Any], proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy of the environment is in no local variable either, nor in the error that is raised or its context."""
    monkeypatch.setenv("SALESMACHINE_PROXY", proxy)
    with pytest.raises(ConfigError, match=r"^SALESMACHINE_PROXY must be a URL") as error:
        client("t")
    assert HIDDEN not in recorded(error.value.__traceback__)
    assert error.value.__context__ is None


async def test_no_local_variable_of_a_call_holds_a_credential() -> None:
    """A tracking token passed to a call, and a server's quotation of it, are not in the local variables."""
    quoting = f'{{"error": "{HIDDEN} is unknown"}}'.encode()
    async with RawServer(then=says(401, quoting, X_Quoted=HIDDEN)) as server:
        async with AccessClient("token", base_url=server.url, retry=None) as client:
            for call in (
                client.contacts.create_or_update("1", tracking_token=HIDDEN),
                client.accounts.create_or_update("1", tracking_token=HIDDEN),
                client.events.create("1", "x", tracking_token=HIDDEN),
                client.events.create("1", "x", tracking_token=f"{HIDDEN}\n"),
            ):
                with pytest.raises(Exception, match=r"401|visible ASCII") as error:
                    await call
                assert HIDDEN not in recorded(error.value.__traceback__)
