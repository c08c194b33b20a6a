import json
import tomllib

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator

from llmlab import Sweep
from llmlab.backends.kinds import BACKENDS
from tests.experiments.strategies import sweeps
from tests.experiments.test_sweep_files import AS_A_PERSON_WRITES_IT

SCHEMA = Sweep.json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def test_it_is_a_json_schema_of_its_draft():
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@settings(max_examples=50)
@given(sweeps)
def test_what_a_sweep_writes_fits_it(sweep):
    VALIDATOR.validate(json.loads(sweep.to_json()))


@pytest.mark.parametrize(
    "document",
    [
        {},
        tomllib.loads(AS_A_PERSON_WRITES_IT.replace("{ none = true }", "5")),
        {"grid": {"policy": {"attempt_timeout": [None, 1]}}},
        {"base": {"backend": {"kind": "mock", "latency": 2, "timeout_probability": 0.2, "text": "hello"}}},
        {
            "base": {
                "backend": {
                    "kind": "mock",
                    "script": ["overload", {"kind": "failure", "reason": "refused", "message": ""}],
                }
            }
        },
        {
            "base": {
                "workload": {"kind": "open", "rate": {"kind": "steps", "points": [[0, 1], [2, 3]]}, "requests": "hi"}
            }
        },
        {"base": {"workload": {"kind": "closed", "requests": ["a", {"prompt": "b", "stop": "c"}]}}},
        {"zipped": {"seed": [1, 2]}, "where": {"setting": "seed", "op": "<", "value": 3}},
        {
            "samples": {
                "count": 4,
                "over": {"policy": {"max_queue": {"kind": "linear", "low": 0, "high": 9, "whole": True}}},
            }
        },
    ],
)
def test_what_people_write_fits_it_and_is_read(document):
    VALIDATOR.validate(document)
    Sweep(**document)


@pytest.mark.parametrize(
    "document",
    [
        {"gird": {}},
        {"grid": {}},
        {"grid": {"seed": 3}},
        {"grid": {"seed": []}},
        {"grid": {"seed": {"kind": "linar", "low": 1, "high": 2}}},
        {"replicates": 0},
        {"base": {"policy": {"retry": {"max_retrys": 1}}}},
        {"base": {"policy": {"attempt_timeout": "none"}}},
        {"base": {"backend": {"kind": "mypackage.Mine"}}},
        {"base": {"backend": {"timeout_probability": 0.1}}},
        {"base": {"backend": {"kind": "mock", "timeout_probability": 2}}},
        {"base": {"backend": {"kind": "with_faults", "backend": {"kind": "mock", "sed": 1}}}},
        {"base": {"workload": {"rate": 3}}},
    ],
)
def test_what_is_refused_does_not_fit_it(document):
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(ValueError):
        Sweep(**document)


def test_every_backend_stands_in_it_with_its_shorthands():
    for model in BACKENDS.values():
        properties = SCHEMA["$defs"][model.__name__]["properties"]
        assert {*getattr(model, "shorthands", ()), "kind"} <= properties.keys()
        assert "http_client" not in properties
