"""The group ``salesmachine relay``, which itself runs a relay."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from salesmachine_async.cli.options import ServerOptions, server_options
from salesmachine_async.cli.relay import dead, status
from salesmachine_async.cli.relay.options import engine_options
from salesmachine_async.cli.runner import give_up, run

if TYPE_CHECKING:
    from salesmachine_async.engines.redis import RedisEngine
    from salesmachine_async.relay import Relay

_PER = {"": 1.0, "/s": 1.0, "/m": 60.0, "/h": 3600.0}


def _rate(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(/[smh])?", value.strip(), re.ASCII)
    if found is None or float(found[1]) == 0:
        raise click.BadParameter(f"{value!r} is not a rate such as 50/s or 600/m")
    return float(found[1]) / _PER[found[2] or ""]


def _address(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, int] | None:
    if value is None:
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, such as 127.0.0.1:9464")
    return host.strip("[]") or "127.0.0.1", int(port)


@click.group("relay", invoke_without_command=True)
@engine_options
@click.option("--rate", metavar="N/s", callback=_rate, help="Requests a second of all relays together, at most: 50/s.")
@click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(1, 256),
    default=4,
    help="Requests of this relay at once, of each partition one at most; default: 4.",
)
@click.option(
    "--linger",
    metavar="SECONDS",
    type=click.FloatRange(0, 60),
    default=0.25,
    help="How long a small batch waits for others to share its request; default: 0.25.",
)
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    callback=_address,
    help="Serve /metrics, /health and /live there; :PORT listens on this machine only.",
)
@click.option(
    "--lease",
    metavar="SECONDS",
    type=click.FloatRange(1, 3600),
    default=30.0,
    help="After so long others take over from a dead relay; default: 30. It must be longer than --request-timeout.",
)
@click.option(
    "--request-timeout",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 600),
    default=15.0,
    help="Time limit of one request to Salesmachine; default: 15.",
)
@click.option(
    "--every",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    help="Between reports in a pipe; default: 10.",
)
@click.option("--json", "as_json", is_flag=True, help="Report as JSON objects also on a terminal.")
@server_options
@click.pass_context
def command(
    context: click.Context,
    /,
    *,
    open_engine: Callable[..., RedisEngine],
    rate: float | None,
    concurrency: int,
    linger: float,
    metrics: tuple[str, int] | None,
    lease: float,
    request_timeout: float,
    every: float,
    as_json: bool,
    server: ServerOptions,
) -> None:
    """
    Deliver what agents have published to Redis or Valkey.

    Any number of relays share the partitions of a queue, one pause and one rate. Shows a
    panel on a terminal, in a pipe one JSON object every ten seconds. SIGTERM or Ctrl-C
    stops it: it finishes what is in flight and gives its partitions to the others.

    \b
      salesmachine relay --engine redis://127.0.0.1:6379/3 --name shop --rate 50/s
      salesmachine relay status --engine redis://127.0.0.1:6379/3 --name shop
      salesmachine relay dead ls

    Needs SALESMACHINE_API_TOKEN and SALESMACHINE_API_SECRET, which the agents do not.
    Exit status: 0 stopped, 2 usage error or an engine that cannot be used.
    """
    if context.invoked_subcommand is not None:
        return
    options = {"rate": rate, "concurrency": concurrency}
    relay, name = _relay(
        open_engine, server, lease=lease, linger=linger, request_timeout=request_timeout, options=options
    )
    from salesmachine_async.cli.relay.delivery import deliver, log_lines  # noqa: PLC0415 - imported late

    run(deliver(relay, name, metrics, every=every, as_json=as_json), log=log_lines)


def _relay(
    open_engine: Callable[..., RedisEngine],
    server: ServerOptions,
    *,
    lease: float,
    linger: float,
    request_timeout: float,
    options: dict[str, Any],
) -> tuple[Relay, str]:
    keys = server.keys()
    keys.need_token()
    engine = open_engine(lease=lease)
    from salesmachine_async import Batching, HttpTransport, Timeouts  # noqa: PLC0415 - imports aiohttp
    from salesmachine_async.errors import ConfigError  # noqa: PLC0415
    from salesmachine_async.relay import Relay  # noqa: PLC0415

    try:
        timeouts = Timeouts(request=request_timeout, connect=min(5.0, request_timeout))
        transport = HttpTransport(
            keys.token, keys.secret, base_url=keys.base_url, timeouts=timeouts, **server.transport()
        )
        relay = Relay(engine, transport, batching=Batching(linger=linger), timeouts=timeouts, **options)
    except ConfigError as error:
        give_up(error)
    return relay, engine.name


for _command in (status.command, dead.command):
    command.add_command(_command)
