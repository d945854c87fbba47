"""Tokens are revoked by taking them out of their file, whatever else is wrong with a new configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reaper.config.token_file import TokenFile, read_token_file
from reaper.web.guard.tokens import Tokens
from tests.support.api import Client
from tests.support.daemons import Daemon
from tests.support.protea import Protea

ALICE, BOB = "a-token-of-alice-0123456789", "a-token-of-bob-0123456789"
BOTH = f"alice:{ALICE}\nbob:{BOB}\n"
REVOKED = "Reaper has revoked HTTP tokens: their file no longer contains them."
WRONG, RIGHT = "batch_size = 0\n", ""


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_reload_revokes_the_tokens_that_their_file_no_longer_contains_whatever_the_configuration(
    protea: Protea, tmp_path: Path
) -> None:
    path = written(tmp_path / "tokens", BOTH)

    def main(extra: str) -> str:
        return f'{extra}http_token_file = "{path}"\n[sources.default]\ndatabase_url = "{protea.url}"\n'

    with Daemon(tmp_path, main(RIGHT), state_dir=tmp_path / "state") as daemon:
        daemon.comes_up()
        alice, bob = Client(daemon.port, ALICE), Client(daemon.port, BOB)

        def refused_after(change: Callable[[], object], extra: str) -> list[str | int]:
            change()
            daemon.reload(main(extra))
            return [client.post("/api/supervisor/restart").status for client in (alice, bob)]

        assert refused_after(lambda: None, WRONG) == [200, 200]
        assert refused_after(lambda: written(path, f"alice:{ALICE}\n"), WRONG) == [200, 401]
        # One that is put back needs a configuration that is right.
        assert refused_after(lambda: written(path, BOTH), WRONG) == [200, 401]
        assert refused_after(lambda: None, RIGHT) == [200, 200]
        # A wrong line grants nothing, and keeps no other caller out.
        assert refused_after(lambda: written(path, f"alice:{ALICE}\nbob {BOB}\n"), RIGHT) == [200, 401]
        for change, reason in [
            (lambda: written(path, ""), f"{path} is empty"),
            (lambda: path.unlink(), f"cannot read {path}: No such file or directory"),
            (lambda: written(path, BOTH, 0o644), f"other users can read or write {path}"),
        ]:
            for extra in (RIGHT, WRONG):
                assert refused_after(lambda: written(path, BOTH), RIGHT) == [200, 200]
                assert refused_after(change, extra) == [403, 403]
                refusal = alice.post("/api/supervisor/restart").detail
                assert refusal.startswith("this reaper is read-only: its tokens for HTTP were revoked: ")
                assert reason in refusal and reason in alice.get("/").text
        assert [line["tokens"] for line in daemon.said(REVOKED)] == [["bob"], ["bob"], *[["alice", "bob"]] * 6]
        assert ALICE not in daemon.stderr.read_text() and BOB not in daemon.stderr.read_text()


def test_token_that_another_name_has_now_is_revoked(tmp_path: Path) -> None:
    path = written(tmp_path / "tokens", BOTH)
    tokens = Tokens(read_token_file(path, "here").tokens)
    written(path, f"alice:{BOB}\nbob:{BOB}x\n")
    assert tokens.revoke_missing(read_token_file(path, "here")) == ["alice", "bob"]
    assert not tokens and tokens.name_of(f"Bearer {BOB}") is None


def test_tokens_that_came_through_a_pipe_stay_when_it_is_empty() -> None:
    tokens = Tokens(TokenFile({}, ["here: /dev/fd/63 is empty"], read_once=True).tokens)
    assert tokens.revoke_missing(TokenFile({}, ["here: /dev/fd/63 is empty"], read_once=True)) == ()
