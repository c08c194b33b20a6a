"""Every rule against recordings written by hand: guilty, innocent, and what cannot be told."""

import pytest

from tests.conduct.scenes import asked, cut, found, keyed, outcome, recorded, refused


def ruling(rule, requests, **scene):
    return found(rule, requests, **scene).ruling


# --- what is final is asked once


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 501])
def test_asking_again_after_a_final_answer_is_an_offence(status):
    finding = found(
        "retried_final_answer", [asked(1.0, status=status), asked(2.0, status=status), asked(9.0, body="b")]
    )
    assert finding.ruling == "guilty"
    assert finding.requests == (0,)
    assert finding.sentence.startswith(f"It asked again after 1 of 2 answers that were final ({status})")
    assert finding.sentence.endswith("told by their equal bodies."), "a guess is called one"


def test_asking_a_content_filter_again_is_an_offence():
    requests = [keyed(0, 1, asked(1.0, fault="refusal", endpoint="/v1/chat/completions")), keyed(0, 2, asked(2.0))]
    assert "(content filter)" in found("retried_final_answer", requests).sentence


def test_a_filter_that_the_protocol_has_no_word_for_is_no_final_answer():
    requests = [keyed(0, 1, asked(1.0, fault="refusal", endpoint="/api/chat")), keyed(0, 2, asked(2.0))]
    assert ruling("retried_final_answer", requests) == "unknown"


def test_a_final_answer_that_was_left_at_that_shows_innocence():
    assert ruling("retried_final_answer", [asked(1.0, status=404), asked(2.0, body="b")]) == "innocent"


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 503])
def test_without_a_final_answer_it_is_unknown(status):
    assert ruling("retried_final_answer", [asked(1.0, status=status), asked(2.0)]) == "unknown"


# --- Retry-After


def test_coming_back_too_early_is_an_offence_with_its_figures():
    finding = found("ignored_retry_after", [refused(1.0, retry_after_s=2.0), asked(1.5)])
    assert finding.ruling == "guilty"
    assert "at the worst after 0.50 s where 2 s were asked for (tolerance 0.05 s)" in finding.sentence
    assert finding.requests == (0,)


@pytest.mark.parametrize("back_at", [2.96, 3.0, 60.0])
def test_coming_back_as_told_or_later_shows_innocence(back_at):
    assert ruling("ignored_retry_after", [refused(1.0, retry_after_s=2.0), asked(back_at)]) == "innocent"


def test_not_coming_back_at_all_respects_a_retry_after():
    finding = found("ignored_retry_after", [refused(1.0, retry_after_s=2.0)])
    assert finding.ruling == "innocent"
    assert finding.sentence == "It was told once when to come back, and did not come back."


def test_the_tolerance_is_a_setting():
    requests = [refused(1.0, retry_after_s=2.0), asked(2.5)]
    assert ruling("ignored_retry_after", requests, standards={"retry_after_tolerance": 0.6}) == "innocent"


def test_another_call_need_not_wait():
    assert ruling("ignored_retry_after", [refused(1.0, retry_after_s=2.0), asked(1.5, body="b")]) == "innocent"


def test_who_was_never_told_to_wait_is_unknown():
    assert ruling("ignored_retry_after", [refused(1.0), asked(1.1)]) == "unknown"


# --- storms


def attempts(count, *, body="a", first=1.0, apart=1.0):
    return [refused(first + number * apart, body=body) for number in range(count)]


def test_more_requests_than_allowed_are_amplification():
    finding = found("amplified", [*attempts(9), *attempts(1, body="b"), asked(50.0, body="c")])
    assert finding.ruling == "guilty"
    assert finding.sentence == (
        "Calls that met a fault made 5.0 requests in the mean and 9 at the most "
        "(2 of 3 calls; 4 are allowed in the mean)."
    )
    assert finding.requests == tuple(number for number in range(10) if number != 1), (
        "those of the calls above the bound"
    )


def test_what_is_allowed_is_innocent_and_can_be_changed():
    assert ruling("amplified", attempts(4)) == "innocent"
    assert ruling("amplified", attempts(4), standards={"max_amplification": 3}) == "guilty"


def test_without_a_fault_amplification_is_unknown():
    assert ruling("amplified", [asked(1.0), asked(2.0)]) == "unknown"


def pairs(waits):
    """Calls that are refused and come back after these waits."""
    for number, wait in enumerate(waits):
        yield refused(10.0 * number, body=f"call {number}")
        yield asked(10.0 * number + 0.001 + wait, body=f"call {number}")


