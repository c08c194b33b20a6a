"""A client as a value: `Layer`, and what the client outside sees of it."""

import asyncio
import pickle

import pytest

from llmlab import (
    Answer,
    AsyncClient,
    Backoff,
    Client,
    ClientPolicy,
    ClosedLoop,
    EventLog,
    Experiment,
    Fallback,
    Fate,
    Layer,
    MockBackend,
    RateLimit,
    RetryPolicy,
    ServerModel,
    SettingsError,
    Sweep,
    WithFaults,
)
from llmlab.core.presets import stack
from llmlab.experiments.experiment import seeded
from llmlab.virtual_time import run

ONCE = ClientPolicy(retry=RetryPolicy(max_retries=0))
TWICE = ClientPolicy(retry=RetryPolicy(max_retries=1, backoff=Backoff(base=0.0, jitter="none")))


class Named:
    """Answers with the model that it is asked for."""

    simulated = True

    async def attempt(self, request, *, timeouts, key):
        return Answer(str(request.model))


def ask(backend, policy=ONCE, observers=()):
    return run(AsyncClient(backend, policy, observers=observers, seed=0).generate("Hi"))


def test_one_attempt_outside_is_one_call_inside_with_retries_of_its_own():
    log = EventLog()
    result = ask(Layer(MockBackend(script=["overload", "answer"]), TWICE, name="sdk"), observers=[log])
    assert (result.ok, result.attempts) == (True, 1)
    assert [(event.layer, event.backend, event.attempt) for event in log.attempts] == [
        ("sdk", "mock", 1),
        ("sdk", "mock", 2),
        ("client", "sdk", 1),
    ]
    inner, outer = log.calls
    assert (inner.parent_call, inner.parent_attempt) == (outer.call, 1)


def test_it_asks_for_its_own_model_whatever_the_request_says():
    assert ask(Layer(Named(), model="small")).text == "small"
    assert ask(Layer(Named())).text == "None"


def test_the_first_token_counts_from_the_start_of_the_attempt_outside():
    backend = MockBackend(script=["server_error"], refusal_latency=3.0, latency=4.0, first_token_share=0.25)
    assert ask(Layer(backend, TWICE)).time_to_first_token == 4.0
    assert ask(AsyncClient(backend, TWICE)).time_to_first_token == 4.0


def test_layers_of_one_name_are_numbered_from_the_outside_in():
    log = EventLog()
    ask(AsyncClient(Layer(Layer(WithFaults(Layer(MockBackend()))), name="client")), observers=[log])
    assert [call.layer for call in log.calls] == ["layer-2", "layer", "client-3", "client-2", "client"]


def test_an_observer_of_several_layers_gets_each_event_once():
    log, inner_only = EventLog(), EventLog()
    inner = AsyncClient(MockBackend(), observers=[log, inner_only], layer="inner", seed=0)
    ask(inner, observers=[log])
    assert [call.layer for call in log.calls] == ["inner", "client"]
    assert [call.layer for call in inner_only.calls] == ["inner"]


def test_a_client_inside_keeps_its_own_observers_whether_or_not_the_one_outside_has_any():
    log = EventLog()
    ask(AsyncClient(MockBackend(), observers=[log], seed=0))
    assert [call.layer for call in log.calls] == ["client-2"]


def test_a_layer_inside_is_closed_with_the_client_outside():
    class Closing(Named):
        closed = 0

        async def aclose(self):
            self.closed += 1

    backend = Closing()
    with Client(WithFaults(Layer(Layer(backend))), observers=[EventLog()]) as client:
        assert client.generate("Hi").ok
    assert backend.closed == 1


@pytest.mark.parametrize("inside", [lambda one: Layer(Layer(one, ONCE), ONCE), lambda one: Fallback([one])])
def test_clients_inside_that_are_asked_again_after_they_were_closed_leave_the_loop_no_timer(inside):
    async def main():
        loop = asyncio.get_running_loop()
        client = AsyncClient(inside(MockBackend(latency=1.0, script=["cut"])), TWICE, seed=0)
        call = asyncio.create_task(client.generate("Hi"))
        await asyncio.sleep(0.25)
        await client.aclose()
        attempts = (await call).attempts
        return attempts, [timer for timer in loop._timers if not timer.cancelled()]

    assert run(main()) == (2, [])


def test_clients_outside_share_the_limits_of_the_same_layer():
    layer = Layer(MockBackend(latency=1.0), ONCE.replace(max_concurrency=1))

    async def main():
        clients = [AsyncClient(layer, observers=[EventLog()]), AsyncClient(layer), AsyncClient(Layer(layer.backend))]
        await asyncio.gather(*(client.generate("Hi") for client in clients))
        return asyncio.get_running_loop().time()

    assert run(main()) == 2.0


def test_its_limits_are_fresh_in_every_simulation():
    layer = Layer(MockBackend(latency=0.0), ONCE.replace(rate_limit=RateLimit(requests=1, per=3600), total_timeout=5))
    assert [ask(layer).ok for _ in range(2)] == [True, True]


