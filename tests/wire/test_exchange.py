"""The words of an HTTP exchange."""

from llmlab.wire.exchange import Head, HTTPRequest


def test_a_header_is_found_by_its_name_and_none_is_none():
    request = HTTPRequest("POST", "/api/chat", (("host", "a"), ("host", "b")), b"{}")
    assert (request.header("host"), request.header("accept")) == ("a", None)
    assert Head(200, (("Content-Type", "text/plain"),)).header("content-type") == "text/plain"
