"""Exact moments at which a process kills itself."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def kill_at_line(number: int, folder: str) -> None:
    """Kill this process before the so-many-th line that it runs of the code in a folder."""
    left = number

    def trace(frame: Any, event: str, _argument: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(folder):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
