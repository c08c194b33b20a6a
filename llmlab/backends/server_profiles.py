"""Known servers as settings of a `ServerModel`: for each field its value and where the value comes from.

What has no source is marked *assumed* and is there to be changed: a profile gives a server's shape, and its pace is
that of one machine. "Recordings" are exchanges with Ollama 0.32.15 on two CPU cores, the model `tiny-slow` (286 M
parameters); those that the package's tests replay stand in `tests/data/ollama`.
"""

from __future__ import annotations

from typing import Any

from llmlab.backends.distributions import Lognormal

_ASSUMED_LENGTH = (Lognormal(median=200, sigma=0.8), "assumed: answers of a chat, with a long tail")

PROFILES: dict[str, dict[str, tuple[Any, str]]] = {
    "ollama": {
        "slots": (1, "OLLAMA_NUM_PARALLEL, unset: the recorded server served one at a time"),
        "queue": (
            None,
            "recording busy_warm_no_503: with the model loaded, 12 requests wait although OLLAMA_MAX_QUEUE is 1",
        ),
        "discipline": ("fifo", "recording busy_warm_no_503: 12 answers one after another"),
        "on_disconnect": (
            "stop",
            "recordings client_disconnect_stream_fin ('cancel task') and client_timeout_while_waiting ('aborting')",
        ),
        "prefill_rate": (143.0, "recording busy_503_reload: 23 prompt tokens in 0.1615 s after a load"),
        "decode_rate": (43.2, "measured: the median request, alone"),
        "batch_slowdown": (
            0.55,
            "measured, OLLAMA_NUM_PARALLEL=4: alone and among four, tokens/s 43.2 and 16.3, first line 26 and 69 ms",
        ),
        "load_time": (0.76, "recording busy_503_cold: load_duration 0.7612 s"),
        "load_queue": (
            512,
            "OLLAMA_MAX_QUEUE's default; recordings busy_503_*: at 1, one loads, one waits, the others get 503 at once",
        ),
        "keep_alive": (300.0, "OLLAMA_KEEP_ALIVE's default of 5 minutes (envconfig/config.go)"),
    },
    "vllm": {
        "slots": (128, "SchedulerConfig.DEFAULT_MAX_NUM_SEQS (docs.vllm.ai, config/scheduler)"),
        "queue": (None, "the scheduler's waiting queue has no bound"),
        "discipline": ("fifo", "SchedulerConfig.policy defaults to 'fcfs'"),
        "on_disconnect": ("stop", "the OpenAI-compatible server aborts a request whose client disconnects"),
        "prefill_rate": (8000.0, "assumed: an 8 B model on one data-centre GPU"),
        "decode_rate": (80.0, "assumed: the same, a request alone"),
        "batch_slowdown": (0.015, "assumed: 128 together at a third of the speed of one, 44 times its throughput"),
        "output_tokens": _ASSUMED_LENGTH,
    },
    "hosted-api": {
        "slots": (100_000, "assumed: the provider's capacity is not what one customer meets; the limits are"),
        "on_disconnect": ("work_on", "assumed: what is generated is billed, whether or not the client is still there"),
        "time_to_first_token": (Lognormal(median=0.5, sigma=0.5), "assumed: half a second, p99 at 1.6 s"),
        "decode_rate": (60.0, "assumed: a mid-size model"),
        "output_tokens": _ASSUMED_LENGTH,
        "requests_per_minute": (50.0, "Anthropic's published tier 1; providers differ by four orders of magnitude"),
        "tokens_per_minute": (40_000.0, "Anthropic's published tier 1 for input tokens; here all tokens count"),
        "limit_burst": (60.0, "Anthropic's rate limits are token buckets that refill continuously up to the limit"),
    },
}
"""For each profile: the setting, its value, and the value's source."""


def profiles_table() -> str:
    """Return the profiles as a Markdown table, the one that stands in the documentation."""
    lines = ["| profile | setting | value | source |", "| --- | --- | --- | --- |"]
    for name, settings in PROFILES.items():
        lines += [f"| `{name}` | `{field}` | `{value}` | {source} |" for field, (value, source) in settings.items()]
    return "\n".join(lines)
