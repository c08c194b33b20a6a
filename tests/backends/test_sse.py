from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmlab.backends import sse
from llmlab.backends.http_answers import ProtocolBreach
from llmlab.backends.sse import EventParser


def events(data: bytes, cuts: tuple[int, ...] = ()) -> list[bytes]:
    """Return the data of the events in a stream that arrives in these pieces."""
    parser = EventParser()
    places = [0, *sorted({min(cut, len(data)) for cut in cuts}), len(data)]
    found = [event.data for start, end in pairwise(places) for event in parser.feed(data[start:end])]
    return found + [event.data for event in parser.finish()]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data\n\n", [b""]),
        (b"data: a: b\n\n", [b"a: b"]),
        (b": keep-alive\n\n: again\n\ndata: a\n\n", [b"a"]),
        (b"data: a\n: in between\ndata: b\n\n", [b"a\nb"]),
        (b"event: message\nid: 7\nretry: 10\ndata: a\n\n", [b"a"]),
        (b"event: ping\n\n", []),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: \xef\xbb\xbfa\n\n", [b"\xef\xbb\xbfa"]),
        (b"data: a\n", [b"a"]),
        (b"data: a", [b"a"]),
        (b"datas: a\n\n data: b\n\n", []),
        (b'{"no": "event"}', []),
        (b"", []),
        (b"\n\n\r\r\n", []),
        ("data: Grüße\x85\u2028\n\n".encode(), ["Grüße\x85\u2028".encode()]),
    ],
)
def test_events_are_read_as_the_specification_says(data, found):
    assert events(data) == found
    assert events(data, tuple(range(len(data)))) == found


PARTS = st.sampled_from(
    [b"data: ", b"data", b":", b" ", b"a", b"\r", b"\n", b"\r\n", b"\n\n", b"\xc3\xbc", b"event: x"]
)


@settings(deadline=None)  # a busy machine is no finding
@given(st.lists(PARTS, max_size=30).map(b"".join) | st.binary(max_size=60), st.lists(st.integers(0, 90), max_size=12))
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [8, 10, 11])
def test_any_bytes_give_the_same_events_however_they_are_cut(data, cuts):
    assert events(data, tuple(cuts)) == events(data)


def test_an_error_field_of_older_servers_is_kept_apart():
    found = list(EventParser().feed(b'error: {"code":500}\n\ndata: a\n\n'))
    assert found == [(b"error", b'{"code":500}'), (b"data", b"a")]


@pytest.mark.parametrize("data", [b"data: " + b"x" * 2000, b": " + b"x" * 2000, b"data: xxxxxxxx\n" * 200])
def test_an_event_without_end_is_refused_before_it_fills_the_memory(monkeypatch, data):
    monkeypatch.setattr(sse, "LONGEST_LINE", 1000)
    with pytest.raises(ProtocolBreach, match="an event is longer than 1000 bytes"):
        events(data, tuple(range(0, len(data), 100)))


def test_comments_without_end_are_no_event_without_end(monkeypatch):
    monkeypatch.setattr(sse, "LONGEST_LINE", 1000)
    assert events(b": keep-alive\n\n" * 200 + b"data: a\n\n") == [b"a"]
    assert events(b": keep-alive\n" * 200 + b"data: a\n\n") == [b"a"]
