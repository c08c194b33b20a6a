"""The clock and the order of callbacks."""

import asyncio
import contextlib
import contextvars
import gc
import itertools
import math
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.virtual_time import VirtualLivelock, VirtualLoop, run
from llmlab.virtual_time.handles import VirtualHandle

DECADE = 10 * 365.25 * 86_400


@pytest.fixture
def loop():
    loop = VirtualLoop()
    yield loop
    loop.close()


def fired(loop, arm, until):
    """What `arm(log)` schedules, as it fires: (time, label) pairs."""
    log: list[Any] = []
    arm(lambda label: log.append((loop.time(), label)))
    loop.call_at(until, loop.stop)
    loop.run_forever()
    return log


async def times_of(delays):
    loop = asyncio.get_running_loop()
    times = [loop.time()]
    for delay in delays:
        await asyncio.sleep(delay)
        times.append(loop.time())
    return times


def test_time_starts_at_zero_and_jumps_to_the_very_float_a_timer_was_armed_for():
    assert run(times_of([0.1, 0.2, 3600])) == [0.0, 0.1, 0.1 + 0.2, 0.1 + 0.2 + 3600]


def test_time_can_start_elsewhere():
    assert run(times_of([1]), start=100) == [100.0, 101.0]


def test_timers_of_equal_time_fire_in_the_order_in_which_they_were_armed(loop):
    def arm(log):
        for label in range(100):
            loop.call_at(1.0, log, label)

    assert fired(loop, arm, until=2) == [(1.0, label) for label in range(100)]


def test_all_timers_of_one_instant_fire_before_the_callbacks_they_make_ready(loop):
    def arm(log):
        loop.call_at(1, lambda: (log("timer 1"), loop.call_soon(log, "woken by 1")))
        loop.call_at(1, lambda: (log("timer 2"), loop.call_soon(log, "woken by 2")))

    assert [label for _, label in fired(loop, arm, 2)] == ["timer 1", "timer 2", "woken by 1", "woken by 2"]


def test_a_timer_that_is_due_at_once_waits_for_the_next_iteration_as_in_asyncio(loop):
    def first(log):
        log("first")
        loop.call_later(0, log, "timer for now")
        loop.call_soon(log, "soon")

    def arm(log):
        loop.call_soon(first, log)
        loop.call_soon(log, "second")

    assert [label for _, label in fired(loop, arm, 1)] == ["first", "second", "soon", "timer for now"]


def test_past_timers_fire_together_before_what_they_wake_as_in_asyncio(loop):
    def late(log):
        loop.call_at(3, lambda: (log("for 3"), loop.call_soon(log, "woken by 3")))
        loop.call_at(5, log, "for 5")

    def arm(log):
        loop.call_at(10, late, log)

    assert [label for _, label in fired(loop, arm, 11)] == ["for 3", "for 5", "woken by 3"]


def test_a_due_timer_fires_even_while_something_else_polls():
    async def main():
        fired = asyncio.Event()
        asyncio.get_running_loop().call_later(0, fired.set)
        polls = 0
        while not fired.is_set():
            polls += 1
            await asyncio.sleep(0)
        return polls

    assert run(main()) < 5


def test_a_timer_cancelled_at_its_own_instant_does_not_fire(loop):
    def arm(log):
        handles: list[Any] = []
        loop.call_at(1, lambda: (log("first"), handles[0].cancel()))
        handles.append(loop.call_at(1, log, "second"))
        loop.call_at(1, log, "third")

    assert fired(loop, arm, 2) == [(1.0, "first"), (1.0, "third")]


def test_a_cancelled_timer_does_not_move_the_clock(loop):
    loop.call_at(5, print).cancel()
    loop.call_at(7, loop.stop)
    seen = []
    loop.call_soon(lambda: seen.append(loop.time()))
    loop.run_forever()
    assert (seen, loop.time()) == ([0.0], 7.0)


def test_a_timer_in_the_past_fires_now_and_time_does_not_go_back():
    async def main():
        loop = asyncio.get_running_loop()
        await asyncio.sleep(10)
        future = loop.create_future()
        loop.call_at(3, future.set_result, "late")
        return await future, loop.time()

    assert run(main()) == ("late", 10.0)


@pytest.mark.parametrize("when", [3, True, 3.0], ids=repr)
def test_the_clock_is_always_a_plain_float(loop, when):
    loop.call_at(when, loop.stop)
    loop.run_forever()
    assert type(loop.time()) is float
    assert loop.time() == when


