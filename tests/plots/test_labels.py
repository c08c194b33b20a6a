import numpy as np
import pytest
from matplotlib.figure import Figure

from llmlab.plots.labels import axis_label, drawn, duration, parameter_name, percent, plain_number, value_label


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("policy.retry.max_retries", "max_retries"),
        ("backend.timeout_probability", "timeout_probability"),
        ("policy.timeouts.total_s", "total (s)"),
        ("workload.rate_per_s", "rate (1/s)"),
        ("workload.output_tokens", "output_tokens"),
        ("seed", "seed"),
    ],
)
def test_an_axis_names_the_parameter_and_its_unit(path, label):
    assert axis_label(path) == label


def test_a_parameter_is_named_by_the_end_of_its_path():
    assert parameter_name("policy.retry.max_retries") == "max_retries"
    assert parameter_name("seed") == "seed"


@pytest.mark.parametrize(
    ("value", "label"),
    [(3.0, "3"), (0.1 + 0.2, "0.3"), (np.nan, "none"), (None, "none"), (True, "yes"), ("full", "full"), (8, "8")],
)
def test_values_are_short_texts(value, label):
    assert value_label(value) == label


@pytest.mark.parametrize(("share", "text"), [(0, "0%"), (0.004, "0.4%"), (0.0996, "10%"), (0.123, "12%"), (1, "100%")])
def test_percentages_have_the_digits_they_deserve(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (0.27, "0.27 s"), (0.0123, "12 ms"), (0.0005, "0.5 ms"), (1.26, "1.3 s"), (90.4, "90 s")],
)
def test_durations_have_the_unit_that_suits_them(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(1.5, "1.50"), (12.34, "12.3"), (1234.5, "1,234")])
def test_numbers_have_about_three_digits(number, text):
    assert plain_number(number) == text


def test_a_dollar_is_drawn_as_a_dollar_and_begins_no_formula():
    figure = Figure()
    title = figure.text(0.5, 0.5, drawn("$\\frac{a$"))
    figure.canvas.draw()  # a formula that is none would raise
    plain = figure.text(0.5, 0.5, "$\\frac{a$", parse_math=False)
    assert title.get_window_extent().width == plain.get_window_extent().width
