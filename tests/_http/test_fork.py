"""A fork that runs none of Python's hooks, as that of uWSGI or of a C extension."""

from __future__ import annotations

import asyncio
import sys
import textwrap

import pytest

from tests.support.servers import RawServer

FORKING = """
    import asyncio, ctypes, gc, os, sys

    from salesmachine_async._core.batch import Batch
    from salesmachine_async._delivery.transport import HttpTransport
    from salesmachine_async._http.session import INHERITED
    from salesmachine_async.access import AccessClient

    class Transport:
        def __init__(self, url):
            self.transport = HttpTransport("t", base_url=url)

        async def send(self):
            outcome = await self.transport.send(Batch.ping())
            assert outcome.status == 200, outcome

        async def close(self):
            await self.transport.aclose()

    class Client:
        def __init__(self, url):
            self.client = AccessClient("t", base_url=url, retry=None)

        async def send(self):
            await self.client.ping()

        async def close(self):
            await self.client.aclose()

    async def in_child(close_only):
        if not close_only:
            await user.send()
            await user.send()
        await user.close()

    user = globals()[sys.argv[2]](sys.argv[1])
    with asyncio.Runner() as runner:
        runner.run(user.send())
        child = ctypes.CDLL(None).fork()
        if child == 0:
            try:
                asyncio.run(in_child(sys.argv[3] == "close only"))
                gc.collect()
                assert len(INHERITED) == 1, INHERITED
            except BaseException as exc:
                print(repr(exc), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert not INHERITED
        runner.run(asyncio.wait_for(user.send(), 10))
        runner.run(user.close())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="loads the C library by no name")
@pytest.mark.parametrize("doing", ["sending", "close only"])
@pytest.mark.parametrize("user", ["Transport", "Client"])
async def test_connections_stay_with_the_parent(user: str, doing: str) -> None:
    """The child opens its own connections, also when it only closes; those of the parent stay open and usable."""
    async with RawServer() as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", textwrap.dedent(FORKING), server.url, user, doing
        )
        assert await process.wait() == 0
    connections = [seen.connection for seen in server.seen]
    assert connections == ([0, 1, 1, 0] if doing == "sending" else [0, 0])