def test_a_time_that_is_no_number_is_refused_because_it_has_no_place_in_the_order(loop):
    with pytest.raises(ValueError, match="NaN"):
        loop.call_at(math.nan, print)
    with pytest.raises(ValueError, match="NaN"):
        loop.call_later(math.nan, print)
    with pytest.raises(TypeError):
        loop.call_at(None, print)
    with pytest.raises(TypeError):
        loop.call_later(None, print)


def test_a_timer_at_infinity_never_fires(loop):
    loop.call_at(math.inf, pytest.fail, "infinity came")
    loop.call_at(1, loop.stop)
    loop.run_forever()
    assert loop.time() == 1.0


@pytest.mark.parametrize("start", [0.0, 2.0**24, 2.0**31, 3 * DECADE])
def test_time_moves_on_after_decades_however_short_the_sleep(start):
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(1000):
            before = loop.time()
            await asyncio.sleep(1e-9)
            assert loop.time() > before

    run(main(), start=start, livelock_after=10)


def test_three_decades_of_hourly_work_pass():
    async def main():
        loop = asyncio.get_running_loop()
        hours = 0
        while loop.time() < 3 * DECADE:
            await asyncio.sleep(3600 * 24)
            hours += 24
        return hours

    assert run(main()) == 3 * DECADE / 3600 + 12  # the last day ends half a day after the decades do


def test_call_later_keeps_its_context_and_call_soon_too(loop):
    variable = contextvars.ContextVar("variable", default="outside")
    seen = []
    variable.set("scheduled")
    loop.call_soon(lambda: seen.append(variable.get()))
    loop.call_later(1, lambda: seen.append(variable.get()))
    other = contextvars.copy_context()
    other.run(variable.set, "given")
    loop.call_soon(lambda: seen.append(variable.get()), context=other)
    loop.call_later(1, lambda: seen.append(variable.get()), context=other)
    loop.call_later(1, loop.stop)
    variable.set("changed since")
    loop.run_forever()
    assert seen == ["scheduled", "given", "scheduled", "given"]


def test_a_builtin_callback_that_can_see_a_context_gets_its_own(loop):
    variable = contextvars.ContextVar("variable", default="untouched")
    loop.call_later(1, variable.set, "leaked")
    loop.call_later(2, loop.stop)
    loop.run_forever()
    assert variable.get() == "untouched"


def test_each_task_has_a_context_of_its_own():
    variable = contextvars.ContextVar("variable", default=0)

    async def bump(by):
        variable.set(variable.get() + by)
        await asyncio.sleep(1)
        return variable.get()

    async def main():
        variable.set(10)
        return [await asyncio.gather(bump(1), bump(2)), variable.get()]

    assert run(main()) == [[11, 12], 10]


def test_cancelled_timers_do_not_pile_up(loop):
    for _ in range(100_000):
        loop.call_later(60, print).cancel()
    kept = [loop.call_later(60, print) for _ in range(10)]
    assert len(loop._timers) < 10_000
    assert all(timer in loop._timers for timer in kept)


def test_sweeping_cancelled_timers_keeps_the_order_of_the_others(loop):
    log: list[Any] = []
    for number in range(20_000):
        timer = loop.call_at(number % 7, log.append, number)
        if number % 3:
            timer.cancel()
    loop.call_at(8, loop.stop)
    loop.run_forever()
    assert log == sorted(range(0, 20_000, 3), key=lambda number: (number % 7, number))


def test_a_cancelled_handle_lets_go_of_its_callback_at_once(loop):
    class Callback:
        def __call__(self):
            pass

    callback = Callback()
    alive = weakref.ref(callback)
    loop.call_later(60, callback).cancel()
    loop.call_soon(callback).cancel()
    del callback
    gc.collect()
    assert alive() is None


def test_handles_say_what_they_are(loop):
    soon, timer = loop.call_soon(print, "x"), loop.call_at(5, loop.stop)
    assert (timer.when(), timer.cancelled(), soon.cancelled()) == (5.0, False, False)
    assert repr(timer) == "<VirtualHandle when=5.0 Drivable.stop()>"
    soon.cancel()
    assert soon.cancelled()
    assert repr(soon).startswith("<VirtualHandle cancelled")
    assert {soon, timer, timer} == {timer, soon}
    assert weakref.ref(timer)() is timer


