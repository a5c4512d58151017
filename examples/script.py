"""A plain script, without an event loop: ``python -m examples.script``."""

from salesmachine_async import ThreadedAgent


def main() -> None:
    """Track a thousand steps."""
    with ThreadedAgent() as agent:
        for number in range(1000):
            agent.track("123456", "step", {"number": number})
        report = agent.flush()
    print(f"{report.delivered} delivered")


if __name__ == "__main__":
    main()
