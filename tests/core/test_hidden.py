import pytest

from llmlab.core.hidden import hidden


@pytest.mark.parametrize(
    ("value", "shown"),
    [("secret", "<6 characters>"), (("secret", "other"), "<2 hidden>"), (3.5, "<float hidden>"), (None, "None")],
)
def test_a_hidden_value_shows_how_much_it_is_and_nothing_else(value, shown):
    assert repr(hidden(value)) == shown
