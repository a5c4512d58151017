"""How Hypothesis runs here: no deadlines, for the machine may be busy, and nothing written into the checkout."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "core",
    deadline=None,
    max_examples=150,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("core")
