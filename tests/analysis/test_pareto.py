import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.analysis import pareto_front

COLUMNS = ["success", "latency", "load"]
TABLES = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=30)


def front(rows):
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=float)
    return pareto_front(table, maximise=["success"], minimise=["latency", "load"])


def beats(one, other):
    return one != other and one[0] >= other[0] and one[1] <= other[1] and one[2] <= other[2]


@given(TABLES)
def test_a_row_is_on_the_front_where_no_other_beats_it(rows):
    assert front(rows).tolist() == [not any(beats(other, row) for other in rows) for row in rows]


@given(TABLES)
def test_there_is_always_a_front(rows):
    assert front(rows).any()


def test_rows_that_are_equal_in_everything_are_on_it_together():
    assert front([(1, 1, 1), (1, 1, 1), (1, 1, 2)]).tolist() == [True, True, False]


def test_what_has_no_value_is_not_on_it():
    assert front([(1, np.nan, 1), (0, 9, 9)]).tolist() == [False, True]


def test_it_keeps_the_tables_index():
    table = pd.DataFrame({"latency": [2.0, 1.0]}, index=["a", "b"])
    assert pareto_front(table, minimise=["latency"]).to_dict() == {"a": False, "b": True}
    assert pareto_front(table, minimise="latency").to_dict() == {"a": False, "b": True}


def test_it_needs_columns_that_are_there():
    table = pd.DataFrame({"latency": [1.0]})
    with pytest.raises(ValueError, match="name some in maximise and minimise"):
        pareto_front(table)
    with pytest.raises(KeyError, match=r"no column \['load'\]; the frame has \['latency'\]"):
        pareto_front(table, minimise=["load"])
