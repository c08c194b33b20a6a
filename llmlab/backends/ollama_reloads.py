"""Warns where options make Ollama load a model again, which takes as long as a cold start and empties its queue.

Ollama loads a model with some of the options (`LOAD_OPTIONS`, its `api.Runner`), and whoever asks for it with others
makes it load it anew (`needsReload` in its `server/sched.go`). Two clients with different ones so take turns in
reloading it. Within one client all calls have the same options; so what is compared is what the server holds (`num_ctx`
is all that it tells), and what is noticed is that a model which had just answered was loaded again. Each is said once
for a model.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from llmlab.backends.ollama_description import tagged
from llmlab.core.backend import AttemptFailure, Timeouts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmlab.backends.ollama_description import LoadedModel
    from llmlab.backends.ollama_inquiry import Inquiry

logger = logging.getLogger("llmlab")

LOAD_OPTIONS = frozenset(
    {
        "num_ctx",
        "num_batch",
        "num_gpu",
        "main_gpu",
        "use_mmap",
        "num_thread",
        # of older servers
        "low_vram",
        "f16_kv",
        "logits_all",
        "vocab_only",
        "use_mlock",
        "numa",
    }
)
"""The options with which Ollama loads a model; all others are of the single request."""

_PATIENCE = Timeouts(connect=1.0, first_byte=1.0)
_A_LOAD = 0.5
"""Seconds. A model that is loaded is found in milliseconds; to load one takes longer than this."""
_KEPT_FOR = 60.0
"""Seconds in which a model that has just answered does not expire, unless `keep_alive` is shorter."""


class ReloadWatch:
    """Watches one session's models.

    Args:
        inquiry: asks the server what it has loaded.
        base_url: where that is, for the messages.
        options: the backend's options, which all its calls have.
        keep_alive: the backend's own, which says when a model may rightly be loaded again.
    """

    def __init__(
        self, inquiry: Inquiry, base_url: str, options: Mapping[str, Any], keep_alive: str | float | None
    ) -> None:
        self._inquiry = inquiry
        self._url = base_url
        self._context = options.get("num_ctx")
        self._options = ", ".join(f"{name}={options[name]}" for name in sorted(LOAD_OPTIONS & options.keys()))
        self._kept_for = _KEPT_FOR if keep_alive is None else min(_KEPT_FOR, seconds_of(keep_alive))
        self._compared: set[str] = set()
        self._answered: dict[str, float] = {}
        self._told: set[str] = set()

    async def before(self, model: str) -> None:
        """Compare a model's context with what is loaded, before it is first asked; costs nothing without `num_ctx`."""
        if self._context is None or model in self._compared:
            return
        self._compared.add(model)
        found = await self._inquiry.loaded(model, _PATIENCE)
        if not isinstance(found, AttemptFailure):
            await self.compare(model, found[1])

    async def compare(self, model: str, loaded: LoadedModel | None) -> None:
        """Warn where a model is loaded with another context than these options ask for."""
        self._compared.add(model)
        held = None if loaded is None else loaded.context_length
        wanted = self._context
        if held is None or not isinstance(wanted, int | float) or wanted == held:
            return
        if wanted > held and await self._longest_context(model) == held:
            return  # Ollama gives a model no more context than it was made for
        logger.warning(
            "Ollama at %s has '%s' loaded with a context of %d tokens and now loads it again, for num_ctx=%s; clients "
            "that ask for one model with different options of these make it load at each change: %s",
            self._url,
            model,
            held,
            wanted,
            ", ".join(sorted(LOAD_OPTIONS)),
        )

    def answered(self, model: str, began: float, now: float, last_line: Mapping[str, Any]) -> None:
        """Take in an answer: warn where its model was loaded for it, although it had just been answering.

        Args:
            model: which was asked.
            began: when, on the event loop's clock.
            now: the same clock.
            last_line: the answer's last line, which says in nanoseconds how long loading took.
        """
        before = self._answered.get(model)
        self._answered[model] = now
        took = last_line.get("load_duration")
        if before is None or model in self._told or not isinstance(took, int) or took < _A_LOAD * 1e9:
            return
        if not 0 <= began - before < self._kept_for:
            return
        self._told.add(model)
        logger.warning(
            "Ollama at %s loaded '%s' again, which took %.1f s, although it had answered %.1f s before; who else uses "
            "it asks for other options than this client (%s), or for a model that takes its place",
            self._url,
            model,
            took / 1e9,
            began - before,
            self._options or "which leaves them to the server",
        )

    async def _longest_context(self, model: str) -> int | None:
        models = await self._inquiry.installed(_PATIENCE)
        if isinstance(models, AttemptFailure):
            return None
        return next((one.context_length for one in models if one.name == tagged(model)), None)


_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(keep_alive: str | float) -> float:
    """Return a `keep_alive` in seconds; a negative one means for ever, `inf`."""
    if isinstance(keep_alive, str):
        parts = re.findall(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", keep_alive)
        sign = -1 if keep_alive.startswith("-") else 1
        keep_alive = sign * sum(float(number) * _UNITS[unit] for number, unit in parts)
    return float("inf") if keep_alive < 0 else float(keep_alive)
