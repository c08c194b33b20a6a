"""Virtual time: an asyncio event loop whose clock jumps, so that an hour of sleeping takes a moment.

    from llmlab import virtual_time

    virtual_time.run(main())  # like asyncio.run(), without the waiting

The same program makes the same steps at the same virtual times in every run. `run` is the front door, `VirtualLoop`
the loop itself (`asyncio.Runner(loop_factory=VirtualLoop)`), `pytest_plugin` the fixture `virtual_time`. Start reading
in `loop.py`.
"""

from llmlab.virtual_time.errors import (
    NotInVirtualTime,
    VirtualDeadlock,
    VirtualLivelock,
    VirtualRunError,
    VirtualStepLimit,
    VirtualTimeError,
    VirtualTimeLimit,
)
from llmlab.virtual_time.loop import VirtualLoop
from llmlab.virtual_time.runner import run
from llmlab.virtual_time.tasks import VirtualTask
from llmlab.virtual_time.waiting import WaitingTask

__all__ = [
    "NotInVirtualTime",
    "VirtualDeadlock",
    "VirtualLivelock",
    "VirtualLoop",
    "VirtualRunError",
    "VirtualStepLimit",
    "VirtualTask",
    "VirtualTimeError",
    "VirtualTimeLimit",
    "WaitingTask",
    "run",
]
