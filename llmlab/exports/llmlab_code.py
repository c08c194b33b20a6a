"""A policy as llmlab's own settings, in Python and in TOML: nothing is lost, and what is a default is not repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.core.plain_data import plain_data
from llmlab.experiments.documents import toml_text
from llmlab.exports.as_code import as_code
from llmlab.exports.draft import Draft
from llmlab.exports.wishes import wishes

if TYPE_CHECKING:
    from llmlab.core.policy import ClientPolicy


def python(policy: ClientPolicy) -> Draft:
    """Return Python code that builds the policy."""
    return Draft(as_code(policy), dict.fromkeys(wishes(policy), ""))


def toml(policy: ClientPolicy) -> Draft:
    """Return the policy as the part of a TOML file that `Sweep.load` reads."""
    data = {"base": {"policy": plain_data(policy, complete=False)}}
    return Draft(toml_text(data), dict.fromkeys(wishes(policy), ""))
