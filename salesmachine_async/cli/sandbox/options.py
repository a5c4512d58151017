"""The options that `sandbox` and `sandbox exec` share, and how a sandbox is made of them."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.terminal import fail

if TYPE_CHECKING:
    from salesmachine_async.sandbox import Fault, RateLimit, Sandbox
    from salesmachine_async.sandbox.views import RequestView

# Any free port would do, but a fixed one lets the export lines stay in a shell profile.
DEFAULT_PORT = 8700

_RATE = re.compile(r"(\d+)(?:/(\d+(?:\.\d+)?)?(ms|s|m|))?")
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}

Port = Annotated[
    int, typer.Option(metavar="PORT", min=0, max=65535, help="The port to listen on; 0 takes any free one.")
]
PortFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, help="Write the port to this file when ready; removed at the end."),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A further name that requests may be addressed to; can be repeated."),
]
Db = Annotated[
    Path | None,
    typer.Option(metavar="FILE", dir_okay=False, help="Keep what arrives in this file; without it, in memory."),
]
Seed = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="What every workspace starts with: NDJSON, as /_sandbox/export gives and `import` reads."
    ),
]
Faults = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="What goes wrong, in order: 503*2,latency=200ms*. `salesmachine sandbox --help` has the details.",
    ),
]
Rate = Annotated[
    str | None,
    typer.Option("--rate-limit", metavar="N/TIME", help="Answer 429 to requests beyond this rate: 50/1s, 600/m."),
]
PlanFile = Annotated[
    Path | None,
    typer.Option(
        "--plan", metavar="FILE", help="A tracking plan (JSON Schema per event) that judges each message good or bad."
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="TOKEN=LABEL", help="A label for the workspace of a token; can be repeated."),
]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """
    A sandbox as it was asked for; what is None was not.

    Attributes:
        host: The address to listen on.
        port: The port; 0 for any.
        db: Where the state is kept.
        allow_host: Further names it may be addressed by.
        seed: What workspaces begin with.
        faults: A script, see `script`.
        rate_limit: Requests in a time.
        plan: The tracking plan.
        names: Labels of workspaces, as TOKEN=LABEL.
        access_log: Whether each request is shown in a line on stderr.
    """

    host: str = "127.0.0.1"
    port: int = 0
    db: Path | None = None
    allow_host: Sequence[str] = ()
    seed: Path | None = None
    faults: str | None = None
    rate_limit: str | None = None
    plan: Path | None = None
    names: Sequence[str] = ()
    access_log: bool = False


def make_sandbox(settings: SandboxOptions) -> "tuple[Sandbox, list[Fault]]":
    """
    Make a sandbox that does not run yet, and the faults for when it does.

    Raises:
        typer.Exit: An option cannot be used.
        ValueError: The database cannot.
    """
    from salesmachine_async.cli.sandbox.script import ScriptError, parse_faults  # noqa: PLC0415
    from salesmachine_async.sandbox import Sandbox  # noqa: PLC0415 - brings aiohttp.web

    try:
        faults = [] if settings.faults is None else parse_faults(settings.faults)
    except ScriptError as error:
        fail(f"--faults {error}", code=USAGE)
    rate_limit = None if settings.rate_limit is None else rate_of(settings.rate_limit)
    try:
        sandbox = Sandbox(
            host=settings.host,
            port=settings.port,
            db=settings.db,
            allowed_hosts=settings.allow_host,
            seed=settings.seed,
            rate_limit=rate_limit,
            plan=_plan(settings.plan),
            names=_labels(settings.names),
            on_request=_show if settings.access_log else None,
        )
    except OSError as error:
        fail(f"cannot read the seed {settings.seed}: {error.strerror or error}", code=USAGE)
    except ValueError as error:
        fail(f"cannot use the seed {settings.seed}: {error}", code=USAGE)
    return sandbox, faults


def _plan(file: Path | None) -> "dict[str, Any] | None":
    """
    Read the tracking plan.

    Raises:
        typer.Exit: The plan cannot be used.
    """
    if file is None:
        return None
    import orjson  # noqa: PLC0415

    from salesmachine_async.sandbox.plan.schema import Plan  # noqa: PLC0415

    try:
        plan = orjson.loads(file.read_bytes())
        Plan(plan)
    except OSError as error:
        fail(f"cannot read the plan {file}: {error.strerror or error}", code=USAGE)
    except ModuleNotFoundError:
        fail('--plan needs the library jsonschema: pip install "salesmachine-async[plan]"', code=USAGE)
    except ValueError as error:
        fail(f"cannot use the plan {file}: {error}", code=USAGE)
    return dict(plan)


def _labels(names: Sequence[str]) -> dict[str, str]:
    """
    Read the labels of workspaces.

    Raises:
        typer.Exit: One of them is not TOKEN=LABEL.
    """
    labels: dict[str, str] = {}
    for name in names:
        token, _, label = name.partition("=")
        if not token or not label.strip():
            fail("--name must be TOKEN=LABEL", code=USAGE)
        labels[token] = label.strip()
    return labels


def _show(request: "RequestView") -> None:
    from salesmachine_async.sandbox.access_log import access_line  # noqa: PLC0415

    note(access_line(request))


def rate_of(text: str) -> "RateLimit":
    """
    Read a rate.

    Raises:
        typer.Exit: It is none.
    """
    from salesmachine_async.sandbox import RateLimit  # noqa: PLC0415

    found = _RATE.fullmatch(text)
    try:
        if found is None:
            raise ValueError("it is written 50/1s, 50/s or 600/m")
        return RateLimit(requests=int(found[1]), per=float(found[2] or 1) * _UNITS[found[3] or ""])
    except ValueError as error:
        fail(f"--rate-limit {text}: {error}", code=USAGE)


def explain(error: Exception, settings: SandboxOptions) -> str:
    """Say why a sandbox could not be run."""
    import errno  # noqa: PLC0415

    if not isinstance(error, OSError):
        return f"cannot keep what arrives in {settings.db}: {error}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {settings.port} on {settings.host} is taken; choose another with --port, "
            "or --port 0 for any free one."
        )
    return f"cannot run the sandbox on {settings.host} port {settings.port}: {error.strerror or error}"
