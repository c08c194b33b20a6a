from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.backends.http_answers import ProtocolBreach
from llmlab.backends.ollama_description import (
    InstalledModel,
    LoadedModel,
    ServerDescription,
    read_installed,
    read_loaded,
    read_slots,
    read_version,
    tagged,
)
from tests.ollama_replay import listed, recorded


def body_of(case: str) -> bytes:
    return b"".join(chunk.data for chunk in recorded(case)[0].chunks)


def test_the_recorded_listings_are_read():
    assert read_version(body_of("version")) == "0.32.15"
    slow, *_, last = read_installed(body_of("tags"))
    assert slow == InstalledModel("tiny-slow:latest", 572613012, "llama", "286.26M", "F16", 2048, writes_text=True)
    assert last.name == "tiny-bytes:latest"
    expires = datetime(2026, 11, 22, 18, 44, 47, 519015, tzinfo=UTC)
    assert read_loaded(body_of("ps_loaded")) == (LoadedModel("tiny:latest", 2048, 4624219, 0, expires),)
    assert read_loaded(body_of("ps_empty")) == ()


def test_what_a_server_leaves_out_or_words_otherwise_is_none():
    odd = {"name": "a", "size": "big", "details": None, "capabilities": "all"}
    assert read_installed(listed(odd, {"name": "b"})) == (InstalledModel("a"), InstalledModel("b"))
    assert read_loaded(listed({"name": "a", "expires_at": "soon", "context_length": -1})) == (LoadedModel("a"),)
    assert read_loaded(listed({"name": "a", "expires_at": "9999-12-31T23:59:59-14:00"})) == (LoadedModel("a"),)
    assert read_installed(b'{"models":null}') == ()
    assert read_slots(b'{"total_slots":4}') == 4
    assert read_slots(b"{}") is None


def test_a_model_that_only_embeds_is_told_apart():
    embeds, writes = read_installed(
        listed({"name": "e", "capabilities": ["embedding"]}, {"name": "w", "capabilities": ["completion", "tools"]})
    )
    assert (embeds.writes_text, writes.writes_text) == (False, True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"nonsense",
        b"\xff",
        b'{"models":5}',
        b'{"models":[5]}',
        b'{"models":[{}]}',
        listed({"name": 5}),
    ],
)
@pytest.mark.parametrize(("read", "path"), [(read_installed, "/api/tags"), (read_loaded, "/api/ps")])
def test_what_is_no_list_of_models_is_a_breach(read, path, body):
    with pytest.raises(ProtocolBreach, match=path):
        read(body)


@pytest.mark.parametrize("body", [b"{}", b'{"version":""}', b'{"version":7}', b"0.32.15 "])
def test_what_is_no_version_is_a_breach(body):
    with pytest.raises(ProtocolBreach, match="/api/version"):
        read_version(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_listing_or_a_breach(body):
    for read in (read_version, read_installed, read_loaded, read_slots):
        try:
            read(body)
        except ProtocolBreach:
            continue


@pytest.mark.parametrize(
    ("name", "full"),
    [("tiny", "tiny:latest"), ("tiny:7b", "tiny:7b"), ("hf.co:443/me/tiny", "hf.co:443/me/tiny:latest")],
)
def test_a_name_without_a_tag_means_the_latest(name, full):
    assert tagged(name) == full


def described(**more: Any) -> ServerDescription:
    models = (InstalledModel("tiny:latest", 4_600_000_000, "llama", "8.0B", "Q4_K_M", 8192), InstalledModel("other"))
    return ServerDescription(base_url="http://127.0.0.1:11434", version="0.32.15", models=models, **more)


def test_a_description_prints_as_a_table():
    until = datetime(2026, 11, 22, 18, 44, 47, tzinfo=UTC)
    for_ever = datetime(2319, 3, 5, tzinfo=UTC)
    loaded = (
        LoadedModel("tiny:latest", 4096, 5_000_000_000, 2_500_000_000, until),
        LoadedModel("elsewhere", expires_at=for_ever),
    )
    assert repr(described(loaded=loaded, slots=4)).splitlines() == [
        "Ollama 0.32.15 at http://127.0.0.1:11434:",
        "  tiny:latest  4.6 GB  llama 8.0B Q4_K_M  context 8192  loaded, context 4096, 50% in VRAM, until 18:44:47 UTC",
        "  other        ?                          context ?",
        "  elsewhere is loaded, for ever",
        "  slots: 4",
    ]


def test_a_description_says_what_is_unknown_and_why():
    text = repr(described(problems=("Ollama at x answered 404",)))
    assert "slots: unknown, the server does not tell" in text
    assert text.endswith("Ollama at x answered 404")
    nothing = ServerDescription(base_url="http://x:1", problems=("no Ollama server at http://x:1 (refused)",))
    assert not nothing.ok
    assert repr(nothing) == (
        "no description of an Ollama server at http://x:1:\n  no Ollama server at http://x:1 (refused)"
    )
    empty = ServerDescription(base_url="http://x:1", version="1", models=())
    assert empty.ok
    assert "no model is installed; get one with `ollama pull " in repr(empty)


def test_a_notebook_shows_the_same_as_a_table_in_which_a_servers_words_are_only_text():
    evil = ServerDescription(base_url="http://x:1", version="<b>1", models=(InstalledModel("<script>alert(1)"),))
    html = evil._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "&lt;b&gt;1" in html
    assert "slots: unknown" in html
