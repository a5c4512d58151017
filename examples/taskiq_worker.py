"""
A taskiq worker that tracks: with a broker of yours, ``taskiq worker examples.taskiq_worker:broker``.

The one in memory makes it run by itself: ``python -m examples.taskiq_worker``.
"""

import asyncio

from taskiq import Context, InMemoryBroker, TaskiqDepends, TaskiqEvents, TaskiqState

from salesmachine_async import Agent

broker = InMemoryBroker()


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start(state: TaskiqState) -> None:
    """Start the agent on the worker's event loop."""
    state.agent = Agent()
    await state.agent.start()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def stop(state: TaskiqState) -> None:
    """Deliver what is left."""
    report = await state.agent.aclose()
    print(f"{report.delivered} delivered")


@broker.task
async def ship(order: int, context: Context = TaskiqDepends()) -> None:  # noqa: B008 (taskiq's way)
    """Ship an order."""
    context.state.agent.track("123456", "order_shipped", {"order": order})


async def main() -> None:
    """Ship three orders."""
    await broker.startup()
    for order in range(3):
        await (await ship.kiq(order)).wait_result()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
