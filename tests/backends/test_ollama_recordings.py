"""Everything that was recorded of a real Ollama, served byte for byte, and what each recording must mean to a client.

The recordings were made by plain requests, some of which the backend would never send; their answers are put to it all
the same, and the answers of other endpoints too, as a server behind a wrong base_url would give them.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from llmlab.backends.ollama import OllamaBackend
from llmlab.core.backend import Answer, AttemptFailure, Timeouts
from llmlab.core.messages import LLMFailure, LLMRequest, LLMResponse, Message
from llmlab.core.vocabulary import RETRYABLE, FailureReason, FinishReason
from llmlab.llms import AsyncLocalLLM, LocalLLM
from llmlab.server.recording import Exchange
from llmlab.server.replay import ReplayServer
from tests.ollama_replay import KEY, RECORDINGS, attempt, recorded

R = FailureReason


class Failure(NamedTuple):
    reason: FailureReason
    status: int
    words: tuple[str, ...]
    retryable: bool | None = None


def fails(reason: FailureReason, status: int, *words: str, retryable: bool | None = None) -> Failure:
    return Failure(reason, status, words, retryable)


STOP, LENGTH, OTHER = FinishReason.STOP, FinishReason.LENGTH, FinishReason.OTHER
BUSY = fails(R.OVERLOADED, 503, "server busy, please try again. maximum pending requests exceeded", "OLLAMA_MAX_QUEUE")
NO_MODEL = fails(R.MODEL_NOT_FOUND, 404, "has no model", "try `ollama pull ")
TOO_LONG = fails(R.CONTEXT_LENGTH_EXCEEDED, 400, "the prompt has 8015 tokens, the context holds 2048", "num_ctx")
NOT_GENERATE = fails(R.MALFORMED_RESPONSE, 200, 'has no text in "response"')

# For each exchange of each recording: why the text ended, or the failure.
EXPECTED: dict[str, list[FinishReason | Failure]] = {
    "busy_503_cold": [LENGTH, BUSY],
    "busy_503_other_model": [LENGTH, BUSY],
    "busy_503_reload": [LENGTH, BUSY],
    "busy_warm_no_503": [LENGTH],
    "busy_warm_stream": [LENGTH, LENGTH, LENGTH],
    "chat": [LENGTH],
    "chat_content_list": [fails(R.INVALID_REQUEST, 400, "cannot unmarshal array into Go struct field")],
    "chat_empty_messages": [OTHER],  # done_reason load
    "chat_empty_messages_no_stream": [OTHER],
    "chat_images": [fails(R.INVALID_REQUEST, 400, "model does not support multimodal requests")],  # JSON inside JSON
    "chat_messages_string": [fails(R.INVALID_REQUEST, 400, "cannot unmarshal string")],
    "chat_missing_model": [NO_MODEL],
    "chat_no_messages": [OTHER],
    "chat_stream": [LENGTH],
    "chat_too_long": [LENGTH],  # without `truncate: false` Ollama cuts the prompt and answers
    "chat_tools": [fails(R.INVALID_REQUEST, 400, "does not support tools")],
    "chat_warm": [LENGTH],
    "client_disconnect_stream_fin": [
        fails(R.ATTEMPT_TIMEOUT, 200, "stood still for 0.1 s (timeouts.between_chunks)"),
        LENGTH,
    ],
    "client_timeout_no_stream": [LENGTH],
    "create_errors": [NOT_GENERATE, NOT_GENERATE],
    "embed": [fails(R.SERVER_ERROR, 501, "does not support embeddings", retryable=False)],
    "empty_answer": [STOP, STOP, STOP],
    "error_mid_stream_generate": [fails(R.SERVER_ERROR, 200, "encountered while running the model"), LENGTH],
    "error_runner_died_no_stream": [fails(R.SERVER_ERROR, 500, "encountered while running the model")],
    "generate": [LENGTH],
    "generate_body_cut": [fails(R.INVALID_REQUEST, 400, "unexpected EOF")],
    "generate_content_type_text": [LENGTH],
    "generate_duplicate_keys": [NO_MODEL],
    "generate_empty_body": [fails(R.INVALID_REQUEST, 400, "missing request body")],
    # A mistake in the request, which Ollama reports as its own: 500 here is no reason to try again.
    "generate_format_bad": [fails(R.INVALID_REQUEST, 500, "invalid format:")],
    "generate_format_json": [STOP],
    "generate_format_schema": [STOP],
    "generate_format_schema_bad": [fails(R.INVALID_REQUEST, 400, "JSON schema conversion failed")],
    "generate_invalid_utf8": [LENGTH],
    "generate_keep_alive_0": [LENGTH],
    "generate_keep_alive_bad": [fails(R.INVALID_REQUEST, 400, "invalid duration")],
    "generate_load_empty_prompt": [OTHER],
    "generate_logprobs": [LENGTH],
    "generate_malformed_json": [fails(R.INVALID_REQUEST, 400, "unexpected EOF")],
    "generate_malformed_json_2": [fails(R.INVALID_REQUEST, 400, "looking for beginning of object key string")],
    "generate_max_tokens_top_level": [LENGTH],
    "generate_missing_model": [NO_MODEL],
    "generate_model_name_invalid": [fails(R.INVALID_REQUEST, 400, "invalid model name")],
    "generate_no_model": [NO_MODEL],
    "generate_num_ctx_back": [LENGTH],
    "generate_num_ctx_small": [LENGTH],
    "generate_num_predict_0": [STOP],
    "generate_num_predict_1": [LENGTH],
    "generate_option_float_for_int": [LENGTH],
    "generate_option_out_of_range": [LENGTH],
    "generate_options": [LENGTH],
    "generate_raw": [LENGTH],
    "generate_seed_twice": [LENGTH, LENGTH],
    "generate_stop": [STOP],
    "generate_stream": [LENGTH],
    "generate_stream_default": [LENGTH],
    "generate_suffix": [fails(R.INVALID_REQUEST, 400, "does not support insert")],
    "generate_think": [fails(R.INVALID_REQUEST, 400, "does not support thinking")],
    "generate_too_long": [LENGTH],
    "generate_too_long_stream": [LENGTH],
    "generate_too_long_truncate_false": [TOO_LONG],
    "generate_unknown_field": [LENGTH],
    "generate_unload": [OTHER],
    "generate_wrong_type_option": [fails(R.INVALID_REQUEST, 500, 'option "temperature" must be of type')],
    "generate_wrong_type_option_2": [fails(R.INVALID_REQUEST, 500, 'option "num_predict" must be of type')],
    "generate_wrong_type_prompt": [fails(R.INVALID_REQUEST, 400, "cannot unmarshal number")],
    "generate_wrong_type_stream": [fails(R.INVALID_REQUEST, 400, "cannot unmarshal string")],
    "host_and_origin": [
        fails(R.NOT_AUTHORISED, 403, "OLLAMA_ORIGINS"),
        NOT_GENERATE,
        NOT_GENERATE,
        fails(R.NOT_AUTHORISED, 403, "OLLAMA_ORIGINS"),
        NOT_GENERATE,
    ],
    "method_not_allowed": [fails(R.INVALID_REQUEST, 405, "405 method not allowed", "base_url")],
    "not_found": [fails(R.INVALID_REQUEST, 404, "404 page not found", "/api/generate", "base_url")],
    "ps_after_keep_alive_0": [NOT_GENERATE],
    "ps_empty": [NOT_GENERATE],
    "ps_loaded": [NOT_GENERATE],
    "pull_no_network": [NOT_GENERATE],
    "root": [fails(R.MALFORMED_RESPONSE, 200, "content type is 'text/plain'")],
    "server_sigkill_stream": [fails(R.CONNECTION_LOST, 200, "broke before the answer was complete")],
    "show": [NOT_GENERATE],
    "show_missing": [NO_MODEL],
    "stall_runner_mid_stream": [NOT_GENERATE, NOT_GENERATE],
    "tags": [NOT_GENERATE],
    "version": [NOT_GENERATE],
}

# What these recorded happened at the client, and is acted out in test_ollama.py; head_root has no body to be wrong.
WITHOUT_AN_ANSWER = {"client_timeout_while_waiting", "head_root", "no_server", "pooled_connection_after_restart"}

CASES = [(case, number) for case, outcomes in EXPECTED.items() for number in range(len(outcomes))]
TIMEOUTS = Timeouts(first_byte=5.0, between_chunks=0.1)


def model_of(case: str, number: int) -> str:
    return f"{case}-{number}"


def prepared(case: str, number: int, exchange: Exchange) -> Exchange:
    """Serve an exchange to whoever asks for the model that has its name."""
    path = exchange.path if exchange.path == "/api/chat" else "/api/generate"
    return exchange.replace(method="POST", path=path, model=model_of(case, number), stream=True)


@pytest.fixture(scope="module")
def server() -> Iterator[ReplayServer]:
    exchanges = [prepared(case, number, recorded(case)[number]) for case, number in CASES]
    with ReplayServer(exchanges) as server:
        yield server


def request_for(case: str, number: int) -> LLMRequest:
    if recorded(case)[number].path == "/api/chat":
        return LLMRequest(messages=(Message(role="user", content="Hello there"),), model=model_of(case, number))
    return LLMRequest(prompt="Once upon a time", model=model_of(case, number))


def lines_of(case: str, number: int) -> list[dict[str, Any]]:
    body = b"".join(chunk.data for chunk in recorded(case)[number].chunks)
    return [json.loads(line) for line in body.splitlines()]


def text_of(case: str, number: int) -> str:
    return "".join(
        line["message"]["content"] if "message" in line else line["response"] for line in lines_of(case, number)
    )


def check(result: Answer | AttemptFailure, case: str, number: int) -> None:
    expected = EXPECTED[case][number]
    if isinstance(expected, Failure):
        assert isinstance(result, AttemptFailure)
        assert (result.reason, result.status_code) == (expected.reason, expected.status)
        assert [word for word in expected.words if word not in result.message] == [], result.message
        wanted = expected.reason in RETRYABLE if expected.retryable is None else expected.retryable
        assert result.is_retryable is wanted
        return
    assert isinstance(result, Answer), result
    assert result.text == text_of(case, number)
    assert result.finish_reason is expected
    last = lines_of(case, number)[-1]
    assert result.usage == (last.get("prompt_eval_count"), last.get("eval_count"))
    assert result.model == last["model"]
    assert (result.time_to_first_token is None) == (result.text == "")


def test_every_recording_has_its_expectation():
    assert EXPECTED.keys() | WITHOUT_AN_ANSWER == {path.stem for path in RECORDINGS.glob("*.json")}
    assert {case: len(recorded(case)) for case in EXPECTED} == {case: len(found) for case, found in EXPECTED.items()}


@pytest.mark.parametrize(("case", "number"), CASES)
def test_an_attempt_gives_what_the_recording_means(server, case, number):
    check(attempt(server.url, request_for(case, number), timeouts=TIMEOUTS), case, number)


@pytest.mark.parametrize(("case", "number"), CASES)
def test_a_stream_gives_the_recorded_pieces_and_the_same_outcome(server, case, number):
    async def streamed():
        session = OllamaBackend(base_url=server.url).session()
        stream = session.stream(request_for(case, number), timeouts=TIMEOUTS, key=KEY)
        pieces = [piece async for piece in stream]
        await session.aclose()
        return pieces, stream.outcome

    pieces, outcome = asyncio.run(streamed())
    check(outcome, case, number)
    if isinstance(outcome, Answer):
        assert "".join(pieces) == outcome.text
        assert all(pieces)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(("case", "number"), CASES)
def test_a_client_gives_what_the_recording_means(server, case, number, way):
    settings: dict[str, Any] = {"base_url": server.url, "max_retries": 0, "timeouts": TIMEOUTS}
    request = request_for(case, number)
    if way == "sync":
        with LocalLLM(**settings) as llm:
            result = llm.generate(request)
    else:

        async def asked() -> LLMResponse | LLMFailure:
            async with AsyncLocalLLM(**settings) as llm:
                return await llm.generate(request)

        result = asyncio.run(asked())
    expected = EXPECTED[case][number]
    if isinstance(expected, Failure):
        assert isinstance(result, LLMFailure)
        assert (result.reason, result.status_code) == (expected.reason, expected.status)
    elif text_of(case, number).strip():
        assert isinstance(result, LLMResponse)
        assert (result.text, result.finish_reason) == (text_of(case, number), expected)
    else:
        assert isinstance(result, LLMFailure)
        assert result.reason is FailureReason.EMPTY_OUTPUT
