"""A server that is not a reaper is answered in words, whatever it sends: no traceback, no control of the terminal."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reaper.cli import exit_codes
from tests.support.commands import Reaper

STATE: dict[str, object] = {"state": "RUNNING", "halted": None, "sources": []}
SOURCE = {
    "name": "a", "profile": "p", "problems": [], "sweeping": False, "outcome": None, "succeeded_seconds_ago": None,
    "next_seconds": None,
}  # fmt: skip


def answer(body: object, status: int = 200) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(content), content)


def with_source(**changed: object) -> bytes:
    return answer({**STATE, "sources": [{**SOURCE, **changed}]})


STRANGERS = {
    "a page": answer(b"<html>"),
    "an array": answer([1]),
    "sources that are no array": answer({**STATE, "sources": 3}),
    "a source that is no object": answer({**STATE, "sources": [1]}),
    "a source without members": answer({**STATE, "sources": [{"name": "a"}]}),
    "a halt that is a text": answer({**STATE, "halted": "x"}),
    "a state that is a number": answer({**STATE, "state": 7}),
    "problems that are a number": with_source(problems=5),
    "a duration that is a text": with_source(succeeded_seconds_ago="x"),
    "an endless duration": with_source(succeeded_seconds_ago=float("inf")),
    "nested arrays": answer(b"[" * 200_000),
    "nested arrays as an error": answer(b"[" * 200_000, 500),
    "a refusal that is no text": answer({"detail": [1]}, 500),
    "another program's 404": answer({"detail": "Not Found"}, 404),
    "a redirect": answer(b"", 302),
    "a number of 5,000 digits": answer(b'{"state": "RUNNING", "halted": null, "sources": ' + b"9" * 5000 + b"}"),
    "no text": answer(b"\xff\xfe\x00"),
    "an answer without an end": b"HTTP/1.1 200 OK\r\nContent-Length: 3000000000\r\n\r\n" + b" " * (9 << 20),
}
NO_HTTP = {
    "another protocol": b"SSH-2.0-OpenSSH_9\x1b]0;TITLE\x07\r\n",
    "nothing": b"",
    "a header without an end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000,
}


@contextmanager
def stranger(sent: bytes) -> Iterator[str]:
    """The URL of a server that sends this to its only client."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1 << 16)
            try:
                connection.sendall(sent)
            except OSError:
                assert len(sent) > 1 << 16, "only what is too long is not taken"

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize("sent", STRANGERS.values(), ids=STRANGERS)
def test_stranger_that_speaks_http_is_no_reaper(sent: bytes, tmp_path: Path) -> None:
    with stranger(sent) as url:
        result = Reaper(tmp_path, {})("state", "--url", url)
    assert result.exit_code == exit_codes.FAILED
    status = sent.split()[1].decode()
    assert result.output == f"reaper: the server at {url} is not a reaper of this version (status {status})\n"


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_stranger_that_speaks_no_http_is_no_daemon(sent: bytes, tmp_path: Path) -> None:
    with stranger(sent) as url:
        result = Reaper(tmp_path, {})("state", "--url", url)
    assert result.exit_code == exit_codes.AWAY and result.output.startswith(f"reaper: no daemon answers at {url}: ")
    assert result.output.rstrip("\n").isprintable()


def test_refusal_of_a_daemon_is_printed_spelled_out(tmp_path: Path) -> None:
    with stranger(answer({"detail": "no \x1b]0;TITLE\x07"}, 503)) as url:
        result = Reaper(tmp_path, {})("state", "--url", url)
    assert (result.exit_code, result.output) == (exit_codes.FAILED, "reaper: no \\x1b]0;TITLE\\x07\n")


def test_state_of_a_newer_daemon_is_shown(tmp_path: Path) -> None:
    sent = answer({**STATE, "more": [1], "sources": [{**SOURCE, "more": {"a": 1}, "succeeded_seconds_ago": 5}]})
    with stranger(sent) as url:
        result = Reaper(tmp_path, {})("state", "--url", url)
    assert (result.exit_code, result.output) == (0, "RUNNING\nSource a (p): not swept yet, last success 5s ago\n")
