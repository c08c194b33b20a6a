"""Exceptions that nobody awaits: the loop's exception handler, word for word as asyncio's own loops have it.

asyncio keeps this in `BaseEventLoop`, together with everything a loop on virtual time must not have; hence this part
on its own. It is asyncio's contract (arguments, logger, fallbacks), so code and tests that rely on it see no
difference.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

_logger = logging.getLogger("asyncio")


class ReportsExceptions(asyncio.AbstractEventLoop):
    """The part of a loop that reports exceptions; log records go to the logger `asyncio`."""

    _exception_handler: Handler | None = None

    def get_exception_handler(self) -> Handler | None:
        """The handler in use, or `None` for the default one."""
        return self._exception_handler

    def set_exception_handler(self, handler: Handler | None) -> None:
        """Use `handler(loop, context)` from now on; `None` restores the default."""
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log the message, the exception and everything else the context holds."""
        lines = [context.get("message") or "Unhandled exception in event loop"]
        lines += [_described(key, context[key]) for key in sorted(context) if key not in ("message", "exception")]
        error = context.get("exception")
        exc_info = (type(error), error, error.__traceback__) if error is not None else False
        _logger.error("\n".join(lines), exc_info=exc_info)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Report `context`; a handler that fails is itself reported, and never breaks the loop."""
        handler = self._exception_handler
        if handler is None:
            self._report_by_default(context)
            return
        try:
            _run_in_context_of(context, handler, self, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is reported, as asyncio does it
            self._report_by_default(
                {"message": "Unhandled error in exception handler", "exception": error, "context": context},
                failure="Exception in default exception handler while handling an unexpected error "
                "in custom exception handler",
            )

    def _report_by_default(
        self, context: dict[str, Any], failure: str = "Exception in default exception handler"
    ) -> None:
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:  # a subclass may have replaced it
            _logger.exception(failure)


def _described(key: str, value: object) -> str:
    if key == "source_traceback":
        created = "".join(traceback.format_list(value)).rstrip()  # type: ignore[arg-type]
        return f"{key}: Object created at (most recent call last):\n{created}"
    return f"{key}: {value!r}"


def _run_in_context_of(context: dict[str, Any], handler: Handler, *args: Any) -> None:
    """Call the handler in the contextvars context of the task that failed, where there is one."""
    source = next((context[key] for key in ("task", "future", "handle") if context.get(key) is not None), None)
    get_context = getattr(source, "get_context", None)  # futures have none, nor have 3.11's tasks
    own = get_context() if get_context is not None else None
    if own is None:
        handler(*args)
    else:
        own.run(handler, *args)
