"""Redaction of credentials that a server quotes."""

from __future__ import annotations

import base64
import json
import pickle
import re
import string
from contextlib import aclosing
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesmachine_async._core.batch import Batch
from salesmachine_async._delivery.transport import HttpTransport
from salesmachine_async._http.redaction import Redactor
from salesmachine_async.access import AccessClient
from salesmachine_async.errors import DeliveryError
from tests.support.servers import RawServer, says

TOKEN = 'tok/4711+"\\=%41'
SECRET = "sec:4711&<'>"
VISIBLE = st.text(st.sampled_from([chr(code) for code in range(33, 127)]), min_size=8, max_size=20)


def forms(token: str, secret: str) -> list[str]:
    basic = base64.b64encode(f"{token}:{secret}".encode()).decode()
    written = [token, secret, basic, f"Basic {basic}", f"{token}:{secret}", f"https://{token}:{secret}@host/"]
    for text in (token, secret, basic):
        written += [quote(text), quote(text, safe=""), quote_plus(text)]
        written.append(re.sub("%..", lambda code: code[0].lower(), quote(text, safe="")))
        written += ["".join(f"%{ord(character):02X}" for character in text), json.dumps(text)]
        written += ["".join(f"\\u{ord(character):04x}" for character in text)]
    return written


@pytest.mark.parametrize("form", forms(TOKEN, SECRET))
def test_every_form_is_replaced(form: str) -> None:
    """Credentials are replaced in plain, HTTP Basic, percent-encoded and JSON-escaped form; the other text is kept."""
    redacted = Redactor(TOKEN, SECRET)(f"before {form} after {form}")
    assert redacted.startswith("before ")
    assert " after " in redacted
    assert "***" in redacted
    assert "4711" not in redacted
    basic = base64.b64encode(f"{TOKEN}:{SECRET}".encode()).decode().rstrip("=")
    assert not any(basic[at : at + 6] in redacted for at in range(len(basic) - 5))


@given(VISIBLE.filter(lambda token: ":" not in token), VISIBLE, st.text(max_size=20))
def test_no_form_is_left(token: str, secret: str, around: str) -> None:
    """Credentials of any characters are replaced."""
    redact = Redactor(token, secret)
    for form in forms(token, secret):
        redacted = redact(around + form + around)
        assert token not in redacted.replace("***", " ")
        assert quote(token, safe="") not in redacted.replace("***", " ")


def test_empty_secret_matches_nothing() -> None:
    """An empty secret matches nothing."""
    assert Redactor("token4711", "")("a b token4711 c") == "a b *** c"


def test_overlapping_credentials() -> None:
    """The longer of two overlapping credentials is replaced as a whole."""
    assert Redactor("abc", "abcdef")("x abcdef y abc") == "x *** y ***"


def test_other_text_is_unchanged() -> None:
    """Other text is unchanged, also text that resembles a credential."""
    text = string.printable + "\x00\ud800é" + TOKEN[:-1] + " " + TOKEN.lower().replace("t", "T")
    assert Redactor(TOKEN, SECRET)(text) == text


def test_repr_does_not_hold_them() -> None:
    """The repr of a redactor holds no credential."""
    assert "4711" not in repr(Redactor(TOKEN, SECRET))


@pytest.mark.parametrize("form", [TOKEN, SECRET, *forms(TOKEN, SECRET)[2:5]])
@pytest.mark.parametrize("as_text", [True, False], ids=["text", "object"])
async def test_error_holds_no_quoted_credential(form: str, as_text: bool) -> None:
    """No credential is in server_message, in the target of a redirect or in a pickle; texts are cut afterwards."""
    padding = "x" * (500 - len(form) // 2)  # the form crosses the limit
    for quoted in (f"you sent {form}, {padding}", padding + form):
        body = json.dumps({"error": quoted if as_text else {"sent": [quoted]}}).encode()
        location = "https://other.example/" + quote(form, safe="")
        async with RawServer(then=says(302, body, Location=location)) as server:
            async with aclosing(HttpTransport(TOKEN, SECRET, base_url=server.url)) as transport:
                error = (await transport.send(Batch.ping())).error
            async with AccessClient(TOKEN, base_url=server.url, tracking_token=TOKEN, tracking_secret=SECRET) as api:
                with pytest.raises(DeliveryError) as raised:
                    await api.ping()
        for each in (error, raised.value):
            assert each is not None
            assert each.server_message is not None
            assert "xxx" in each.server_message
            assert len(each.server_message) <= 500
            shown = f"{each} {each!r} {vars(each)} {pickle.dumps(each)!r}"
            basic = base64.b64encode(f"{TOKEN}:{SECRET}".encode()).decode()
            for hidden in ("4711", basic[:12], basic[-14:-2], quote(TOKEN, safe="")[:9]):
                assert hidden not in shown, shown
