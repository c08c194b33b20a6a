"""The settings of a simulated server that really queues: `MockBackend(server=ServerModel(...))`.

Independent coin flips cannot show a retry storm; a queue can. The law of service, in one place:

- A request needs *work*, counted in seconds of a slot that serves it alone. Its work is drawn from `service_time`; or
  it is `time_to_first_token + prompt tokens / prefill_rate + output tokens / decode_rate` where a `decode_rate` is
  given; or else it is the backend's `latency`.
- While n requests are being served, each gets `1 / (1 + batch_slowdown * (n - 1))` seconds of work done per second,
  prompt and answer alike. 0 is independent slots (M/G/c), 1 one processor shared by all (M/G/1-PS; Kleinrock, Queueing
  Systems II, 4.4), and between them lies a batch. Whenever n changes, all remaining work goes on at the new speed.
- Its first token comes with the first `first_token_share` of the work (of the backend), or, by tokens, after the
  prompt and one output token; the others follow evenly, in work.

`server_machine.py` is the machine itself, pure; `server_driver.py` and `served_mock.py` await it; `server_profiles.py`
has the numbers of known servers, with their sources; `server_view.py` is what the server records of itself.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from llmlab.backends.distributions import Distribution
from llmlab.backends.server_profiles import PROFILES
from llmlab.core.settings import Settings, SettingsError, nearest


class Outage(Settings):
    """From `start` up to `end` the server does no work: requests still arrive and queue, and are served afterwards.

    In seconds since the backend's first use on its event loop. A server that refuses meanwhile is a fault `Window`.
    """

    start: float = Field(ge=0)
    end: float = Field(gt=0)

    def model_post_init(self, _context: Any) -> None:
        """Refuse an empty outage."""
        if self.end <= self.start:
            raise ValueError(f"end must be later than start={self.start:g}, got {self.end:g}")


def _as_tuple(given: object) -> object:
    """Take a single outage for a tuple of one."""
    return (given,) if isinstance(given, Settings | dict) else given


class ServerModel(Settings):
    """A server with slots, a queue and a pace.

        MockBackend(server=ServerModel(slots=4, queue=100, service_time=Exponential(mean=2)))
        MockBackend(server=ServerModel.profile("ollama", slots=2))

    Raises:
        SettingsError: a setting has a wrong name, type or value.
    """

    slots: int = Field(default=1, ge=1)
    """Requests served at once: Ollama's OLLAMA_NUM_PARALLEL, vLLM's max_num_seqs."""
    queue: int | None = Field(default=None, ge=0)
    """Requests that may wait for a slot; one more is refused with 503. `None` is no bound."""
    discipline: Literal["fifo", "lifo"] = "fifo"
    """Who of those waiting is next: who came first, or who came last."""
    on_disconnect: Literal["stop", "work_on"] = "stop"
    """What becomes of a request whose client has gone: it is dropped, from its slot or the queue; or it is served to
    the end for nobody."""

    service_time: Distribution | None = None
    """Work of a request, in seconds; `None` is the backend's `latency`, or the tokens' where there is a
    `decode_rate`."""
    time_to_first_token: Distribution | None = None
    """Work before the first output token, beside that on the prompt, in seconds; needs a `decode_rate`."""
    prefill_rate: float | None = Field(default=None, gt=0)
    """Prompt tokens read per second, by a request that is alone; `None` is at once."""
    decode_rate: float | None = Field(default=None, gt=0)
    """Output tokens written per second, by a request that is alone."""
    output_tokens: Distribution | None = None
    """How many tokens an answer has, rounded to a whole number from 1 on; `None` is those of its text. The request's
    `max_tokens` cuts both, with finish reason `length`."""
    batch_slowdown: float = Field(default=0.0, ge=0)
    """How much each further request that is being served slows all of them; see the law above."""

    load_time: Distribution | None = None
    """How long the model takes to load, in seconds; `None` is a server that has every model loaded at all times."""
    load_queue: int | None = Field(default=None, ge=0)
    """Requests that may wait behind the one that a model is being loaded for, or will be; one more is refused with
    503. `None` is no bound."""
    keep_alive: float | None = Field(default=None, ge=0)
    """After how many idle seconds the model is unloaded; `None` is never."""

    requests_per_minute: float | None = Field(default=None, gt=0)
    """More are refused with 429 and the Retry-After after which this very request would be let in."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """The same for tokens: those of the prompt plus `max_tokens` at first, those really used in the end."""
    limit_burst: float = Field(default=60.0, gt=0)
    """How many seconds' worth of both limits may be used at once after a quiet time (the token bucket's size)."""

    outages: Annotated[
        tuple[Outage, ...], BeforeValidator(_as_tuple, json_schema_input_type=tuple[Outage, ...] | Outage)
    ] = ()
    """When the server does no work."""
    record_every: float | None = Field(default=0.0, ge=0)
    """At most one row of the server's own view per this many seconds; 0 is every change, `None` is no view."""

    @classmethod
    def profile(cls, name: str, **changes: Any) -> Self:
        """Return a known server's settings, changed where you say so.

        Args:
            name: `"ollama"`, `"vllm"` or `"hosted-api"`; `server_profiles.py` has each number's source.
            changes: settings that replace the profile's.

        Raises:
            SettingsError: there is no such profile, or a change is not valid.
        """
        if name not in PROFILES:
            raise SettingsError(f"there is no profile {name!r}; {nearest(str(name), PROFILES)}")
        return cls(**{**{field: value for field, (value, _) in PROFILES[name].items()}, **changes})

    @model_validator(mode="after")
    def _one_law_of_service(self) -> Self:
        if self.decode_rate is not None and self.service_time is not None:
            raise ValueError("ServerModel takes service_time or decode_rate, got both; leave one of them out")
        if self.decode_rate is None and (self.prefill_rate is not None or self.time_to_first_token is not None):
            given = "prefill_rate" if self.prefill_rate is not None else "time_to_first_token"
            raise ValueError(f"ServerModel: {given} counts only where answers are made of tokens; give a decode_rate")
        if self.load_time is None and (self.load_queue is not None or self.keep_alive is not None):
            given = "load_queue" if self.load_queue is not None else "keep_alive"
            raise ValueError(f"ServerModel: {given} counts only where models are loaded; give a load_time")
        ordered = sorted(self.outages, key=lambda outage: outage.start)
        for one, next_one in pairwise(ordered):
            if next_one.start < one.end:
                raise ValueError(
                    f"outages: {one.start:g} to {one.end:g} and {next_one.start:g} to {next_one.end:g} overlap"
                )
        return self
