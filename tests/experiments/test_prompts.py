import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmlab import ClosedLoop, Experiment, LLMRequest, SettingsError
from llmlab.experiments.prompts import _WANTED, prompts

SECRET = "my secret"
TEXTS = ["Why is the sky blue?", 'Say "no",\nplease.', "Größe: 5 µm", ""]
AS_REQUESTS = tuple(LLMRequest(prompt=text) for text in TEXTS)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ---- what is taken


def test_a_series_of_any_kind_is_taken():
    frame = pd.DataFrame({"number": [1, 2, 3, 4], "prompt": TEXTS})
    for source in (TEXTS, tuple(TEXTS), iter(TEXTS), np.array(TEXTS), frame["prompt"], frame, AS_REQUESTS):
        assert prompts(source) == AS_REQUESTS
    assert prompts(frame.rename(columns={"prompt": "question"}), "question") == AS_REQUESTS
    assert prompts([{"question": text, "id": 3} for text in TEXTS], "question") == AS_REQUESTS


def test_every_field_of_a_request_can_be_given():
    given_fields = {"prompt": "Hi", "model": "small", "max_tokens": 5, "temperature": 0.5, "metadata": {"id": 7}}
    conversation = {"messages": [{"role": "user", "content": "Where?"}], "stop": "END", "response_format": "json"}
    assert prompts([given_fields, conversation]) == (LLMRequest(**given_fields), LLMRequest(**conversation))


@pytest.mark.parametrize("as_path", [str, Path])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_files_are_read_whoever_wrote_them(tmp_path, as_path, mark, newline):
    frame = pd.DataFrame({"number": [1, 2, 3, 4], "prompt": TEXTS})
    table = frame.to_csv(index=False, lineterminator=newline)
    lines = [json.dumps(TEXTS[0]), "", json.dumps({"prompt": TEXTS[1]}), *map(json.dumps, TEXTS[2:]), ""]
    for name, content in (("a.csv", table), ("a.jsonl", newline.join(lines)), ("A.NDJSON", newline.join(lines))):
        assert prompts(as_path(written(tmp_path / name, mark + content))) == AS_REQUESTS


def test_a_prompt_may_be_long(tmp_path):
    text = "word " * 200_000
    assert prompts(written(tmp_path / "a.jsonl", json.dumps(text)))[0].prompt == text


def test_prompts_are_the_requests_of_a_workload(tmp_path):
    path = written(tmp_path / "prompts.jsonl", '"one"\n{"prompt": "two", "max_tokens": 3}\n')
    workload = ClosedLoop(calls=5, users=2, requests=prompts(path))
    assert [request.prompt for request in workload.requests] == ["one", "two"]
    assert len(Experiment(workload=workload).run().calls) == 5


