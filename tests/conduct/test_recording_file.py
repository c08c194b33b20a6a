"""Recordings as files: whole lines in, and whatever a stranger or a crash left in the file out again."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.conduct import recording_file
from llmlab.conduct.recording import ConnectionOpened, End, Header, Recording, Request, WeatherChange
from llmlab.conduct.recording_file import RecordingWriter, read_recording
from llmlab.core.settings import SettingsError

HEADER = Header(seed=7, weather={"faults": {"overload": 0.5}}, started_at=1.7e9, server="llmlab serve")
RECORDS = [
    ConnectionOpened(connection=0, at_s=0.5),
    Request(
        request=0,
        connection=0,
        reused=False,
        arrived_at_s=0.6,
        call=3,
        keyed=True,
        client="Ölmühle/1.0",
        endpoint="/api/chat",
        fault="overload",
        status=503,
        retry_after_s=1.0,
        ended_at_s=0.7,
        ended_by="server",
    ),
    WeatherChange(at_s=0.8, weather={}),
    End(at_s=1.0),
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "conduct.jsonl"
    with RecordingWriter(path, HEADER) as write:
        for record in RECORDS:
            write(record)
    return path


def test_what_was_written_is_read_again(file):
    assert read_recording(file) == Recording.of([HEADER, *RECORDS])


def test_a_record_is_in_the_file_as_soon_as_it_is_written(tmp_path):
    with RecordingWriter(tmp_path / "a.jsonl", HEADER) as write:
        write(RECORDS[0])
        assert read_recording(write.path).opened == {0: 0.5}


def test_a_closed_writer_says_so(tmp_path):
    with RecordingWriter(tmp_path / "a.jsonl", HEADER) as write:
        pass
    write.close()
    with pytest.raises(ValueError, match=r"a\.jsonl' is closed"):
        write(RECORDS[0])


def test_a_recording_is_never_added_to(file):
    before = file.read_bytes()
    with pytest.raises(SettingsError, match="exists, and a recording is not added to; name another file"):
        RecordingWriter(file, HEADER)
    assert file.read_bytes() == before


def test_a_file_that_cannot_be_made_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"cannot record into '.*a.jsonl' \(No such file or directory\)"):
        RecordingWriter(tmp_path / "nowhere" / "a.jsonl", HEADER)


def test_two_recordings_digest_one_body_differently(tmp_path):
    with RecordingWriter(tmp_path / "a", HEADER) as one, RecordingWriter(tmp_path / "b", HEADER) as two:
        assert one.digest(b"prompt") == one.digest(b"prompt") != two.digest(b"prompt")


def test_a_torn_last_line_is_left_out_with_a_notice(file):
    file.write_bytes(file.read_bytes()[:-5])
    recording = read_recording(file)
    assert recording.notices == ("line 5 was torn off in writing and is left out",)
    assert recording.ended_at_s is None
    assert len(recording.requests) == 1


def spoil(file, number, line):
    lines = file.read_bytes().splitlines(keepends=True)
    lines[number - 1] = line
    file.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("number", "line", "complaint"),
    [
        (1, b"", "is no recording of a fault server; make one with `llmlab serve --record FILE`"),
        (1, b"\x00\xff not text\n", "is no recording of a fault server"),
        (1, b"[]\n", "is no recording of a fault server"),
        (1, b'{"event":"attempt"}\n', "holds events, not a recording"),
        (1, b'{"format":"llmlab-conduct","version":"2\\u001b"}\n', r"is of version 2\?, this llmlab reads version 1"),
        (
            1,
            b'{"format":"llmlab-conduct","version":1,"seed":[]}\n',
            "line 1: is no header .seed must be a valid integer",
        ),
        (3, b"not json\n", r"line 3: is no record \(Invalid JSON"),
        (3, b'{"record":"requests"}\n', "line 3: is no record"),
        (3, b'{"record":"end","at_s":-1}\n', "line 3: is no record .end: at_s must be 0 or more"),
        (3, b'{"record":"end","at_s":1e999}\n', "line 3: is no record"),
        (3, b'{"record":"end","at_s":1,"prompt":"x"}\n', r"line 3: is no record \(end: End has no setting 'prompt'"),
        (3, b'{"record":"weather","at_s":1,"weather":' + b'{"a":' * 9999 + b"\n", "line 3: is no record"),
        (3, HEADER.model_dump_json().encode() + b"\n", "line 3: a second header; these are several recordings"),
        (3, b'{"record":"connection_opened","connection":0,"at_s":1}\n', "is used twice: 0; these are several"),
    ],
)
def test_what_is_no_recording_is_refused_with_its_place(file, number, line, complaint):
    spoil(file, number, line)
    with pytest.raises(SettingsError, match=complaint) as error:
        read_recording(file)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 500


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"nothing.jsonl' \(No such file or directory\); name a recording, or make"):
        read_recording(tmp_path / "nothing.jsonl")
    with pytest.raises(SettingsError, match="Is a directory"):
        read_recording(tmp_path)


def test_a_line_without_end_is_not_read_into_memory(file, monkeypatch):
    monkeypatch.setattr(recording_file, "MAX_LINE_BYTES", 1000)
    spoil(file, 3, b" " * 100_000)
    with pytest.raises(SettingsError, match="line 3: is longer than 1,000 bytes"):
        read_recording(file)


def test_there_is_an_end_to_the_number_of_records(file, monkeypatch):
    monkeypatch.setattr(recording_file, "MAX_RECORDS", 4)
    with pytest.raises(SettingsError, match="has more than 4 records; record for a shorter time"):
        read_recording(file)


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 50))
def test_no_damage_brings_more_than_an_error_in_words(tmp_path_factory, damage, at, gone):
    path = tmp_path_factory.mktemp("damaged") / "a.jsonl"
    whole = b"".join(json.dumps(r.model_dump(exclude_none=True)).encode() + b"\n" for r in [HEADER, *RECORDS])
    path.write_bytes(whole[:at] + damage + whole[at + gone :])
    with contextlib.suppress(SettingsError):
        read_recording(path)
