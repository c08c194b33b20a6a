"""Backends that do in a run what they are told to: answer, raise, or take their process with them."""

import asyncio
import os
import signal
import threading
from pathlib import Path

from llmlab import Answer, AttemptFailure, FailureReason


class Scripted:
    """Does in its attempts what `what` says. With a `folder` it leaves a file there for every process that died."""

    simulated = True

    def __init__(self, what="answer", folder=None):
        self.what, self.folder = what, folder

    async def attempt(self, request, *, timeouts, key):
        await asyncio.sleep(0.5)
        return getattr(self, self.what)()

    def answer(self):
        return Answer("ok")

    def fail(self):
        return AttemptFailure(FailureReason.SERVER_ERROR, "no")

    def raise_(self):
        raise ValueError("a bug of the user's")

    def exit(self):
        self._mark()
        os._exit(3)

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def die_once(self):
        if not any(Path(self.folder).iterdir()):
            self.exit()
        return Answer("ok")

    def _mark(self):
        if self.folder is not None:
            (Path(self.folder) / str(os.getpid())).touch()


class Endless:
    """Presses Ctrl-C (or calls `then`) in run number 1, and never answers there."""

    def __init__(self, number=0, *, simulated=False, then=None):
        self.number, self.simulated, self.then = number, simulated, then

    async def attempt(self, request, *, timeouts, key):
        if self.number == 1:
            (self.then or interrupt)()
            for _ in range(10**9):  # keeps a virtual loop busy
                await asyncio.sleep(0.001)
        return Answer("ok")


def interrupt():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
