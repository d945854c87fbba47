"""The tokens of the HTTP interface: where they come from, which are accepted, and that no message contains one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reaper.config import load
from reaper.errors import ConfigError

GOOD = "s3cret-s3cret-s3cret"


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def tokens(folder: Path, text: str) -> dict[str, str]:
    """The tokens that the daemon reads from a file with this text."""
    path = write(folder / "tokens", text)
    http_tokens = load({}, {"REAPER_HTTP_TOKEN_FILE": str(path)}).http_tokens
    return {name: token.get_secret_value() for name, token in http_tokens.items()}


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        tokens(folder, text)
    assert "s3cret" not in str(caught.value)
    return str(caught.value)


def test_tokens_are_none_without_a_file() -> None:
    assert load({}, {}).http_tokens == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, {"token": GOOD}),
        (f"  {GOOD}\n", {"token": GOOD}),
        (
            f"alice:{GOOD}\n\n# left us\nbob@example.org:{GOOD}2=\n",
            {"alice": GOOD, "bob@example.org": f"{GOOD}2="},
        ),
        *(
            (f"{name}:{GOOD}", {name: GOOD})
            for name in (
                "alice.johnson@example.org",
                "CiDeployPipelineForTeam2",
                "svc_reaper_halt_2026_11",
                "jenkins@build01.eu-central-1",
            )
        ),
    ],
)
def test_token_line_may_have_a_name(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    assert tokens(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice:s3cret", "line 1: expected a token of 16 characters or more, such as `openssl rand -hex 32` makes"),
        (
            f"alice:{GOOD}\nalice:{GOOD}x",
            "line 2: an earlier token is called alice already; give each token a name of its own",
        ),
        (f"{GOOD}\n{GOOD}x", "line 2: an earlier token is called token already; give each token a name of its own"),
        (f"the boss:{GOOD}", "line 1: before the colon, expected the token's name"),
        (f":{GOOD}", "line 1: before the colon, expected the token's name"),
        ("s3cret s3cret s3cret", "line 1: a token consists of letters, digits and"),
        ("s3crét-s3crét-s3crét", "line 1: a token consists of letters, digits and"),
        (f"alice:{GOOD}\nbob:{GOOD}", "line 2: alice has the same token; give each name a token of its own"),
        (f"3f9c2ba4e88f4c0aa1d53f2b6c9d0e11:{GOOD}", "line 1: the name before the colon looks like a token"),
        (f"kT9vQ2xLr7BnW4mZ8pYc3Hd:{GOOD}", "line 1: the name before the colon looks like a token"),
        (f"7f9c2ba4-e88f-4c0a-a1d5-3f2b6c9d0e11:{GOOD}", "line 1: the name before the colon looks like a token"),
        ("# none\n", "contains no token; expected lines NAME:TOKEN"),
        ("", "is empty"),
    ],
)
def test_wrong_token_is_refused_with_its_line_and_not_shown(tmp_path: Path, text: str, expected: str) -> None:
    message = refusal(tmp_path, text)
    assert message.startswith("REAPER_HTTP_TOKEN_FILE: ") and expected in message


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o606, 0o644, 0o666, 0o777])
def test_token_file_that_other_users_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "tokens", GOOD, mode)
    with pytest.raises(ConfigError) as caught:
        _ = load({}, {"REAPER_HTTP_TOKEN_FILE": str(path)}).http_tokens
    assert str(caught.value) == (
        f"REAPER_HTTP_TOKEN_FILE: other users can read or write {path} (mode {mode:04o}); "
        f"make new tokens, and `chmod o= {path}`"
    )


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o660])
def test_token_file_may_belong_to_a_group(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "tokens", GOOD, mode)
    assert set(load({}, {"REAPER_HTTP_TOKEN_FILE": str(path)}).http_tokens) == {"token"}


def test_token_file_is_read_at_each_access(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    settings = load({}, {"REAPER_HTTP_TOKEN_FILE": str(path)})
    with pytest.raises(ConfigError, match=r"REAPER_HTTP_TOKEN_FILE: cannot read .*No such file"):
        _ = settings.http_tokens
    for token in (GOOD, f"{GOOD}2"):
        write(path, token)
        assert settings.http_tokens["token"].get_secret_value() == token


def test_systemd_provides_the_token_file_and_the_state_directory(tmp_path: Path) -> None:
    write(tmp_path / "http_token", f"ops:{GOOD}")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path), "STATE_DIRECTORY": f"/var/lib/reaper{os.pathsep}/var/lib/other"}
    settings = load({}, environ)
    assert set(settings.http_tokens) == {"ops"}
    assert settings.state_dir == Path("/var/lib/reaper")
    described = {name: (value, origin) for name, value, origin in settings.described()}
    assert described["http_token_file"] == (str(tmp_path / "http_token"), "credential http_token")
    assert described["state_dir"] == ("/var/lib/reaper", "STATE_DIRECTORY")
    assert load({}, {**environ, "REAPER_STATE_DIR": "/srv/reaper"}).state_dir == Path("/srv/reaper")


def test_allowed_hosts_are_names_without_ports() -> None:
    given = {"REAPER_HTTP_ALLOWED_HOSTS": "Reaper.example.org, [::1],10.0.0.7"}
    assert load({}, given).http_allowed_hosts == ("reaper.example.org", "::1", "10.0.0.7")
    for wrong in ("reaper:9469", "a b", "http://reaper", "a,,b"):
        with pytest.raises(ConfigError, match="REAPER_HTTP_ALLOWED_HOSTS"):
            load({}, {"REAPER_HTTP_ALLOWED_HOSTS": wrong})
