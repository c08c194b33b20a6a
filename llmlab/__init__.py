"""llmlab: find out, before production does, how an LLM client behaves when the model server misbehaves.

    from llmlab import MockLLM

    result = MockLLM(timeout_probability=0.2).generate("Hello")
    print(result.text if result.ok else result.reason)

The map; each package imports only from those above it:

    core/           what a call is: requests, results, events, policies, and THE call (core/flow.py)
      vocabulary.py   FailureReason, Fate: every word for what can go wrong, in one table
      messages.py     LLMRequest, LLMResponse, LLMFailure
      backend.py      the Backend protocol: how to write your own
      policy.py       ClientPolicy, with the table of defaults
      presets.py      preset("openai"), ...: real clients as policies, each number with its source
      events.py       AttemptEvent, CallEvent, and the catalogue of their columns
      client.py       AsyncClient; text_stream.py: its answers in pieces, AsyncLLMStream
    virtual_time/   the event loop whose clock jumps: run(main())
    sync.py         Client, the synchronous face of AsyncClient
    observers.py    events into files and into logging
    notebook.py     asyncio.run in notebook cells, for code of one's own; llmlab needs nothing there
    telemetry/      events into OpenTelemetry spans and metrics
    backends/       what a call is sent to: mock.py (simulated), ollama.py, openai.py, with_faults.py
      faults.py       the vocabulary of what goes wrong
      layer.py        a client as a value, for stacks; fallback.py tries several
      replay.py       answers as recorded
      server_model.py a simulated server that queues: slots, tokens, cold starts, limits, outages
    conduct/        how a client behaved towards a misbehaving server: recordings of the fault server
    llms.py         MockLLM, LocalLLM, OpenAILLM and their async twins: a backend and a policy in one
    arrow.py        events as Arrow tables: the form in which they are stored and sent
    analysis/       events into data frames, metrics and intervals; recommend: a sweep and an SLO into a decision
      sweep_reading.py  a sweep's result in a sentence or two
    wire/           the simulated server as HTTP, for clients of any make: exchange.py says what goes over the wire
    experiments/    Experiment, Sweep, SweepResult: the same client code under many settings
      storm_map.py    which loads and retries outlive an outage
      verify/         known answers of theory that the simulation must reproduce: `llmlab verify`
      reading.py      a result in one sentence
      counterfactual.py  yesterday's events under another policy
      tune.py         a search for the settings that keep an SLO
    calibration/    a simulated server fitted to recorded events, and how well it predicts: calibrate
    exports/        a policy as settings for other clients (openai, anthropic, litellm, tenacity); as_code
    plots/          data frames into charts
    reports/        a result as one HTML file: report(result, "out.html")
    widgets/        pages for notebooks: SweepDashboard
    server/         HTTP servers on loopback that misbehave: FaultServer, simulated; replay.py, recorded
    cli/            the command `llmlab`

Names are loaded on first use: `import llmlab` alone loads neither pandas nor matplotlib.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmlab.analysis.recommend import recommend
    from llmlab.analysis.slo import SLO
    from llmlab.analysis.sweep_reading import sweep_reading
    from llmlab.backends.distributions import Constant, Empirical, Exponential, Lognormal, Uniform
    from llmlab.backends.fallback import Fallback
    from llmlab.backends.fault_schedule import Burst, Ramp, Window
    from llmlab.backends.faults import FaultKind, Faults
    from llmlab.backends.layer import Layer
    from llmlab.backends.mock import MockBackend
    from llmlab.backends.ollama import OllamaBackend
    from llmlab.backends.ollama_description import ServerDescription
    from llmlab.backends.ollama_inquiry import WarmUp
    from llmlab.backends.openai import OpenAIBackend
    from llmlab.backends.replay import ReplayBackend
    from llmlab.backends.server_model import Outage, ServerModel
    from llmlab.backends.with_faults import WithFaults
    from llmlab.calibration.calibration import Calibration
    from llmlab.calibration.fitting import calibrate
    from llmlab.core.adaptive import AdaptiveConcurrency
    from llmlab.core.backend import Answer, AttemptFailure, AttemptKey, Backend, Timeouts
    from llmlab.core.breaker import CircuitBreaker
    from llmlab.core.budget import RetryBudget
    from llmlab.core.client import AsyncClient
    from llmlab.core.event_log import EventLog
    from llmlab.core.events import AttemptEvent, CallEvent, Observer
    from llmlab.core.hedging import Hedging
    from llmlab.core.limits import RateLimit
    from llmlab.core.messages import LLMError, LLMFailure, LLMRequest, LLMResponse, Message, Usage
    from llmlab.core.policy import ClientPolicy
    from llmlab.core.presets import preset, stack
    from llmlab.core.retry import Backoff, RetryPolicy
    from llmlab.core.settings import SettingsError
    from llmlab.core.text_stream import AsyncLLMStream, LLMStream
    from llmlab.core.throttle import AdaptiveThrottle
    from llmlab.core.vocabulary import FailureReason, Fate, FinishReason
    from llmlab.experiments.arrivals import BurstyArrivals, ConstantArrivals, PoissonArrivals, TraceArrivals
    from llmlab.experiments.axes import LinearRange, LogRange, Values
    from llmlab.experiments.conditions import Condition
    from llmlab.experiments.counterfactual import counterfactual
    from llmlab.experiments.experiment import Experiment
    from llmlab.experiments.precision import Precision
    from llmlab.experiments.procedure import Procedure
    from llmlab.experiments.prompts import prompts
    from llmlab.experiments.rates import RateRamp, RateSteps
    from llmlab.experiments.reading import reading
    from llmlab.experiments.samples import Samples
    from llmlab.experiments.storm_map import storm_map
    from llmlab.experiments.sweep import Sweep
    from llmlab.experiments.sweep_result import SweepResult
    from llmlab.experiments.tune import tune
    from llmlab.experiments.workload import ClosedLoop, OpenLoop
    from llmlab.exports.as_code import as_code
    from llmlab.exports.export import export_policy
    from llmlab.llms import AsyncLocalLLM, AsyncMockLLM, AsyncOpenAILLM, LocalLLM, MockLLM, OpenAILLM
    from llmlab.observers import JsonLinesObserver, LoggingObserver
    from llmlab.reports.document import report
    from llmlab.server.fault_server import FaultServer
    from llmlab.sync import Client
    from llmlab.telemetry.observer import OpenTelemetryObserver
    from llmlab.wire.randomness import seeded_random
    from llmlab.wire.transport import SimulatedTransport

_HOME = {
    "llmlab.analysis.recommend": ("recommend",),
    "llmlab.analysis.sweep_reading": ("sweep_reading",),
    "llmlab.analysis.slo": ("SLO",),
    "llmlab.backends.distributions": ("Constant", "Empirical", "Exponential", "Lognormal", "Uniform"),
    "llmlab.backends.fallback": ("Fallback",),
    "llmlab.backends.fault_schedule": ("Burst", "Ramp", "Window"),
    "llmlab.backends.faults": ("FaultKind", "Faults"),
    "llmlab.backends.layer": ("Layer",),
    "llmlab.backends.mock": ("MockBackend",),
    "llmlab.backends.ollama": ("OllamaBackend",),
    "llmlab.backends.ollama_description": ("ServerDescription",),
    "llmlab.backends.ollama_inquiry": ("WarmUp",),
    "llmlab.backends.openai": ("OpenAIBackend",),
    "llmlab.backends.replay": ("ReplayBackend",),
    "llmlab.backends.server_model": ("Outage", "ServerModel"),
    "llmlab.backends.with_faults": ("WithFaults",),
    "llmlab.calibration.calibration": ("Calibration",),
    "llmlab.calibration.fitting": ("calibrate",),
    "llmlab.core.adaptive": ("AdaptiveConcurrency",),
    "llmlab.core.backend": ("Answer", "AttemptFailure", "AttemptKey", "Backend", "Timeouts"),
    "llmlab.core.breaker": ("CircuitBreaker",),
    "llmlab.core.budget": ("RetryBudget",),
    "llmlab.core.client": ("AsyncClient",),
    "llmlab.core.event_log": ("EventLog",),
    "llmlab.core.events": ("AttemptEvent", "CallEvent", "Observer"),
    "llmlab.core.hedging": ("Hedging",),
    "llmlab.core.limits": ("RateLimit",),
    "llmlab.core.messages": ("LLMError", "LLMFailure", "LLMRequest", "LLMResponse", "Message", "Usage"),
    "llmlab.core.policy": ("ClientPolicy",),
    "llmlab.core.presets": ("preset", "stack"),
    "llmlab.core.retry": ("Backoff", "RetryPolicy"),
    "llmlab.core.settings": ("SettingsError",),
    "llmlab.core.text_stream": ("AsyncLLMStream", "LLMStream"),
    "llmlab.core.throttle": ("AdaptiveThrottle",),
    "llmlab.core.vocabulary": ("FailureReason", "Fate", "FinishReason"),
    "llmlab.experiments.arrivals": ("BurstyArrivals", "ConstantArrivals", "PoissonArrivals", "TraceArrivals"),
    "llmlab.experiments.axes": ("LinearRange", "LogRange", "Values"),
    "llmlab.experiments.conditions": ("Condition",),
    "llmlab.experiments.counterfactual": ("counterfactual",),
    "llmlab.experiments.experiment": ("Experiment",),
    "llmlab.experiments.precision": ("Precision",),
    "llmlab.experiments.procedure": ("Procedure",),
    "llmlab.experiments.prompts": ("prompts",),
    "llmlab.experiments.rates": ("RateRamp", "RateSteps"),
    "llmlab.experiments.reading": ("reading",),
    "llmlab.experiments.samples": ("Samples",),
    "llmlab.experiments.storm_map": ("storm_map",),
    "llmlab.experiments.sweep": ("Sweep",),
    "llmlab.experiments.sweep_result": ("SweepResult",),
    "llmlab.experiments.tune": ("tune",),
    "llmlab.experiments.workload": ("ClosedLoop", "OpenLoop"),
    "llmlab.exports.as_code": ("as_code",),
    "llmlab.exports.export": ("export_policy",),
    "llmlab.llms": ("AsyncLocalLLM", "AsyncMockLLM", "AsyncOpenAILLM", "LocalLLM", "MockLLM", "OpenAILLM"),
    "llmlab.observers": ("JsonLinesObserver", "LoggingObserver"),
    "llmlab.reports.document": ("report",),
    "llmlab.server.fault_server": ("FaultServer",),
    "llmlab.sync": ("Client",),
    "llmlab.wire.randomness": ("seeded_random",),
    "llmlab.wire.transport": ("SimulatedTransport",),
    "llmlab.telemetry.observer": ("OpenTelemetryObserver",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "AdaptiveConcurrency",
    "AdaptiveThrottle",
    "Answer",
    "AsyncClient",
    "AsyncLLMStream",
    "AsyncLocalLLM",
    "AsyncMockLLM",
    "AsyncOpenAILLM",
    "AttemptEvent",
    "AttemptFailure",
    "AttemptKey",
    "Backend",
    "Backoff",
    "Burst",
    "BurstyArrivals",
    "Calibration",
    "CallEvent",
    "CircuitBreaker",
    "Client",
    "ClientPolicy",
    "ClosedLoop",
    "Condition",
    "Constant",
    "ConstantArrivals",
    "Empirical",
    "EventLog",
    "Experiment",
    "Exponential",
    "FailureReason",
    "Fallback",
    "Fate",
    "FaultKind",
    "FaultServer",
    "Faults",
    "FinishReason",
    "Hedging",
    "JsonLinesObserver",
    "LLMError",
    "LLMFailure",
    "LLMRequest",
    "LLMResponse",
    "LLMStream",
    "Layer",
    "LinearRange",
    "LocalLLM",
    "LogRange",
    "LoggingObserver",
    "Lognormal",
    "Message",
    "MockBackend",
    "MockLLM",
    "Observer",
    "OllamaBackend",
    "OpenAIBackend",
    "OpenAILLM",
    "OpenLoop",
    "OpenTelemetryObserver",
    "Outage",
    "PoissonArrivals",
    "Precision",
    "Procedure",
    "Ramp",
    "RateLimit",
    "RateRamp",
    "RateSteps",
    "ReplayBackend",
    "RetryBudget",
    "RetryPolicy",
    "SLO",
    "Samples",
    "ServerDescription",
    "ServerModel",
    "SettingsError",
    "SimulatedTransport",
    "Sweep",
    "SweepResult",
    "Timeouts",
    "TraceArrivals",
    "Uniform",
    "Usage",
    "Values",
    "WarmUp",
    "Window",
    "WithFaults",
    "as_code",
    "calibrate",
    "counterfactual",
    "export_policy",
    "preset",
    "prompts",
    "reading",
    "recommend",
    "report",
    "seeded_random",
    "stack",
    "storm_map",
    "sweep_reading",
    "tune",
]


_PARTS = ("analysis", "notebook", "plots", "virtual_time", "widgets")
"""The parts whose own names are used as they stand there: `llmlab.plots.failure_rate`."""


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return import_module(f"llmlab.{name}")
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'llmlab' has no attribute '{name}'", name=name, obj=sys.modules[__name__])
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_PARTS, *(name for name in globals() if name.startswith("__"))})
