import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.backends.http_host import is_loopback
from llmlab.backends.ollama_host import DEFAULT_URL, parse_host
from llmlab.core.settings import SettingsError


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", DEFAULT_URL),
        ("  ", DEFAULT_URL),
        ('""', DEFAULT_URL),
        ("127.0.0.1", "http://127.0.0.1:11434"),
        ("127.0.0.1:11435", "http://127.0.0.1:11435"),
        ("myhost", "http://myhost:11434"),
        ("my-host.example.test:8080", "http://my-host.example.test:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("[::]:8080", "http://[::1]:8080"),
        ("::", "http://[::1]:11434"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1", "http://[::1]:11434"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("[0:0:0:0:0:0:0:1]", "http://[::1]:11434"),
        ("http://myhost", "http://myhost:80"),
        ("ollama.com", "https://ollama.com:443"),
        (' "ollama.com" ', "https://ollama.com:443"),
        ("ollama.com:1234", "http://ollama.com:1234"),
        ("https://ollama.com", "https://ollama.com:443"),
        ("https://myhost", "https://myhost:443"),
        ("HTTPS://myhost:8443", "https://myhost:8443"),
        ("http://myhost:11434/", "http://myhost:11434"),
        ("https://myhost/some/prefix/", "https://myhost:443/some/prefix"),
        ("myhost/prefix", "http://myhost:11434/prefix"),
        (" 'myhost:1' ", "http://myhost:1"),
    ],
)
def test_every_spelling_of_ollama_host_is_understood(text, url):
    assert parse_host(text) == url


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("myhost:port", "the port 'port' is not a number from 1 to 65535"),
        ("myhost:99999", "the port '99999'"),
        ("myhost:0", "the port '0'"),
        ("myhost:٣", "the port '٣'"),
        ("ftp://myhost", "the scheme 'ftp' is not http or https"),
        ("my host", "the host holds a character"),
        ("[nonsense]", "'nonsense' is no IPv6 address"),
        ("[::1]8080", "after ']' only a port may follow"),
        ("myhost/?query", "its path holds a character"),
        ("myhost/a b", "its path holds a character"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text, why):
    with pytest.raises(SettingsError) as caught:
        parse_host(text, setting="base_url")
    assert why in str(caught.value)
    assert str(caught.value).startswith("base_url must be an address like")


@pytest.mark.parametrize(
    "text",
    [
        "http://me:secret@myhost",
        "me:secret@myhost",
        "me:secret@myhost:1/x",
        "https://me@h/",
        "http://me:se/secret@myhost",
        "http:/me:secret@myhost",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(text):
    with pytest.raises(SettingsError, match="http_client") as caught:
        parse_host(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["http://h/v1?key=secret", "h?key=secret", "http://h/v1#secret"])
def test_what_follows_the_path_may_be_a_key_and_is_not_repeated(text):
    with pytest.raises(SettingsError, match="got 'h") as caught:
        parse_host(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LocalHost.", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.example.test", False),
        ("myhost", False),
    ],
)
def test_only_this_machine_is_loopback(host, loopback):
    assert is_loopback(host) is loopback


@settings(deadline=None)  # a busy machine is no finding
@given(st.text(max_size=60))
def test_any_text_gives_a_url_or_a_settings_error(text):
    try:
        url = parse_host(text)
    except SettingsError:
        return
    assert url.startswith(("http://", "https://"))
    assert parse_host(url) == url, "reading a URL that was read gives the same URL"
