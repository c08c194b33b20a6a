"""Bad input: bytes in pieces, JSON that nobody sends, and good input with a part of it replaced."""

import json

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

few = settings(max_examples=settings().max_examples // 5, suppress_health_check=list(HealthCheck))
"""For tests that cost much: a fifth of the examples. `HYPOTHESIS_PROFILE=explore` asks for ten times as many."""

HUGE = [10**18, 2**63, 10**400, -(10**400), 1e308, -1e308, float("inf"), float("nan"), -0.0]
ODD_TEXTS = ["", "\x00", "\ufeff", "\ud800", "a" * 500, "💥", "\u202e", "None", "1e999", "٣", "<b>", "'", "\\", "\n"]

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(HUGE),
    st.sampled_from(ODD_TEXTS),
    st.text(max_size=20),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
deep = st.sampled_from([50, 500, 950, 5000, 200_000]).map(lambda depth: b"[" * depth + b"]" * depth)


def as_json(value):
    """Return a value as JSON, with what Python adds to it: NaN, Infinity and lone surrogates."""
    return json.dumps(value).encode()


@st.composite
def mutated(draw, good):
    """Return plain data like the given, with one part of it replaced, left out, or added to."""
    value = json.loads(json.dumps(good))
    place = value
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        if not keys:
            return value
        key = draw(st.sampled_from(list(keys)))
        inner = place[key]
        if isinstance(inner, dict | list) and inner and draw(st.booleans()):
            place = inner
            continue
        match draw(st.sampled_from(["replace", "replace", "leave out", "add"])):
            case "replace":
                place[key] = draw(values)
            case "leave out":
                del place[key]
            case "add" if isinstance(place, dict):
                place[draw(st.text(max_size=10))] = draw(values)
            case "add":
                place.append(draw(values))
        return value


@st.composite
def pieces(draw, data):
    """Return bytes in pieces, whatever their cuts."""
    whole = draw(data)
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def spoilt(good):
    """Return the good bytes with some of them replaced, left out or doubled."""

    def spoil(edits):
        data = bytearray(good)
        for at, what, new in edits:
            place = at % (len(data) + 1)
            if what == 0:
                data[place : place + len(new)] = new
            elif what == 1:
                del data[place : place + 3]
            else:
                data[place:place] = data[max(0, place - 8) : place]
        return bytes(data)

    return st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 2), st.binary(max_size=4)), max_size=5).map(spoil)