def test_an_experiments_frames_hold_the_outermost_client_and_each_layer_by_name():
    application, router, sdk = (policy.replace(total_timeout=None) for policy in stack("stamina", "litellm", "openai"))
    backend = Layer(Layer(MockBackend(overload_probability=0.6), sdk, name="sdk"), router, name="router")
    result = Experiment(backend=backend, policy=application, workload=ClosedLoop(calls=100)).run()
    assert (result.calls["parent_call"] == -1).all()
    assert set(result.layers) == {"router", "sdk"}
    counts = [result.attempts, result.layer("router").calls, result.layer("router").attempts]
    counts += [result.layer("sdk").calls, result.layer("sdk").attempts]
    outer, router_calls, router_attempts, sdk_calls, wire = map(len, counts)
    assert 100 < outer == router_calls < router_attempts == sdk_calls < wire
    assert result.summary()["calls"].item() == 100
    assert result.layer("router").summary()["calls"].item() == router_calls
    assert result.layer("sdk").calls["attempts"].sum() == wire
    with pytest.raises(KeyError, match="no layer 'sdl' has made calls; those that have: "):
        result.layer("sdl")


def test_what_the_layers_of_a_stack_multiply_is_what_one_client_alone_would_not_send():
    down = MockBackend(server_error_probability=1.0)
    retrying = TWICE.replace(retry=TWICE.retry.replace(max_retries=2))
    stacked = Layer(Layer(down, retrying, name="sdk"), retrying, name="router")
    result = Experiment(backend=stacked, policy=retrying, workload=ClosedLoop(calls=10)).run()
    assert len(result.layer("sdk").attempts) == 10 * 3**3


def test_the_frames_of_a_client_without_layers_hold_every_event():
    result = Experiment(workload=ClosedLoop(calls=10)).run()
    assert (len(result.calls), result.layers) == (10, [])
    with pytest.raises(KeyError, match="those that have: none"):
        result.layer("sdk")


def test_a_stack_is_seeded_by_the_experiment_down_to_the_server():
    def outcome(backend, seed):
        result = Experiment(backend=backend, workload=ClosedLoop(calls=30), seed=seed).run()
        return result.calls.drop(columns="seed").to_csv()

    for make in (Layer, AsyncClient):
        stacked = make(MockBackend(overload_probability=0.5, seed=3), ClientPolicy())
        assert outcome(stacked, 1) == outcome(stacked, 1) != outcome(stacked, 2)
    assert seeded(Layer(MockBackend()), 7) == Layer(MockBackend(seed=7), seed=7)


def test_the_servers_view_is_seen_through_layers():
    server = MockBackend(server=ServerModel(slots=1))
    for backend in (Layer(Layer(server)), AsyncClient(Layer(server)), WithFaults(Layer(server))):
        assert len(Experiment(backend=backend, workload=ClosedLoop(calls=5)).run().server) > 5


def test_a_sweep_reaches_into_layers():
    base = Experiment(backend=Layer(MockBackend(server_error_probability=1.0), TWICE), policy=ONCE)
    base = base.replace(workload=ClosedLoop(calls=5))
    result = Sweep(base, {"backend.policy.retry.max_retries": [0, 3]}).run(progress=False)
    wire = result.layer("layer").attempts.groupby("backend.policy.retry.max_retries").size()
    assert list(wire) == [5, 20]
    clients = Experiment(backend=AsyncClient(MockBackend()))
    with pytest.raises(SettingsError, match="an AsyncClient is at work; give a Layer instead"):
        Sweep(clients, {"backend.policy.retry.max_retries": [0, 3]})


def test_it_is_a_value():
    layer = Layer(MockBackend(), TWICE, name="sdk", model="m")
    ask(layer, observers=[EventLog()])
    assert pickle.loads(pickle.dumps(layer)) == layer == Layer(MockBackend(), TWICE, name="sdk", model="m")
    assert Experiment(**Experiment(backend=layer).to_dict()).backend == layer
    assert layer.replace(model=None) != layer


def test_a_cancellation_goes_through():
    log = EventLog()

    async def main():
        task = asyncio.create_task(AsyncClient(Layer(MockBackend(latency=9)), observers=[log]).generate("Hi"))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main())
    assert [(call.layer, call.fate) for call in log.calls] == [("layer", Fate.CANCELLED), ("client", Fate.CANCELLED)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Layer("ollama"), "backend: needs a method `async def attempt(...)`; a str has none"),
        (Layer, "backend: needs a method"),
        (lambda: Layer(MockBackend(), 3), "policy must be"),
        (lambda: Layer(MockBackend(), nme="x"), "Layer has no setting 'nme'; did you mean 'name'?"),
        (lambda: Layer(MockBackend(), name=""), "name must be"),
    ],
)
def test_wrong_settings_are_refused_in_words(make, message):
    with pytest.raises(SettingsError) as caught:
        make()
    assert message in str(caught.value)
