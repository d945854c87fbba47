"""The configuration: its keys, its variables, its defaults, and which of its layers counts."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest

from tests.contract.conftest import Golden
from tests.contract.support import (
    HERE,
    PROJECT,
    Protea,
    Reaper,
    UsedVocabulary,
    profile_model,
    setting_names,
    settings_model,
    unused,
)

_TRUSTING = {"REAPER_RESTART_GRACE": ""}
"""Without what the command of these tests is given otherwise."""

_PROOFS = {
    "REAPER_CLOSE_INTERRUPTED_AT_START": {"REAPER_CLOSE_INTERRUPTED_ONLY_SERVER": "true"},
    "REAPER_RESUME_AT_START": {"REAPER_CLOSE_INTERRUPTED_ONLY_SERVER": "true"},
    "REAPER_CLOSE_INTERRUPTED_HOLDER": {"REAPER_CONFIG": "held.toml"},
}
"""By variable, what it needs beside it."""

Given = tuple[tuple[str, str], ...]
Row = tuple[str, str, str]

DATABASE = "postgresql://reaper@db.example.org/app"
FILES = ("every_key.toml", "secret_files.toml")


@pytest.fixture
def configured(reaper: Reaper) -> Reaper:
    """The command in a folder with the files that the recorded configuration names."""
    for name in FILES:
        shutil.copy(HERE / name, reaper.folder)
    secrets = reaper.folder / "secrets"
    secrets.mkdir()
    texts = {
        "database-url": "postgresql://reaper:secret@files.example.org/app",
        "broker-url": "redis://:secret@files.example.org:6379/0",
        "http-token": "tester:a-token-for-tests-0123456789",
    }
    for name, text in texts.items():
        # As a setting names it, and as systemd names a credential.
        for path in (secrets / name, secrets / name.replace("-", "_")):
            path.write_text(text)
            path.chmod(0o600)
    (reaper.folder / "held.toml").write_text(
        'profile = "held"\n[profiles.held]\nextends = "protea"\njobs.holder = "worker"\n'
    )
    (reaper.folder / "other.toml").write_text('timeout_seconds = "4h"\n')
    return reaper


@pytest.mark.parametrize("name", FILES)
def test_configuration_with_every_key_loads_and_is_shown(configured: Reaper, golden: Golden, name: str) -> None:
    checked = configured("--config", name, "config", "check", **_TRUSTING)
    assert checked.exit_code == 0, checked.output
    rows = list(_rows(configured, "--config", name, **_TRUSTING))
    shown = configured("--config", name, "config", "show", COLUMNS="300", **_TRUSTING).stdout
    assert not [name for name, _, _ in rows if name not in shown]
    golden(name.replace(".toml", ".txt"), (f"{key} = {value} ({origin})" for key, value, origin in rows))


def test_recorded_configuration_leaves_no_key_and_no_word_out() -> None:
    tables = [tomllib.loads((HERE / name).read_text()) for name in FILES]
    settings, profiles = UsedVocabulary(), UsedVocabulary()
    for table in tables:
        settings.see(settings_model()(**table))
    own = {name: table for name, table in tables[0]["profiles"].items() if "extends" not in table}
    for name, table in own.items():
        profiles.see(profile_model().model_validate({**table, "name": name}))
    # environment.toml has the words of settings.
    assert unused(settings_model(), settings, words_too=False) == []
    assert unused(profile_model(), profiles, words_too=True) == []


def test_shipped_configuration_shows_settings_that_exist(golden: Golden) -> None:
    """`config/reaper.toml` is what an administrator edits: a line `#name = value` is a setting at its default."""
    lines = (PROJECT / "config" / "reaper.toml").read_text().splitlines()
    golden("shipped_configuration.txt", (line[1:] for line in lines if line[:1] == "#" and line[1:2] not in ("", " ")))


def test_settings_keep_their_defaults(configured: Reaper, golden: Golden) -> None:
    rows = _rows(configured, REAPER_DATABASE_URL=DATABASE, **_TRUSTING)
    golden("defaults.txt", (f"{name} = {value}" for name, value, _ in rows if name != "config"))


def test_variables_keep_their_names_and_what_they_mean(configured: Reaper, golden: Golden) -> None:
    variables: dict[str, list[str]] = tomllib.loads((HERE / "environment.toml").read_text())
    assert not {f"REAPER_{name.upper()}" for name in setting_names()} - variables.keys()
    tried = [(name, value) for name, values in variables.items() for value in values]
    without = cache(lambda others: set(_rows(configured, **dict(others))))
    lines = (line for name, value in tried for line in _meaning(configured, name, value, without))
    golden("environment.txt", lines)


def test_layers_keep_their_order(configured: Reaper, protea: Protea, golden: Golden) -> None:
    """Flags beat the environment, which beats what systemd gives, which beats the file, which beats the defaults."""
    (configured.folder / "reaper.toml").write_text('state_dir = "file"\nhttp_token_file = "file"\nbatch_size = 7\n')
    systemd = {"STATE_DIRECTORY": "systemd", "CREDENTIALS_DIRECTORY": "secrets"}
    own = {"REAPER_STATE_DIR": "own", "REAPER_HTTP_TOKEN_FILE": "own", "REAPER_BATCH_SIZE": "8"}
    layers = {"defaults": {}, "file": {}, "systemd over file": systemd, "environment over all": {**systemd, **own}}
    lines = list[str]()
    for layer, given in layers.items():
        words = [] if layer == "defaults" else ["--config", "reaper.toml"]
        for name, value, origin in _rows(configured, *words, **given):
            if name in ("state_dir", "http_token_file", "batch_size"):
                lines.append(f"{layer}: {name} = {value} ({origin})")
    (configured.folder / "config").mkdir()
    (configured.folder / "config" / "reaper.toml").write_text("batch_size = 9\n")
    found = {name: (value, origin) for name, value, origin in _rows(configured, REAPER_CONFIG="")}
    lines.append(f"found without being named: {found['config']}, batch_size {found['batch_size']}")
    golden("layers.txt", [*lines, *_of_one_source(configured), *_of_thresholds(configured, protea)])


def _of_one_source(reaper: Reaper) -> Iterator[str]:
    """systemd's credentials can be those of one source."""
    (reaper.folder / "one.toml").write_text("[sources.archive]\n[sources.main]\nprofile = 'adhese'\n")
    for secret in ("database_url", "broker_url"):
        shutil.copy(reaper.folder / "secrets" / secret, reaper.folder / "secrets" / f"archive.{secret}")
    for name, value, origin in _rows(reaper, "--config", "one.toml", CREDENTIALS_DIRECTORY="secrets"):
        if name.endswith("_url"):
            yield f"credentials of one source: {name} = {value} ({origin})"