def test_asking_again_at_once_is_an_offence():
    finding = found("no_backoff", pairs([0.003] * 5))
    assert finding.ruling == "guilty"
    assert "5 of 5 times (median wait 3 ms)" in finding.sentence
    assert finding.requests == (1, 3, 5, 7, 9)


def test_a_wait_that_is_mostly_there_is_a_backoff():
    assert ruling("no_backoff", pairs([0.001, 0.4, 0.01, 0.3, 0.2])) == "innocent"


def test_few_retries_tell_nothing_of_backoff_and_jitter():
    assert ruling("no_backoff", pairs([0.0] * 4)) == "unknown"
    assert ruling("no_jitter", pairs([0.5] * 7)) == "unknown"


def test_a_wait_that_the_server_asked_for_is_no_backoff_of_the_clients():
    requests = [made | {"retry_after_s": 0.5} if made["status"] == 503 else made for made in pairs([0.5] * 9)]
    assert ruling("no_backoff", requests) == "unknown"
    assert ruling("no_jitter", requests) == "unknown"


def test_equal_waits_are_no_jitter():
    finding = found("no_jitter", pairs([0.5, 0.502, 0.501, 0.503] * 2))
    assert finding.ruling == "guilty"
    assert finding.sentence.startswith("Its waits before retry 1 are all 0.50 s (8 waits, spread 0.2%)")


def test_the_least_jitter_of_real_clients_is_jitter():
    assert ruling("no_jitter", pairs([0.375 + 0.125 * n / 7 for n in range(8)])) == "innocent"


def test_waits_are_compared_with_those_before_the_same_retry():
    """Doubling without jitter is two kinds of equal waits, not one kind of unequal ones."""
    requests = [refused(10.0 * call + at, body=f"call {call}") for call in range(8) for at in (0.0, 0.5, 1.5)]
    assert ruling("no_jitter", requests) == "guilty"


def test_asking_again_at_once_is_no_matter_of_jitter():
    assert ruling("no_jitter", pairs([0.001] * 9)) == "innocent"


# --- how a server is held


def at_once(count):
    return [asked(1.0 + 0.1 * number, lasts=5.0, body=f"call {number}") for number in range(count)]


def test_more_in_flight_than_allowed_is_an_offence():
    finding = found("too_many_in_flight", at_once(3), standards={"max_in_flight": 2})
    assert finding.ruling == "guilty"
    assert "At most 3 of its requests were in flight at once, 1.20 s after the start" in finding.sentence
    assert finding.requests == (0, 1, 2)


def test_no_more_in_flight_than_allowed_is_innocent_even_back_to_back():
    assert ruling("too_many_in_flight", at_once(3), standards={"max_in_flight": 3}) == "innocent"
    assert ruling("too_many_in_flight", [asked(1, lasts=1), asked(2)], standards={"max_in_flight": 1}) == "innocent"


def test_without_a_bound_the_number_in_flight_is_told_only():
    finding = found("too_many_in_flight", at_once(3))
    assert finding.ruling == "unknown"
    assert finding.sentence.startswith("At most 3 ")


def stalled(at, lasts, **changes):
    return asked(at, status=None, fault="timeout", lasts=lasts, ended_by="client", **changes)


DEADLINE = {"deadline": 5.0}


def test_holding_a_server_beyond_the_deadline_is_an_offence():
    finding = found("hung", [stalled(1.0, 5.3), stalled(10.0, 4.0)], standards=DEADLINE)
    assert finding.ruling == "guilty"
    assert finding.requests == (0,)
    assert finding.sentence == (
        "The longest call was held for 5.30 s; 1 of 2 calls outlasted the deadline of 5 s (tolerance 0.25 s)."
    )


def test_a_call_that_is_cut_off_at_its_deadline_is_innocent():
    assert ruling("hung", [stalled(1.0, 5.2)], standards=DEADLINE) == "innocent"


def test_attempts_that_keep_the_deadline_can_make_a_call_that_does_not():
    requests = [keyed(0, 1, stalled(1.0, 4.0)), keyed(0, 2, stalled(6.0, 4.0))]
    finding = found("hung", requests, standards=DEADLINE)
    assert finding.ruling == "guilty"
    assert finding.requests == (1,)


def test_calls_that_are_only_guessed_are_held_to_the_deadline_by_request():
    assert ruling("hung", [stalled(1.0, 4.0), stalled(6.0, 4.0)], standards=DEADLINE) == "innocent"


