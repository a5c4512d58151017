"""Where `ssl.SSLContext` has been replaced since a context was made, by truststore or a test: still verified."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import trustme

from salesmachine_async._core.batch import Batch
from salesmachine_async._core.response import Verdict
from salesmachine_async._delivery.transport import HttpTransport
from salesmachine_async.access import AccessClient
from salesmachine_async.errors import CertificateRejected
from salesmachine_async.policy import Timeouts
from tests.support.core import run_python
from tests.support.servers import RawServer, client_context, server_context

TOKEN = "token"
TIMEOUTS = Timeouts(connect=20, request=20)


class Replaced(ssl.SSLContext):
    """As truststore's: of this class is no context that was made before."""


REPLACEMENTS = {"none": ssl.SSLContext, "subclass": Replaced, "mock": MagicMock()}
WAYS: dict[str, Callable[[trustme.CA, Path], dict[str, Any]]] = {
    "ssl_context": lambda authority, _: {"ssl_context": client_context(authority)},
    "ca_file": lambda _, path: {"ca_file": path},
}


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


def https(server: RawServer) -> str:
    return server.url.replace("http:", "https:")


# `ssl.create_default_context` itself needs a class that can make contexts.
@pytest.mark.parametrize(("way", "late"), [("ssl_context", False), ("ssl_context", True), ("ca_file", True)])
@pytest.mark.parametrize("replacement", REPLACEMENTS)
async def test_a_certificate_is_checked_against_the_given_authority(
    way: str, replacement: str, late: bool, authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with a certificate of that authority gets the batch; one of another authority never sees the token."""
    good, bad = server_context(authority), server_context(trustme.CA())
    arguments = WAYS[way](authority, ca_file)
    async with RawServer(tls=good) as ours, RawServer(tls=bad) as other:
        if not late:
            monkeypatch.setattr(ssl, "SSLContext", REPLACEMENTS[replacement])
        transports = [
            HttpTransport(TOKEN, base_url=https(server), timeouts=TIMEOUTS, **arguments) for server in (ours, other)
        ]
        monkeypatch.setattr(ssl, "SSLContext", REPLACEMENTS[replacement])
        delivered, refused = [await transport.send(Batch.ping()) for transport in transports]
        for transport in transports:
            await transport.aclose()
    assert delivered.status == 200, delivered.error
    assert refused.verdict is Verdict.PARKED
    assert type(refused.error) is CertificateRejected
    assert (len(ours.seen), len(other.seen)) == (1, 0)


@pytest.mark.parametrize("way", WAYS)
async def test_the_client_of_the_access_api_checks_it_too(
    way: str, authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both clients use one connector."""
    bad = server_context(trustme.CA())
    async with RawServer(tls=bad) as other:
        async with AccessClient(
            TOKEN, base_url=https(other), retry=None, timeouts=TIMEOUTS, **WAYS[way](authority, ca_file)
        ) as client:
            monkeypatch.setattr(ssl, "SSLContext", Replaced)
            with pytest.raises(CertificateRejected):
                await client.ping()
            monkeypatch.undo()
    assert other.seen == []


@pytest.mark.parametrize("replacement", REPLACEMENTS)
async def test_the_default_context_never_verifies_less(
    replacement: str, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a context of its own a client sends nothing to a server of an unknown authority."""
    context = server_context(authority)
    async with RawServer(tls=context) as server:
        transport = HttpTransport(TOKEN, base_url=https(server), timeouts=TIMEOUTS)
        monkeypatch.setattr(ssl, "SSLContext", REPLACEMENTS[replacement])
        outcome = await transport.send(Batch.ping())
        monkeypatch.undo()
        await transport.aclose()
    assert outcome.error is not None
    assert server.seen == []


TRUSTSTORE = """
import asyncio, ssl
from ssl import SSLContext as Original
def inject(when):
    if when == {order!r}:
        import truststore
        truststore.inject_into_ssl()
inject("early")
import trustme
from salesmachine_async import Agent, HttpTransport, LossReason
from tests.support.servers import RawServer, http, answers
inject("imported")

def server(authority):
    context = Original(ssl.PROTOCOL_TLS_SERVER)
    pem = authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    with pem.tempfile() as path:
        context.load_cert_chain(path)
    return RawServer(tls=context)

def given(way, path):
    if way == "ca_file":
        return {{"ca_file": path}}
    context = (Original if way == "original" else ssl.SSLContext)(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    return {{"ssl_context": context}}

async def main():
    ours, other = trustme.CA(), trustme.CA()
    with ours.cert_pem.tempfile() as path:
        for way in ("ca_file", "original", "current"):
            for authority in (ours, other):
                async with server(authority) as listening:
                    url = listening.url.replace("http:", "https:")
                    transport = HttpTransport("token", base_url=url, **given(way, path))
                    inject("made")
                    agent = Agent(transport=transport)
                    async with agent:
                        agent.track("u", "e")
                        report = await agent.flush()
                    print(way, authority is ours, report.delivered, type(agent.stats().last_error).__name__,
                          len(listening.seen))

asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("order", ["early", "imported", "made"])
def test_truststore(order: str) -> None:
    """Injected before the import, after it, or when the client exists: all contexts serve, and all are verified."""
    pytest.importorskip("truststore")
    done = run_python(TRUSTSTORE.format(order=order))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    for line in lines:
        assert line.split()[1:] in (["True", "1", "NoneType", "1"], ["False", "0", "CertificateRejected", "0"]), line
