import re

import pandas as pd
import pytest

from llmlab import ClosedLoop, Experiment, plots
from llmlab.analysis.columns import need_columns

FRAME = pd.DataFrame({"policy.retry.max_retries": [1], "call": [0]})


def test_a_setting_that_is_named_by_its_end_is_told_by_its_path():
    with pytest.raises(KeyError, match=r"no column \['max_retries'\]; did you mean 'policy.retry.max_retries'\?"):
        need_columns(FRAME, ["call", "max_retries"])


def test_what_is_near_nothing_is_told_what_there_is():
    with pytest.raises(KeyError, match=re.escape("no column ['load']; the frame has ['policy.retry.max_retries',")):
        need_columns(FRAME, ["load"])


@pytest.mark.parametrize("chart", [plots.latency_ecdf, lambda result: plots.failure_rate(result, x="seed")])
def test_a_chart_of_a_result_says_to_take_its_frame(chart):
    result = Experiment(workload=ClosedLoop(calls=1)).run()
    with pytest.raises(TypeError, match=r"needs a data frame, got a SweepResult: take its .calls or .attempts"):
        chart(result)


def test_what_has_no_frame_is_refused_as_it_is():
    with pytest.raises(TypeError, match=r"got a list$"):
        need_columns([FRAME], ["call"])
