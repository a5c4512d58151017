"""Credentials and base URL are checked before anything is sent, and errors never echo them."""

from __future__ import annotations

from typing import Any

import pytest

from salesmachine_async._delivery.transport import HttpTransport
from salesmachine_async._http.config import (
    DEFAULT_URL,
    SECRET_VARIABLE,
    TOKEN_VARIABLE,
    URL_VARIABLE,
    check_base_url,
    check_credentials,
    check_proxy,
    from_environment,
)
from salesmachine_async.errors import ConfigError

HIDDEN = "hush4711"


def told(error: pytest.ExceptionInfo[BaseException]) -> str:
    """All that a traceback would show of an error, with what it was raised in and from."""
    texts = []
    exc: BaseException | None = error.value
    while exc is not None:
        texts.append(f"{exc!s} {exc!r}")
        exc = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    return " ".join(texts)


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (TOKEN_VARIABLE, SECRET_VARIABLE, URL_VARIABLE):
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
        (f"https://a\\@{HIDDEN}.com", "not a URL"),
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
    """The error says what is wrong; it does not repeat the URL, which may hold a password."""
    with pytest.raises(ConfigError, match=complaint) as error:
        HttpTransport("token", base_url=url)
    assert HIDDEN not in told(error)
    assert isinstance(error.value, ValueError)


@pytest.mark.parametrize("url", [b"https://api.example.com", 7, ["https://api.example.com"], object()])
def test_base_url_of_another_type_is_refused(url: Any) -> None:
    """Only a str is a URL."""
    with pytest.raises(ConfigError, match="must be a str, not"):
        check_base_url(url)


@pytest.mark.parametrize(
    "url",
    ["http://api.example.com", "http://10.0.0.1", "http://0.0.0.0:8080", "http://[::]", "http://[2001:db8::1]:8000"],
)
def test_plain_http_to_another_machine_must_be_allowed(url: str) -> None:
    """Without allow_http the token does not travel readable."""
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
def test_what_only_looks_like_this_machine_is_another(url: str) -> None:
    """Names and numbers that a resolver may read in its own way are not loopback."""
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
    """Loopback addresses and the names under localhost do not leave the machine."""
    assert check_base_url(url).scheme == "http"


@pytest.mark.parametrize(
    "url", ["https://api.example.com", "HTTPS://api.example.com:65535/", "https://bücher.example/base", "https://[::1]"]
)
def test_https_is_allowed_anywhere(url: str) -> None:
    """With TLS any host, port and path will do."""
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
    """Only visible ASCII goes into a header; the error does not say what was given."""
    credentials = {"token": "t", "secret": "s", name: HIDDEN + bad}
    with pytest.raises(ConfigError, match=f"the API {name} may only hold visible ASCII") as error:
        HttpTransport(credentials["token"], credentials["secret"])
    assert HIDDEN not in told(error)


def test_colon_belongs_to_the_secret_only() -> None:
    """HTTP Basic ends the user at the first colon."""
    with pytest.raises(ConfigError, match="colon") as error:
        check_credentials(f"{HIDDEN}:x", "secret")
    assert HIDDEN not in told(error)
    check_credentials("token", "a:b:c")


@pytest.mark.parametrize("value", [None, 7, b"bytes", ["t"]])
def test_credentials_of_another_type_are_refused(value: Any) -> None:
    """Only a str is a token or a secret."""
    with pytest.raises(ConfigError, match=f"the API token must be a str, not {type(value).__name__}"):
        check_credentials(value, "")
    with pytest.raises(ConfigError, match="the API secret must be a str"):
        check_credentials("token", value)


def test_token_is_needed_and_secret_is_not() -> None:
    """Without a token there is nobody to be; the documents show an empty password."""
    with pytest.raises(ConfigError, match=TOKEN_VARIABLE):
        HttpTransport()
    with pytest.raises(ConfigError, match=TOKEN_VARIABLE):
        HttpTransport("", "secret")
    HttpTransport("token")


def test_all_visible_ascii_is_allowed() -> None:
    """Nothing that can travel is refused."""
    visible = "".join(map(chr, range(0x21, 0x7F)))
    check_credentials(visible.replace(":", ""), visible)


# The environment.


def test_environment_stands_in_for_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each argument that is None comes from its variable."""
    monkeypatch.setenv(TOKEN_VARIABLE, "t")
    monkeypatch.setenv(SECRET_VARIABLE, "s")
    monkeypatch.setenv(URL_VARIABLE, "http://localhost:1")
    assert from_environment(None, None, None) == ("t", "s", "http://localhost:1")
    assert from_environment("T", "S", "U") == ("T", "S", "U")
    assert from_environment("T", None, None) == ("T", "s", "http://localhost:1")
    assert repr(HttpTransport()) == "<HttpTransport http://localhost:1>"


def test_defaults_without_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret is an empty one; no URL, and an empty one in the environment, is Salesmachine's."""
    assert from_environment(None, None, None) == ("", "", DEFAULT_URL)
    monkeypatch.setenv(URL_VARIABLE, "")
    assert from_environment("t", None, None) == ("t", "", "https://api.salesmachine.io")


def test_empty_arguments_are_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty token or URL is a mistake to be told, not to be covered up by the environment."""
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
    """A variable read from a file with its line end is found at once, unechoed."""
    monkeypatch.setenv(TOKEN_VARIABLE, "t")
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as error:
        HttpTransport()
    assert HIDDEN not in told(error)


@pytest.mark.parametrize(
    "proxy", ["nonsense", "", "socks5://h:1", "ftp://h", "http://", "http://h:99999", "//h:1", 7, b"http://h:1"]
)
def test_unusable_proxy_is_refused_and_not_echoed(proxy: Any) -> None:
    """A proxy that could never work is found at construction."""
    with pytest.raises(ConfigError, match="proxy must be") as caught:
        check_proxy(proxy)
    assert "99999" not in str(caught.value)


def test_usable_proxy_may_hold_credentials() -> None:
    """A proxy's user and password belong into its URL."""
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
            "http:// would send the API token readable to h: use https://, "
            "or set SALESMACHINE_ALLOW_HTTP=1, or pass transport=HttpTransport(..., allow_http=True)",
        ),
    ],
)
def test_error_says_what_is_wrong_with_the_base_url(url: Any, says: str) -> None:
    """The first thing that is wrong, in a sentence that can be acted on."""
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
    """Which of the two it is, and what it may hold."""
    with pytest.raises(ConfigError) as error:
        check_credentials(token, secret)
    assert str(error.value) == says


@pytest.mark.parametrize(
    ("proxy", "says"), [(7, "proxy must be a str, not int"), ("nonsense", "proxy must be a URL as http://host:port")]
)
def test_error_says_what_is_wrong_with_the_proxy(proxy: Any, says: str) -> None:
    """With an example of one that would do."""
    with pytest.raises(ConfigError) as error:
        check_proxy(proxy)
    assert str(error.value) == says


def test_proxy_may_be_asked_over_tls() -> None:
    """https:// proxies are fine, and without a port it is 443."""
    assert check_proxy("https://proxy.example.com").port == 443


def test_names_of_the_variables_are_a_promise() -> None:
    """They are in the documentation and in other people's deployments."""
    assert (TOKEN_VARIABLE, SECRET_VARIABLE, URL_VARIABLE) == (
        "SALESMACHINE_API_TOKEN",
        "SALESMACHINE_API_SECRET",
        "SALESMACHINE_API_URL",
    )