def _of_thresholds(reaper: Reaper, protea: Protea) -> Iterator[str]:
    """Where the timeout of a job comes from: a flag, its kind in the source, its kind, the source, the environment."""
    job = protea.stale(operation="embed")
    source = f"[sources.default]\ndatabase_url = '{protea.url}'\n"
    kind, own = "[kinds.embed]\ntimeout_seconds = '4h'\n", "timeout_seconds = '5h'\n"
    nearest = "[sources.default.kinds.embed]\ntimeout_seconds = '3h'\n"
    files = {
        "environment": source,
        "source": source + own,
        "kind": kind + source + own,
        "kind of the source": kind + source + own + nearest,
    }
    for what, text in files.items():
        (reaper.folder / "thresholds.toml").write_text(text)
        given = reaper.using({"REAPER_CONFIG": "thresholds.toml", "REAPER_TIMEOUT_SECONDS": "6h"})
        explained = given.document("explain", job)["job"]
        yield f"timeout from {what}: {explained['timeout_seconds']:g} ({_without_lines(explained['timeout_from'])})"
    [flagged] = given.document("sweep", "--older-than", "2h", "--dry-run")["sources"][0]["would_reap"]
    yield f"timeout from a flag: {flagged['timeout_seconds']:g} ({flagged['timeout_from']})"


def _without_lines(origin: str) -> str:
    return re.sub(r"(?<=\.toml):\d+", ":LINE", origin)


def _rows(reaper: Reaper, *words: str, **given: str) -> Iterator[Row]:
    """Name, value and origin as `config show` has them, without line numbers and the test's own folder."""
    values: list[dict[str, Any]] = reaper.using(given).document(*words, "config", "show")["values"]
    for row in values:
        value, origin = (str(row[key]).replace(f"{reaper.folder}/", "") for key in ("value", "origin"))
        yield row["name"], value, _without_lines(origin)


def _meaning(
    reaper: Reaper,
    variable: str,
    value: str,
    without: Callable[[tuple[tuple[str, str], ...]], set[tuple[str, str, str]]],
) -> Iterator[str]:
    """What is different because of a variable. `without` has the rows that there are with the others alone."""
    others = dict(_TRUSTING)
    if not {"DATABASE", "CREDENTIALS"} & set(variable.split("_")):
        others["REAPER_DATABASE_URL"] = DATABASE
    others |= _PROOFS.get(variable, {})
    before = without(tuple(others.items()))
    changed = [row for row in _rows(reaper, **{**others, variable: value}) if row not in before]
    if not changed:
        yield f"{variable}={value}: ignored"
    for name, shown, origin in changed:
        if name.startswith("sources.") and not origin.startswith((variable, "credential")):
            continue  # of a source that is there only because of the variable
        yield f"{variable}={value}: {name} = {shown} ({origin})"