def test_what_is_still_held_at_the_end_is_judged_by_how_long_it_was():
    still = asked(1.0, status=None, fault="timeout", ended_by="open")
    assert ruling("hung", [still], end=20.0, standards=DEADLINE) == "guilty"
    assert ruling("hung", [still], end=3.0, standards=DEADLINE) == "unknown", "the recording ended before the deadline"


def test_without_a_deadline_nobody_hangs_for_certain():
    finding = found("hung", [stalled(1.0, 50.0)])
    assert finding.ruling == "unknown"
    assert "held for 50.00 s" in finding.sentence


def test_connections_beyond_what_was_ever_needed_are_leaked():
    finding = found("leaked_connections", [asked(1), asked(2), asked(3)], one_connection=False, left_open={0, 2})
    assert finding.ruling == "guilty"
    assert finding.requests == (0, 2)
    assert finding.sentence.startswith("2 of 3 connections were left open at the end with nothing in flight, though at")


def test_an_idle_pool_is_unknown_while_the_client_may_live():
    assert ruling("leaked_connections", [asked(1), asked(2)], left_open={0}) == "unknown"


def test_a_client_that_has_ended_leaves_nothing():
    ended = {"client_ended": True}
    assert ruling("leaked_connections", [asked(1), asked(2)], left_open={0}, standards=ended) == "guilty"
    assert ruling("leaked_connections", [asked(1), asked(2)], standards=ended) == "innocent"


def test_a_connection_in_use_is_not_idle():
    busy = asked(1.0, ended_by="open")
    assert ruling("leaked_connections", [busy], left_open={0}, standards={"client_ended": True}) == "innocent"


def test_a_recording_that_was_broken_off_tells_nothing_of_what_was_left():
    assert ruling("leaked_connections", [asked(1), asked(2)], left_open={0}, end=None) == "unknown"


def test_a_connection_for_each_request_is_worth_a_note():
    assert ruling("no_reuse", [asked(1), asked(2), asked(3)], one_connection=False) == "note"
    assert ruling("no_reuse", [asked(1), asked(2), asked(3)]) == "innocent"
    assert ruling("no_reuse", [asked(1), asked(2)], one_connection=False) == "unknown"


# --- half an answer is none


@pytest.mark.parametrize("fault", ["cut", "no_end_marker", "error_in_stream", "stall"])
def test_reporting_half_an_answer_as_an_answer_is_an_offence(fault):
    finding = found("accepted_truncated", [cut(1.0, fault=fault)], outcomes=[outcome(0.9, 1.1)])
    assert finding.ruling == "guilty"
    assert finding.requests == (0,)
    assert finding.sentence == f"It took 1 of 1 answers without an end for whole ({fault})."


@pytest.mark.parametrize("changes", [{"fault": "no_end_marker"}, {"fault": "error_in_stream", "status": 500}])
def test_an_answer_in_one_piece_or_an_error_lacks_no_end(changes):
    assert (
        ruling("accepted_truncated", [cut(1.0, streaming=False, **changes)], outcomes=[outcome(0.9, 1.1)]) == "unknown"
    )


def test_reporting_failure_shows_innocence():
    assert ruling("accepted_truncated", [cut(1.0)], outcomes=[outcome(0.9, 1.1, "failed")]) == "innocent"


def test_coming_back_shows_innocence():
    assert ruling("accepted_truncated", [cut(1.0), asked(2.0)]) == "innocent"


def test_coming_back_until_the_last_half_is_taken_does_not():
    assert ruling("accepted_truncated", [cut(1.0), cut(2.0)], outcomes=[outcome(0.9, 2.1)]) == "guilty"


def test_a_call_whose_hedge_was_answered_took_that_answer():
    requests = [keyed(4, 1, asked(1.0, lasts=2.0)), keyed(4, 2, cut(1.5))]
    assert ruling("accepted_truncated", requests, outcomes=[outcome(0.9, 3.1, call=4)]) == "innocent"


def test_staying_away_after_half_an_answer_shows_nothing():
    finding = found("accepted_truncated", [cut(1.0)])
    assert finding.ruling == "unknown"
    assert "although" not in finding.sentence
    retrying = found("accepted_truncated", [cut(1.0), refused(2.0, body="b"), asked(3.0, body="b")])
    assert retrying.ruling == "unknown"
    assert "although it retries other faults" in retrying.sentence


def test_without_half_an_answer_it_is_unknown():
    assert ruling("accepted_truncated", [refused(1.0), asked(2.0)]) == "unknown"


def test_of_an_empty_recording_everything_is_unknown():
    from llmlab.conduct.judge import judge

    verdict = judge(recorded([]))
    assert {finding.ruling for finding in verdict.findings} == {"unknown"}
