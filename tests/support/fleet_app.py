"""A web application of a fleet, for ``uvicorn tests.support.fleet_app:app``. It answers once it has synced."""

from __future__ import annotations

import os
from itertools import count

from fastapi import FastAPI

from salesmachine_async import Agent, Batching, Retry
from salesmachine_async.engines.redis import RedisTransport
from salesmachine_async.integrations.fastapi import SalesmachineMiddleware

agent = Agent(
    transport=RedisTransport(os.environ["SALESMACHINE_ENGINE"], name=os.environ["SALESMACHINE_ENGINE_NAME"]),
    spool=os.environ["SPOOL_DIRECTORY"],
    batching=Batching(max_messages=10, linger=0.05),
    retry=Retry(wait_initial=0.05, wait_max=0.2),
)
app = FastAPI()
app.add_middleware(SalesmachineMiddleware, agent=agent)
numbers = count()


@app.post("/visits")
async def visit() -> dict[str, int]:
    """Track a visit to one of the three contacts of this worker, and answer when it is on stable storage."""
    worker, number = os.getpid(), next(numbers)
    agent.track(f"{worker}-{number % 3}", "visit", {"worker": worker, "i": number})
    await agent.sync()
    return {"worker": worker, "i": number}