# ---- what is refused, where it stands, and no word of the prompts


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '"fine"\n{"prompt": "my secret"\n', "line 2: not valid JSON: Expecting ',' delimiter"),
        ("a.jsonl", '{"promt": "my secret"}', "line 1: no field is called 'promt'; did you mean 'prompt'? valid: max"),
        ("a.jsonl", '{"my secret": 1}', "line 1: a field has an unknown name; valid: max_tokens, messages,"),
        (
            "a.jsonl",
            '\n\n{"prompt": "a", "max_tokens": "my secret"}',
            "line 3: max_tokens must be a whole number, 1 or",
        ),
        ("a.jsonl", '{"messages": ["my secret"]}', "line 1: messages must be a list of {'role': ..., 'content': ...}"),
        ("a.jsonl", '{"messages": [{"role": "my secret", "content": "a"}]}', "line 1: messages must be a list of"),
        ("a.jsonl", '{"prompt": ["my secret"]}', "line 1: prompt must be a text"),
        (
            "a.jsonl",
            '{"prompt": "my secret", "messages": []}',
            "line 1: there must be either a prompt or messages, got b",
        ),
        ("a.jsonl", '{"system": "my secret"}', "line 1: there must be either a prompt or messages, got neither"),
        ("a.jsonl", '["my secret"]', "line 1: a prompt must be a text or an object, got a list"),
        ("a.jsonl", "null", "line 1: a prompt must be a text or an object, got nothing"),
        ("a.jsonl", '"my secret \\ud800"', "line 1: the text holds half a character (a lone surrogate)"),
        (
            "a.jsonl",
            '{"prompt": "a", "seed": ' + "9" * 5000 + "}",
            "line 1: a number is too long, or the nesting too deep",
        ),
        ("a.jsonl", "[" * 200_000, "line 1: "),
        ("a.jsonl", b'"one"\n"my secret \xff"\n', "line 2: not in UTF-8; save the file in that encoding"),
        ("a.jsonl", "\n \n", "the source holds no prompt; give at least one"),
        ("a.csv", "", "the file is empty; its first row must name the columns"),
        ("a.csv", "prompt\n", "the source holds no prompt; give at least one"),
        ("a.csv", "my secret,x\nmy secret,y\n", "line 1: none of the 2 columns is called 'prompt'; say which to take"),
        ("a.csv", "prompts,x\na,b\n", "line 1: none of the 2 columns is called 'prompt' (did you mean 'prompts'?)"),
        ("a.csv", "prompt,prompt\na,b\n", "line 1: 2 columns are called 'prompt'; rename all but one"),
        (
            "a.csv",
            '\nid,prompt\n1,"a\nb"\n\n2,my secret, too\n',
            "line 6: the number of cells is 3, in the first row 2; quote texts",
        ),
        ("a.csv", "id,prompt\n1\n", "line 2: the number of cells is 1, in the first row 2"),
        ("a.csv", 'prompt\nfine\n"my secret\nand more', "line 3: not valid CSV: unexpected end of data"),
        (
            "a.csv",
            "prompt\n" + "my secret" * 20_000,
            "line 2: not valid CSV: field larger than field limit (131072); JSON",
        ),
        ("a.txt", "my secret", "Path is taken as a file's name, which must end in .csv, .jsonl or .ndjson"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_its_place(tmp_path, name, content, message):
    with pytest.raises(SettingsError) as caught:
        prompts(written(tmp_path / name, content))
    text = str(caught.value)
    assert message in text
    assert SECRET not in text
    if "line" in message:
        assert text.startswith(f"{tmp_path / name}, line ")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "the source holds no prompt"),
        ([SECRET, 5], "item 2: a prompt must be a text or an object, got a int"),
        ([{SECRET: 1}], "item 1: a field has an unknown name; valid:"),
        ([{5: SECRET}], "item 1: a field has an unknown name; valid:"),
        ([{"prompt": SECRET, "temperature": 10**400}], "item 1: temperature must be a number, 0 or more"),
        (SECRET, "a str is taken as a file's name, which must end in .csv, .jsonl or .ndjson; give values in a list"),
        (f"{SECRET}\0.csv", "the name of a file holds a character that no file's name can hold"),
        (LLMRequest(prompt=SECRET), "the source must be a list, a data frame or the name of a file, got a LLMRequest"),
        ({"prompt": SECRET}, "the source must be a list, a data frame or the name of a file, got a dict"),
        (SECRET.encode(), "the source must be a list, a data frame or the name of a file, got a bytes"),
        (5, "the source must be a list, a data frame or the name of a file, got a int"),
        (pd.DataFrame({"prompt": [SECRET, None]}), "row 2: a prompt must be a text or an object, got nothing"),
        (pd.DataFrame({"prompt": [SECRET, 5]}, dtype=object), "row 2: a prompt must be a text or an object, got a int"),
        (pd.DataFrame({SECRET: [1], 5: [2]}), "the data frame: none of the 2 columns is called 'prompt'; say which"),
        (
            pd.DataFrame([[1, 2]], columns=["prompt"] * 2),
            "the data frame: 2 columns are called 'prompt'; rename all but",
        ),
    ],
)
def test_a_mistake_in_a_value_is_named_with_its_place(source, message):
    with pytest.raises(SettingsError) as caught:
        prompts(source)
    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_missing_field_is_named(tmp_path):
    path = written(tmp_path / "a.jsonl", '{"question": "a"}\n{"quesion": "b"}\n')
    with pytest.raises(SettingsError, match="line 2: there is no field 'question' \\(did you mean 'quesion'\\?\\)"):
        prompts(path, "question")


def test_a_line_has_a_greatest_length_and_no_more_of_it_is_read(tmp_path):
    path = written(tmp_path / "a.jsonl", '"0123456789"\n"0123456789abc"\n')
    with pytest.raises(SettingsError, match="line 2: longer than max_line_bytes=14"):
        prompts(path, max_line_bytes=14)
    assert len(prompts(path, max_line_bytes=16)) == 2
    if Path("/dev/zero").exists():
        link = tmp_path / "endless.csv"
        link.symlink_to("/dev/zero")
        with pytest.raises(SettingsError, match="line 1: longer than"):
            prompts(link, max_line_bytes=1000)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        prompts(tmp_path / "none.jsonl")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OSError, match="folder"):
        prompts(tmp_path / "folder.csv")


def test_every_field_of_a_request_has_words_for_what_it_must_be():
    assert set(_WANTED) == set(LLMRequest.model_fields)


# ---- nothing but the documented errors

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(_WANTED)) | st.text(), inner),
    max_leaves=8,
)
contents = st.one_of(
    st.binary(),
    st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(any_json).map(lambda values: "\n".join(map(json.dumps, values)).encode()),
    st.text(alphabet='prompt,"\n\r a').map(lambda text: b"prompt\n" + text.encode()),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=contents, suffix=st.sampled_from([".csv", ".jsonl"]), column=st.just("prompt") | st.text(max_size=3))
def test_any_file_gives_requests_or_a_settings_error(tmp_path, content, suffix, column):
    try:
        requests = prompts(written(tmp_path / f"fuzz{suffix}", content), column)
    except SettingsError:
        return
    assert requests
    assert all(type(request) is LLMRequest for request in requests)


@settings(max_examples=200, deadline=None)
@given(st.lists(any_json) | st.text() | any_json)
def test_any_value_gives_requests_or_a_settings_error(source):
    try:
        assert prompts(source)
    except SettingsError:
        pass
    except OSError:
        assert isinstance(source, str), "only a file's name can name a file that is not there"


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_texts_come_back_as_they_were(texts):
    assert [request.prompt for request in prompts(texts)] == texts
