from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from llmlab.core.chance import Purpose, derived, two_uniforms, uniform, unit, words

WORD = st.integers(0, 2**64 - 1)
KEY = st.tuples(WORD, WORD, WORD, st.sampled_from(Purpose))


@given(KEY)
def test_a_draw_depends_on_its_key_only(key):
    assert words(*key) == words(*key)
    assert 0 < uniform(*key) < 1


def test_the_draws_are_the_same_on_every_version():
    assert words(0, 0, 1, Purpose.SERVER)[0] == 1195365509297754210
    assert derived(1, 2, 3) == 5459786693330372114


@given(KEY, KEY)
def test_different_keys_draw_differently(one, other):
    assert (words(*one) == words(*other)) is (one == other)


@given(WORD)
def test_neither_end_of_the_unit_interval_is_met(word):
    assert 0.0 < unit(word) < 1.0
    assert 0.0 < unit(0) < unit(2**64 - 1) < 1.0


def test_the_eight_numbers_of_a_key_are_unrelated():
    rows = [[unit(word) for word in words(7, call, 1, Purpose.SERVER)] for call in range(2000)]
    columns = list(zip(*rows, strict=True))
    for column in columns:
        assert abs(sum(column) / len(column) - 0.5) < 0.03
    for a, b in combinations(columns, 2):
        covariance = sum((x - 0.5) * (y - 0.5) for x, y in zip(a, b, strict=True)) / len(a)
        assert abs(covariance) < 0.01  # 1/12 if they were the same; four standard errors are 0.0075


@given(st.integers(), st.lists(st.integers(0, 2**40), min_size=1, max_size=4))
def test_derived_numbers_fit_a_signed_64_bit_column(seed, labels):
    assert 0 <= derived(seed, *labels) < 2**63


@given(st.integers(), st.integers(), st.integers(), st.sampled_from(Purpose))
def test_two_draws_are_the_first_two_of_a_keys_words_however_large_its_parts(seed, call, attempt, purpose):
    first, second, *_ = words(seed, call, attempt, purpose)
    assert two_uniforms(seed, call, attempt, purpose) == (unit(first), unit(second))
