"""The records: what a server keeps of a client, and what it must not keep."""

import pytest

from llmlab.conduct.recording import (
    BodyDigest,
    ConnectionClosed,
    ConnectionOpened,
    End,
    Header,
    Outcome,
    Recording,
    Request,
    WeatherChange,
)
from llmlab.core.settings import SettingsError


def request(number, **changes):
    return Request(
        **{"request": number, "connection": 0, "reused": False, "arrived_at_s": 1.0, "call": 0, "endpoint": "/api/chat"}
        | changes
    )


def test_records_of_all_kinds_find_their_places():
    closed = ConnectionClosed(connection=0, at_s=3.0, by="client")
    outcome = Outcome(outcome="failed", started_at_s=1.0, ended_at_s=2.0, error="APITimeoutError")
    change = WeatherChange(at_s=2.0, weather={"faults": {"overload": 1.0}})
    opened = ConnectionOpened(connection=0, at_s=0.5)
    requests = (request(0), request(1))
    recording = Recording.of([Header(seed=7), opened, requests[1], change, requests[0], outcome, closed, End(at_s=4.0)])
    assert recording == Recording(
        header=Header(seed=7),
        requests=requests,
        opened={0: 0.5},
        closed={0: closed},
        weather=(change,),
        outcomes=(outcome,),
        ended_at_s=4.0,
    )


def test_a_recording_without_an_end_was_broken_off():
    assert Recording.of([Header()]).ended_at_s is None


def test_one_number_stands_for_one_request():
    with pytest.raises(ValueError, match="the number of a request is used twice: 4"):
        Recording.of([Header(), request(4), request(3), request(4)])


def test_what_a_client_says_is_cut_and_has_no_control_characters():
    hostile = request(0, client="\x1b[2Jhello\n" + "x" * 1000, endpoint="/v1/\x07chat")
    assert hostile.client == "?[2Jhello?" + "x" * 90
    assert hostile.endpoint == "/v1/?chat"


def test_a_key_in_the_query_is_not_kept():
    assert request(0, endpoint="/v1/chat/completions?key=secret").endpoint == "/v1/chat/completions"


def test_a_digest_tells_bodies_apart_under_its_key_only():
    digest, other = BodyDigest(b"one"), BodyDigest(b"two")
    assert digest(b"a prompt") == digest(b"a prompt")
    assert len({digest(b"a prompt"), digest(b"another"), other(b"a prompt")}) == 3
    assert digest(b"") == ""
    assert repr(digest) == "BodyDigest()", "the key is nobody's business"


def test_a_wrong_record_is_refused_where_it_is_made():
    with pytest.raises(SettingsError, match=r"arrived_at_s must be 0 or more, got -1\.0"):
        request(0, arrived_at_s=-1.0)
