"""A path in a setting may lead to anything: what never ends, or is too large, is refused in time and in words."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reaper.common import bounded_file
from reaper.common.bounded_file import MAX_BYTES, UnreadableFile, read_bounded
from reaper.config import load
from reaper.errors import ConfigError
from reaper.memory import Memory

URL = "postgresql://u:hunter2@db/app"
TOKEN = "alice:0123456789abcdef0123"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_file, "MAX_SECONDS", 0.2)


@contextmanager
def writing(path: Path, *parts: bytes) -> Iterator[None]:
    """A writer that opens a named pipe, and writes these parts to it."""

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            for part in parts:
                pipe.write(part)

    thread = threading.Thread(target=write)
    thread.start()
    yield
    thread.join(10)
    assert not thread.is_alive()


SETTINGS: dict[str, Callable[[Path], object]] = {
    "the configuration": lambda path: load({"config": path}, {}),
    "a database's URL": lambda path: load({}, {"REAPER_DATABASE_URL_FILE": str(path)}),
    "a broker's URL": lambda path: load({}, {"REAPER_DATABASE_URL": URL, "REAPER_BROKER_URL_FILE": str(path)}),
    "the tokens": lambda path: load({}, {"REAPER_HTTP_TOKEN_FILE": str(path)}).http_tokens,
}
every_setting = pytest.mark.parametrize("read", SETTINGS.values(), ids=SETTINGS)


def refusal(read: Callable[[Path], object], path: Path) -> str:
    began = time.thread_time()
    with pytest.raises(ConfigError) as refused:
        read(path)
    assert time.thread_time() - began < 5
    return str(refused.value)


@every_setting
def test_file_that_never_ends_is_refused(read: Callable[[Path], object], tmp_path: Path) -> None:
    assert "cannot read /dev/zero: it is larger than 1 MiB" in refusal(read, Path("/dev/zero"))
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(1 << 30)
    assert f"cannot read {sparse}: it is larger than 1 MiB" in refusal(read, sparse)


@every_setting
@pytest.mark.usefixtures("impatient")
def test_pipe_into_which_nothing_is_written_is_refused(read: Callable[[Path], object], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    assert f"cannot read {pipe}: its end did not come within 0.2 s" in refusal(read, pipe)
    writer = os.open(pipe, os.O_RDWR)
    os.write(writer, b"batch_size = 7\n")  # and it stays open
    assert f"cannot read {pipe}: its end did not come within 0.2 s" in refusal(read, pipe)
    os.close(writer)


def test_named_pipe_is_read_to_its_end_however_late_and_in_how_many_parts_it_comes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with writing(pipe, b"batch_", b"size = ", b"7\n"):
        assert load({"config": pipe}, {}).batch_size == 7
    with writing(pipe, TOKEN.encode()):
        assert set(load({}, {"REAPER_HTTP_TOKEN_FILE": str(pipe)}).http_tokens) == {"alice"}


def test_configuration_may_come_through_a_descriptor() -> None:
    """As `--config <(sops -d reaper.toml)` gives it, whether its writer has ended by then or not."""
    text = b"batch_size = 7\n" + b"#" * 50_000
    reading, writing_end = os.pipe()
    os.write(writing_end, text)
    os.close(writing_end)
    assert load({"config": Path(f"/dev/fd/{reading}")}, {}).batch_size == 7
    os.close(reading)
    reading, writing_end = os.pipe()

    def write_late() -> None:
        time.sleep(0.05)
        os.write(writing_end, text)
        os.close(writing_end)

    late = threading.Thread(target=write_late)
    late.start()
    assert load({"config": Path(f"/dev/fd/{reading}")}, {}).batch_size == 7
    late.join()
    os.close(reading)


def test_largest_file_is_read_and_one_byte_more_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * MAX_BYTES)
    assert len(read_bounded(path).content) == MAX_BYTES
    path.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(UnreadableFile, match="larger than 1 MiB"):
        read_bounded(path)


def test_halt_of_an_earlier_version_that_never_ends_is_a_halt(tmp_path: Path) -> None:
    (tmp_path / "halted").symlink_to("/dev/zero")
    halt = Memory.open(tmp_path).halt.load()
    assert halt is not None and halt.persistent and "cannot be read" in halt.by


def test_path_with_a_zero_byte_is_refused_in_words() -> None:
    with pytest.raises(UnreadableFile, match="null byte"):
        read_bounded(Path("a\0b"))


# --- documents that would take long ------------------------------------------------------------------------------

SIZE = 200_000
SLOW = {
    "a dotted key": "a." * (SIZE // 2) + "a = 1",
    "a dotted key with blanks": "a . " * (SIZE // 4) + "a = 1",
    "a dotted key in quotes": '"a".' * (SIZE // 4) + "a = 1",
    "a table's dotted name": "[" + "a." * (SIZE // 2) + "a]",
    "a dotted key in a table of one line": "t = {" + "a." * (SIZE // 2) + "a = 1}",
    "an array over many lines": "a = [\n" + "1,\n" * (SIZE // 3) + "]",
    "a text over many lines": 'a = """\n' + "x\n" * (SIZE // 2) + '"""',
    "a text without an end": 'a = "' + '\\"' * (SIZE // 2),
    "nested arrays": "a = " + "[" * SIZE,
    "nested tables": "a = " + "{a = " * (SIZE // 5),
    "unknown names": "".join(f"k{number} = 1\n" for number in range(SIZE // 12)),
    "comments": "#\n" * (SIZE // 2) + "a = 1",
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_document_of_any_shape_is_refused_in_seconds_and_in_few_lines(text: str, tmp_path: Path) -> None:
    path = tmp_path / "reaper.toml"
    path.write_text(text)
    message = refusal(lambda path: load({"config": path}, {}), path)
    assert message.startswith(f"{path}:") and len(message.splitlines()) == 1 and len(message) < 1000


@pytest.mark.parametrize("text", ['[kinds."{}"]', '"{}" = 1', "b = '{}'", 'b = """\n{}"""', "# {}"])
def test_dots_that_are_not_between_keys_are_not_counted(text: str, tmp_path: Path) -> None:
    path = tmp_path / "reaper.toml"
    path.write_text("a = [" + "1.5, " * 100 + "]\n" + text.format("x." * 100))
    message = refusal(lambda path: load({"config": path}, {}), path)
    assert "a: unknown name" in message and "a key has more than" not in message
