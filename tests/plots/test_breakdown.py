import numpy as np
import pytest
from matplotlib.container import BarContainer

from llmlab.analysis import calls_frame, failure_rate, rate_by_reason
from llmlab.core.event_log import EventLog
from llmlab.core.vocabulary import REASONS, FailureReason, Fate
from llmlab.plots import OUTCOMES, outcomes
from tests.analysis.synthetic import TIMEOUT, log_of_run
from tests.plots.reading import drawn, legend_texts, subtitle, tick_labels, title


def stacks(ax):
    return {c.get_label(): [bar.get_height() for bar in c] for c in ax.containers if isinstance(c, BarContainer)}


def calls_with_every_reason():
    event = log_of_run(1, timeout=1.0, max_retries=0).calls[0]
    log = EventLog()
    for number, reason in enumerate(REASONS):
        for _ in range(number + 1):
            log.on_call(event._replace(reason=reason, fate=REASONS[reason].fates[0]))
    return calls_frame(log).assign(x=1)


def test_bars_are_the_shares_of_calls_that_each_reason_ended(calls):
    ax = drawn(outcomes(calls, x=TIMEOUT))
    heights = stacks(ax)
    for reason, rows in rate_by_reason(calls, TIMEOUT).groupby("reason", observed=True):
        np.testing.assert_allclose(heights[str(reason)], rows["rate"])
    np.testing.assert_allclose(sum(np.array(shares) for shares in heights.values()), 1)
    np.testing.assert_allclose(heights["answered"], 1 - failure_rate(calls, TIMEOUT)["failure_rate"])


def test_the_legend_lists_the_outcomes_as_they_are_stacked_answered_on_top(calls):
    ax = drawn(outcomes(calls, x=TIMEOUT))
    assert legend_texts(ax) == list(reversed(stacks(ax)))
    assert legend_texts(ax)[0] == "answered"
    assert legend_texts(ax)[-1] == "attempt_timeout"
    assert title(ax) == "Outcomes against timeout_probability, by reason"
    assert tick_labels(ax.xaxis) == ["0", "0.2", "0.4"]
    assert ax.get_ylabel() == "share of calls"


def test_by_fate_the_bars_are_fates(calls):
    assert set(stacks(outcomes(calls, x=TIMEOUT, kind="fate"))) == {"answered", "retries_exhausted", "not_retryable"}


def test_where_few_calls_failed_the_axis_ends_above_them_and_says_what_the_rest_is(calls):
    few = calls[calls[TIMEOUT] == 0]
    ax = drawn(outcomes(few, x=TIMEOUT))
    assert ax.get_ylim()[1] < 0.4
    assert "the rest was answered" in subtitle(ax)


def test_every_reason_and_fate_has_a_look_and_no_two_reasons_share_one():
    assert set(map(str, FailureReason)) < set(OUTCOMES)
    hatches = {OUTCOMES[word].hatch for word in (*FailureReason, Fate.ANSWERED)}  # told apart without their colours
    assert len(hatches) == len(FailureReason) + 1


def test_rare_outcomes_are_taken_together_and_named():
    ax = drawn(outcomes(calls_with_every_reason(), x="x"))
    assert len(stacks(ax)) == 9
    assert "15 others" in legend_texts(ax)
    assert "others: " in subtitle(ax)
    assert "attempt_timeout" in subtitle(ax)
    np.testing.assert_allclose(sum(shares[0] for shares in stacks(ax).values()), 1)


def test_no_failure_and_no_call_make_a_chart(calls):
    assert set(stacks(drawn(outcomes(calls[calls["answered"]], x=TIMEOUT)))) == {"answered"}
    ax = drawn(outcomes(calls.head(0), x=TIMEOUT))
    assert "no calls to show" in [text.get_text() for text in ax.texts]


def test_an_unknown_kind_is_refused(calls):
    with pytest.raises(ValueError, match=r"\['reason', 'fate'\], got 'cause'"):
        outcomes(calls, x=TIMEOUT, kind="cause")  # type: ignore[arg-type]
