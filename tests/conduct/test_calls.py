"""Which requests are one call: by key, by what the client reports, by its own count, by equal bodies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.conduct.calls import trial
from tests.conduct.scenes import asked, cut, keyed, outcome, recorded, refused


def linked(requests, *, outcomes=(), **settings):
    """Each call as the numbers of its requests, and by what they were linked."""
    case = trial(recorded(requests, outcomes=outcomes), **settings)
    return [([request.request for request in call.requests], call.linked_by) for call in case.calls]


def test_keys_link_whatever_the_bodies_and_the_times():
    requests = [keyed(0, 1, refused(1.0, body="a")), keyed(1, 1, asked(1.5)), keyed(0, 2, asked(500.0, body="b"))]
    assert linked(requests) == [([0, 2], "key"), ([1], "key")]


def test_a_client_that_counts_from_the_start_again_makes_another_call():
    assert linked([keyed(0, 1, refused(1.0)), keyed(0, 2, asked(2.0)), keyed(0, 1, asked(3.0))]) == [
        ([0, 1], "key"),
        ([2], "key"),
    ]


def test_two_clients_with_the_same_numbers_are_told_apart_by_name():
    requests = [keyed(0, 1, refused(1.0)), keyed(0, 2, asked(2.0, client="other/2.0"))]
    assert linked(requests) == [([0], "key"), ([1], "key")]


def test_what_comes_within_a_reported_call_belongs_to_it():
    requests = [refused(1.0, body="a"), asked(2.0, body="b"), asked(4.0, body="a")]
    assert linked(requests, outcomes=[outcome(0.9, 2.5), outcome(3.9, 4.5)]) == [([0, 1], "outcome"), ([2], "outcome")]


def test_of_reported_calls_that_follow_at_once_the_later_takes_what_comes_in_it():
    requests = [refused(1.0), refused(1.202), asked(1.5)]
    outcomes = [outcome(0.9, 1.2, "failed"), outcome(1.2005, 1.4, "failed")]
    assert linked(requests, outcomes=outcomes) == [([0], "outcome"), ([1], "outcome"), ([2], "body")]


def test_reported_calls_that_overlap_tell_nothing():
    requests = [refused(1.0), asked(2.0), asked(9.0)]
    outcomes = [outcome(0.9, 2.5), outcome(2.0, 4.0), outcome(8.9, 9.5)]
    assert linked(requests, outcomes=outcomes) == [([0, 1], "body"), ([2], "outcome")]


def test_a_client_that_counts_its_retries_is_believed():
    requests = [
        refused(1.0, claimed_retry=0),
        refused(1.1, claimed_retry=0),
        refused(2.0, claimed_retry=1),
        asked(2.1, claimed_retry=1),
    ]
    assert linked(requests) == [([0, 2], "claim"), ([1, 3], "claim")]


def test_an_equal_body_after_a_failure_is_a_retry():
    assert linked([refused(1.0), cut(2.0), asked(3.0)]) == [([0, 1, 2], "body")]


@pytest.mark.parametrize(
    "second",
    [
        asked(2.0, body="b"),
        asked(2.0, endpoint="/api/generate"),
        asked(2.0, client="other/2.0"),
        asked(100.0),
        asked(1.0005),
    ],
    ids=["another body", "another endpoint", "another client", "much later", "before it could know"],
)
def test_no_retry_is(second):
    assert linked([refused(1.0), second]) == [([0], "body"), ([1], "body")]


def test_an_equal_body_after_a_whole_answer_is_another_call():
    assert linked([asked(1.0), asked(2.0)]) == [([0], "body"), ([1], "body")]


def test_a_retry_may_come_later_if_it_was_told_to():
    assert linked([refused(1.0, retry_after_s=90.0), asked(95.0)]) == [([0, 1], "body")]


def test_who_closes_a_connection_may_have_come_back_before_the_server_noticed():
    gave_up = asked(1.0, status=None, fault="timeout", lasts=5.0, ended_by="client")
    assert linked([gave_up, asked(5.99)]) == [([0, 1], "body")]


def test_who_does_not_read_an_error_to_its_end_was_told_by_its_head():
    hung_up = refused(1.0, lasts=0.02, ended_by="client")
    case = trial(recorded([hung_up, asked(1.0015)]))
    assert [(retry.number, retry.before.request) for retry in case.calls[0].retries] == [(1, 0)]


def test_a_list_of_models_is_no_call():
    assert linked([asked(1.0, body="", method="GET", endpoint="/api/tags"), asked(2.0)]) == [([1], "body")]


@given(
    st.lists(
        st.builds(
            asked,
            st.floats(0, 100),
            status=st.sampled_from([200, 429, 503, None]),
            lasts=st.floats(0, 50),
            body=st.sampled_from("ab"),
            ended_by=st.sampled_from(["server", "client", "open", "broken"]),
            claimed_retry=st.sampled_from([None, 0, 1]),
            keyed=st.booleans(),
        ),
        max_size=12,
    ),
    st.lists(st.builds(outcome, st.floats(-5, 50), st.floats(0, 99)), max_size=3),
)
def test_every_request_is_in_exactly_one_call(requests, outcomes):
    case = trial(recorded(requests, outcomes=outcomes))
    assert sorted(request.request for call in case.calls for request in call.requests) == list(range(len(requests)))