def test_a_loop_says_how_it_stands(loop):
    loop.call_later(5, loop.stop)
    assert repr(loop) == "<VirtualLoop idle at 0.0 s, 0 ready, 1 timers>"
    loop.run_forever()
    loop.close()
    assert repr(loop) == "<VirtualLoop closed at 5.0 s, 0 ready, 0 timers>"


def test_handles_are_compared_in_c():
    # A Python `__lt__` or `__eq__` would make every comparison of the heap ten times as slow.
    assert VirtualHandle.__lt__ is list.__lt__
    assert VirtualHandle.__eq__ is list.__eq__


def test_a_failing_callback_is_reported_and_the_others_of_its_iteration_still_run(loop):
    reports: list[dict[str, Any]] = []
    log: list[str] = []
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    loop.call_soon(log.append, "before")
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(log.append, "after")
    loop.call_at(1, lambda: 1 / 0)
    loop.call_at(2, loop.stop)
    loop.run_forever()
    assert log == ["before", "after"]
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError] * 2
    assert "Exception in callback test_a_failing_callback" in reports[0]["message"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_exit_and_interrupt_leave_the_loop_and_it_can_go_on_later(loop, error):
    def leave():
        raise error

    log: list[Any] = []
    loop.call_soon(leave)
    loop.call_soon(log.append, "rest")
    with pytest.raises(error):
        loop.run_forever()
    loop.call_at(1, loop.stop)
    loop.run_forever()
    assert log == ["rest"]


# --- laws ----------------------------------------------------------------------------------------------------------

DELAYS = st.sampled_from([0.0, 0.1, 0.2, 0.3, 1.0, 1e-9, 60.0]) | st.floats(0, 1e6)
PROGRAM = st.recursive(
    st.tuples(st.just("sleep"), DELAYS),
    lambda inner: st.tuples(st.sampled_from(["sequence", "gather", "group", "timeout"]), st.lists(inner, max_size=4)),
    max_leaves=25,
)


async def execute(program, trace, numbers):
    loop = asyncio.get_running_loop()
    number = next(numbers)
    kind, rest = program
    trace.append((loop.time(), number, "begin", kind))
    if kind == "sleep":
        await asyncio.sleep(rest)
    elif kind == "sequence":
        for step in rest:
            await execute(step, trace, numbers)
    elif kind == "gather":
        await asyncio.gather(*(execute(step, trace, numbers) for step in rest))
    elif kind == "group":
        async with asyncio.TaskGroup() as group:
            for step in rest:
                group.create_task(execute(step, trace, numbers))
    else:
        for step in rest:
            try:
                async with asyncio.timeout(1):
                    await execute(step, trace, numbers)
            except TimeoutError:
                trace.append((loop.time(), number, "timed out", kind))
    trace.append((loop.time(), number, "end", kind))


def trace_of(program):
    trace: list[tuple[Any, ...]] = []
    run(execute(program, trace, itertools.count()))
    return trace


@given(PROGRAM)
def test_the_same_program_makes_the_same_steps_at_the_same_times(program):
    assert trace_of(program) == trace_of(program)


@given(PROGRAM)
def test_time_never_runs_backwards(program):
    times = [time for time, *_ in trace_of(program)]
    assert times == sorted(times)


@given(st.lists(st.tuples(DELAYS, st.booleans()), max_size=60))
def test_timers_fire_sorted_by_time_and_then_by_arming_order(timers):
    loop = VirtualLoop()
    log: list[Any] = []
    for number, (when, cancel) in enumerate(timers):
        handle = loop.call_at(when, log.append, (when, number))
        if cancel:
            handle.cancel()
    loop.call_at(2e6, loop.stop)
    loop.run_forever()
    loop.close()
    assert log == sorted((when, number) for number, (when, cancel) in enumerate(timers) if not cancel)


@given(st.lists(DELAYS, max_size=20), st.floats(0, 1e9))
def test_a_sleep_lasts_exactly_what_it_says_in_floating_point(delays, start):
    expected = [start]
    for delay in delays:
        later = expected[-1] + delay
        expected.append(math.nextafter(later, math.inf) if delay > 0 and later == expected[-1] else later)
    assert run(times_of(delays), start=start) == expected


def test_a_program_that_outruns_the_resolution_of_time_is_still_bounded():
    async def main():
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1e-12):  # `call_at` of a time that rounds to now
                    await asyncio.sleep(0)

    with pytest.raises(VirtualLivelock):
        run(main(), start=DECADE, livelock_after=1000)
