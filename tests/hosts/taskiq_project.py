"""The taskiq example with a broker between processes: a folder, with one file per task."""

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path

from taskiq import AsyncBroker, BrokerMessage, Context, TaskiqDepends, TaskiqState
from taskiq.events import TaskiqEvents

from salesmachine_async import Agent


class FolderBroker(AsyncBroker):
    """Gives each task to one worker, by renaming its file."""

    folder = Path(os.environ["TASKS"])

    async def kick(self, message: BrokerMessage) -> None:
        hidden = self.folder / f".{message.task_id}"
        hidden.write_bytes(message.message)
        hidden.rename(self.folder / message.task_id)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        while True:
            for path in self.folder.glob("[!.]*"):
                taken = path.with_name(f".{path.name}")
                try:
                    path.rename(taken)
                except FileNotFoundError:
                    continue
                yield taken.read_bytes()
            await asyncio.sleep(0.02)


broker = FolderBroker()


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def start(state: TaskiqState) -> None:
    state.agent = Agent()
    await state.agent.start()


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def stop(state: TaskiqState) -> None:
    await state.agent.aclose()


@broker.task(task_name="ship")
async def ship(order: int, context: Context = TaskiqDepends()) -> None:  # noqa: B008 (taskiq's way)
    """Ship an order."""
    context.state.agent.track("123456", "order_shipped", {"order": order})
    os.write(1, f"shipped {order}\n".encode())  # in one piece: two processes write to one pipe


async def main() -> None:
    """Send twenty orders."""
    for order in range(20):
        await ship.kiq(order)


if __name__ == "__main__":
    asyncio.run(main())
