"""Options of `sandbox` and `sandbox exec`, and the sandbox they describe."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from salesmachine_async.cli.exit_codes import USAGE
from salesmachine_async.cli.options import FILE, OUTPUT_FILE
from salesmachine_async.cli.terminal import fail, note

if TYPE_CHECKING:
    from salesmachine_async.sandbox import Fault, RateLimit, Sandbox
    from salesmachine_async.sandbox.views import RequestView

# Fixed, so that its URL can be written to a shell profile.
DEFAULT_PORT = 8700

_RATE = re.compile(r"(\d+)(?:/(\d+(?:\.\d+)?)?(ms|s|m|))?")
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0}


def port_option(default: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option of the port to listen on."""
    text = f"The port to listen on; 0 for any free one; default: {default}."
    return click.option("--port", metavar="PORT", type=click.IntRange(0, 65535), default=default, help=text)


db_option = click.option("--db", metavar="FILE", type=OUTPUT_FILE, help="Keep the state in this file, not in memory.")
seed_option = click.option(
    "--seed",
    metavar="FILE",
    type=FILE,
    help="The initial state of every workspace: NDJSON, as /_sandbox/export writes and `import` reads.",
)
faults_option = click.option(
    "--faults",
    metavar="SPEC",
    help="Faults, in order, such as 503*2,latency=200ms*; see `salesmachine sandbox --help`.",
)
rate_option = click.option(
    "--rate-limit", metavar="N/TIME", help="Answer 429 to requests beyond this rate: 50/1s, 600/m."
)


plan_option = click.option(
    "--plan",
    metavar="FILE",
    type=FILE,
    help="A tracking plan (JSON Schema per event), which makes messages good or bad.",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """
    The options of a sandbox; those not given are None.

    Attributes:
        host: The address to listen on.
        port: The port; 0 for any free one.
        db: The file of the state.
        allow_host: Further host names that requests may use.
        seed: The initial state of workspaces.
        faults: A script of faults, see `script`.
        rate_limit: The largest rate of requests.
        plan: The tracking plan.
        names: Labels of workspaces, as TOKEN=LABEL.
        access_log: Whether to print a line on stderr for each request.
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
    Return a sandbox that does not run yet, and its faults.

    Raises:
        click.exceptions.Exit: If an option is unusable.
        ValueError: If the database is unusable.
    """
    from salesmachine_async.cli.sandbox.script import ScriptError, parse_faults  # noqa: PLC0415
    from salesmachine_async.sandbox import Sandbox  # noqa: PLC0415 - imports aiohttp.web

    try:
        faults = [] if settings.faults is None else parse_faults(settings.faults)
    except ScriptError as error:
        fail(f"--faults {error}", code=USAGE)
    rate_limit = None if settings.rate_limit is None else rate_of(settings.rate_limit)
    if settings.db is not None and settings.db.is_symlink() and not settings.db.exists():
        fail(f"--db: {settings.db} is a symbolic link to a file that does not exist; name the file", code=USAGE)
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
        click.exceptions.Exit: If the plan is unusable.
    """
    if file is None:
        return None
    import orjson  # noqa: PLC0415

    from salesmachine_async.sandbox.plan.schema import TrackingPlan  # noqa: PLC0415

    try:
        plan = orjson.loads(file.read_bytes())
        TrackingPlan(plan)
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
        click.exceptions.Exit: If one of them is not TOKEN=LABEL.
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
    Parse a rate.

    Raises:
        click.exceptions.Exit: If *text* is not a rate.
    """
    from salesmachine_async.sandbox import RateLimit  # noqa: PLC0415

    found = _RATE.fullmatch(text)
    try:
        if found is None:
            raise ValueError("write it as 50/1s, 50/s or 600/m")
        return RateLimit(requests=int(found[1]), per=float(found[2] or 1) * _UNITS[found[3] or ""])
    except ValueError as error:
        fail(f"--rate-limit {text}: {error}", code=USAGE)


def explain(error: Exception, settings: SandboxOptions) -> str:
    """Describe why a sandbox could not be started."""
    import errno  # noqa: PLC0415

    if not isinstance(error, OSError):
        return f"cannot use the database {settings.db}: {error}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {settings.port} on {settings.host} is in use; choose another with --port, "
            "or --port 0 for any free one."
        )
    return f"cannot run the sandbox on {settings.host} port {settings.port}: {error.strerror or error}"
