"""The files of a fleet are well formed, the command line takes their commands, and their application publishes."""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from salesmachine_async.cli.relay.command import command
from tests.support.example_process import ROOT
from tests.support.redis_servers import RedisServer, binary

pytestmark = pytest.mark.one_python

FLEET = ROOT / "examples/fleet"
# Seconds that a relay may need after SIGTERM: one request.
REQUEST_SECONDS = 15.0


def documents(name: str) -> list[Any]:
    yaml: Any = pytest.importorskip("yaml", reason="there is no PyYAML")
    return [*yaml.safe_load_all((FLEET / name).read_text())]


def check_command(arguments: list[str]) -> None:
    """Parse the arguments of ``salesmachine``, as it does."""
    assert arguments[0] == "relay"
    with command.make_context("relay", arguments[1:]):
        pass


def test_the_systemd_unit() -> None:
    """It has a command that can be parsed, and time for it to end."""
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((FLEET / "salesmachine-relay.service").read_text())
    program, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert program.endswith("/salesmachine")
    check_command(arguments)
    assert float(unit["Service"]["TimeoutStopSec"]) > REQUEST_SECONDS
    assert "SALESMACHINE_API_SECRET" not in unit["Service"].get("Environment", "")


def test_the_compose_file() -> None:
    """Two relays have the keys, the application has none, and the engine evicts nothing."""
    (compose,) = documents("compose.yaml")
    services = compose["services"]
    assert services["relay"]["deploy"]["replicas"] == 2
    check_command(services["relay"]["command"])
    assert float(services["relay"]["stop_grace_period"].removesuffix("s")) > REQUEST_SECONDS
    assert {name for name in services["app"]["environment"] if "API" in name} == set()
    engine = " ".join(services["engine"]["command"])
    assert "--appendonly yes" in engine
    assert "--maxmemory-policy noeviction" in engine
    mounted = {volume.partition(":")[0] for each in services.values() for volume in each.get("volumes", ())}
    assert mounted == set(compose["volumes"])


def test_the_kubernetes_manifests() -> None:
    """The keys come from a Secret, there is time for preStop and one request, and each probe has its path."""
    deployment, budget = documents("kubernetes.yaml")
    assert (deployment["kind"], budget["kind"]) == ("Deployment", "PodDisruptionBudget")
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == budget["spec"]["selector"]["matchLabels"] == labels
    (container,) = pod["spec"]["containers"]
    check_command(container["args"])
    waits = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["spec"]["terminationGracePeriodSeconds"] > waits + REQUEST_SECONDS
    # A relay that is not ready is never restarted for that.
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    assert container["livenessProbe"]["httpGet"]["path"] == "/live"
    secret = {each["name"] for each in container["env"] if "secretKeyRef" in each.get("valueFrom", {})}
    assert secret == {"SALESMACHINE_ENGINE", "SALESMACHINE_API_TOKEN", "SALESMACHINE_API_SECRET"}


@pytest.mark.slow
def test_the_application_publishes_until_sigterm() -> None:
    """Without a token, one visit after the other; it ends with status 0."""
    if binary("valkey") is None:
        pytest.skip("there is no valkey-server")
    server = RedisServer("valkey")
    try:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SALESMACHINE_")}
        with subprocess.Popen(
            [sys.executable, str(FLEET / "app.py")],
            env={**kept, "PYTHONPATH": str(ROOT), "SALESMACHINE_ENGINE": server.url},
        ) as app:
            try:
                until = time.monotonic() + 30
                while published(server) < 2:
                    assert app.poll() is None
                    assert time.monotonic() < until, "too little is published"
                    time.sleep(0.05)
                app.send_signal(signal.SIGTERM)
                assert app.wait(30) == 0
            finally:
                app.kill()
    finally:
        server.close()


def published(server: RedisServer) -> int:
    """Return the number of messages in all streams of the default queue."""
    from redis import Redis

    with Redis.from_url(server.url) as client:
        reply: Any = [client.hget(f"sm:{{default:{partition}}}:size", "messages") for partition in range(16)]
    return sum(int(each or 0) for each in reply)
