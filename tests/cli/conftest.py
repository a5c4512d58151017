"""A running sandbox, and the variables that lead to it."""

from collections.abc import AsyncIterator

import pytest

from salesmachine_async.sandbox import Sandbox

TOKEN = "token-qwertyuiop"
SECRET = "secret-asdfghjkl"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def keys(sandbox: Sandbox) -> dict[str, str]:
    """The variables that lead to *sandbox*."""
    return {
        "SALESMACHINE_API_URL": sandbox.url,
        "SALESMACHINE_API_TOKEN": TOKEN,
        "SALESMACHINE_API_SECRET": SECRET,
        "SALESMACHINE_ACCESS_TOKEN": TOKEN,
    }
