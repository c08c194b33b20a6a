"""The typed program runs, too."""

from tests.typed_user_program import main


def test_the_typed_user_program_runs():
    greeting, echo, again, city, *told, one, two, sweep, decision, search, replay = main()
    assert greeting == "This is a simulated answer."
    assert echo == "You said: Hi"
    assert again == "You said: Again"
    assert city == "text, 1 attempt"
    assert told == ["ONCE UPON A TIME Once upon a time", "This is a simulated answer."]
    assert one == two == "This is a simulated answer."
    assert sweep == "40 calls, 2 points"
    assert decision.startswith("too_few_calls: attempt_timeout (30)")
    assert search.startswith("2 runs")
    assert replay == "3 recorded"
