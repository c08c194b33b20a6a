"""An event loop that comes late: what is due at once it finds over already, as a real one under load does."""

import asyncio


class LateLoop(asyncio.SelectorEventLoop):
    """A real loop whose clock can be put forward, as if it had been kept from its timers for so long."""

    behind = 0.0

    def time(self):
        return super().time() + self.behind


def run_late(main):
    """Run a coroutine in real time on a loop whose `behind` it may raise."""
    loop = LateLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()
