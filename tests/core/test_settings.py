import re
from inspect import signature
from typing import Annotated, Literal

import pytest
from pydantic import Discriminator, Field, field_validator

from llmlab import Backoff, ClientPolicy, RetryPolicy, SettingsError
from llmlab.core.settings import Settings, by_place, changed_settings


def test_only_what_differs_from_its_default_is_changed():
    assert changed_settings(ClientPolicy()) == {}
    assert changed_settings(Backoff(maximum=8, base=2)) == {"base": 2.0}
    retry = RetryPolicy(max_retries=5)
    assert changed_settings(ClientPolicy(total_timeout=None, retry=retry)) == {"retry": retry, "total_timeout": None}


def test_one_unnamed_setting_too_many_is_refused_and_the_names_are_given():
    assert by_place(("low", "high"), (1,)) == {"low": 1}
    with pytest.raises(TypeError, match=r"at most 2 are given without a name \(low, high\), got 3"):
        by_place(("low", "high"), (1, 2, 3))


class Cat(Settings):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(Settings):
    kind: Literal["dog"] = "dog"


class Owner(Settings):
    pet: Annotated[Cat | Dog, Discriminator("kind")]
    share: float = 0.0

    @field_validator("share")
    @classmethod
    def _no_third(cls, share):
        if share == 3.0:
            raise ValueError("three is one too many")
        return share


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pet": {"lives": 1}}, "pet must say of which 'kind' it is, got a dict"),
        ({"pet": {"kind": "cow"}}, "pet must be of one of the kinds 'cat', 'dog', got 'cow'"),
        ({}, "Owner needs 'pet'"),
        ({"pet": Dog}, "pet must say of which 'kind' it is, got the class Dog"),
        ({"pet": Dog(), "share": float("nan")}, "share must be a finite number, got NaN"),
        (
            {"pet": Dog(), "share": "x" * 61},
            "share must be a valid number, unable to parse string as a number, got a text of 61 characters",
        ),
        (
            {"pet": 1 << 300},
            "pet must be a valid dictionary or object to extract fields from, got a whole number of 301 bits",
        ),
        ({"pet": Dog(), "share": 3.0}, "share: three is one too many"),
        ({"pet": Dog(), "shore": 1.0}, "Owner has no setting 'shore'; did you mean 'share'? valid: pet, share"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_what_is_valid(given, message):
    with pytest.raises(SettingsError) as refused:
        Owner(**given)
    assert str(refused.value) == message


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("max_retries", "did you mean 'retry.max_retries' (of RetryPolicy)? valid: adaptive_concurrency, attempt"),
        ("per_success", "did you mean 'budget.per_success' (of RetryBudget)? valid: "),  # there is none by default
        ("jitter", "did you mean 'retry.backoff.jitter' (of Backoff)? valid: "),
        ("nonsense", "valid: adaptive_concurrency"),
    ],
)
def test_a_setting_that_stands_further_inside_is_told_by_its_path(name, near):
    with pytest.raises(SettingsError, match=re.escape(f"ClientPolicy has no setting '{name}'; {near}")):
        ClientPolicy(**{name: 1})


@pytest.mark.parametrize(
    ("make", "how"),
    [(RetryPolicy, "RetryPolicy(max_retries=...)"), (Cat, "Cat(lives=...)"), (Settings, "Settings(...")],
)
def test_settings_without_their_names_are_refused_with_the_first_name(make, how):
    with pytest.raises(TypeError, match=re.escape(f"{make.__name__} takes its settings by name: {how}")):
        make(3)


def test_settings_are_completed_and_signed_without_what_is_not_for_users():
    assert "given" not in signature(RetryPolicy).parameters
    names = set(dir(RetryPolicy()))
    assert {"max_retries", "replace", "model_dump_json"} <= names
    assert names.isdisjoint({"copy", "dict", "json", "parse_raw", "schema"})


class Account(Settings):
    name: str = ""
    token: str = Field(default="", repr=False)


def test_what_a_repr_keeps_to_itself_a_card_shows_neither_changed_nor_unchanged():
    for account in (Account(name="mine", token="CANARY"), Account(name="mine")):
        page = account._repr_html_()
        assert "mine" in page
        assert "CANARY" not in page
        assert "token" not in page


class Scripted(Settings):
    script: Literal["overload"] | None = None
    prompt: int | None = None


@pytest.mark.parametrize(
    ("given", "shown", "kept"),
    [
        ({"script": "overlaod"}, "overlaod", "characters"),  # a misspelt fault is named
        ({"prompt": "CANARY"}, "<6 characters>", "CANARY"),
        ({"prompt": 1.5}, "1.5", "hidden"),
    ],
)
def test_a_wrong_value_is_shown_unless_it_may_be_a_users_own_words(given, shown, kept):
    with pytest.raises(SettingsError) as refused:
        Scripted(**given)
    assert shown in str(refused.value)
    assert kept not in str(refused.value)
