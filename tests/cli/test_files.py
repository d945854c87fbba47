"""`reaper files`: the files that a host needs, written to a folder, and never over a file that differs unless asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from reaper.cli import files
from reaper.common import shipped_files
from tests.support.commands import PROJECT, Reaper


@pytest.fixture
def reaper(tmp_path: Path) -> Reaper:
    """Without any settings: the command needs none."""
    return Reaper(tmp_path, {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "host files"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shipped() -> dict[str, bytes]:
    """The files of the project that the command writes, by their names there."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *files.SHIPPED]
    listed = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=True)
    return {name: (PROJECT / name).read_bytes() for name in listed.stdout.split("\0") if name}


def test_files_are_those_of_the_project_and_each_is_said_with_what_comes_next(reaper: Reaper, folder: Path) -> None:
    result = reaper("files", str(folder))
    assert result.exit_code == 0, result.output
    assert contents(folder) == shipped()
    assert len(contents(folder)) > 25
    assert f"{folder}: {len(shipped())} files written, 0 replaced, 0 unchanged." in result.stdout
    assert all(place in result.stdout for place in files.SHIPPED)
    assert f"reaper --config {folder}/config/reaper.toml check" in result.stdout


def test_configuration_that_is_written_is_one_that_settings_take(reaper: Reaper, folder: Path) -> None:
    reaper("files", str(folder))
    result = reaper("--config", str(folder / "config/reaper.toml"), "config", "show")
    assert result.exit_code == 0, result.output


def test_scripts_can_be_run_and_other_files_cannot(reaper: Reaper, folder: Path) -> None:
    reaper("files", str(folder))
    executable = {name for name in contents(folder) if (folder / name).stat().st_mode & 0o111}
    assert executable == {name for name in contents(folder) if name.endswith(".sh")} != set()


def test_json_names_each_file_with_what_became_of_it(reaper: Reaper, folder: Path) -> None:
    first = reaper.json("files", str(folder))
    assert (first["command"], first["directory"]) == ("files", str(folder))
    assert set(first["written"]) == set(shipped()) and first["replaced"] == first["unchanged"] == []
    (folder / "docs/runbook.md").write_text("ours\n")
    (folder / "config/reaper.toml").unlink()
    second = reaper.json("files", str(folder), "--force")
    assert set(second["written"]) == {"docs/runbook.md", "config/reaper.toml"}
    assert second["replaced"] == ["docs/runbook.md"]
    assert set(second["unchanged"]) == set(shipped()) - set(second["written"])


def test_files_that_are_the_same_are_no_obstacle(reaper: Reaper, folder: Path) -> None:
    reaper("files", str(folder))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    result = reaper("files", str(folder))
    assert result.exit_code == 0
    assert f"0 files written, 0 replaced, {len(shipped())} unchanged." in result.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


# --- what is there already -----------------------------------------------------------------------------------


def test_file_that_differs_keeps_everything_from_being_written(reaper: Reaper, folder: Path) -> None:
    (folder / "config").mkdir(parents=True)
    (folder / "config/reaper.toml").write_text("ours\n")
    result = reaper("files", str(folder))
    assert result.exit_code == 1
    assert f"{folder}/config/reaper.toml; --force replaces them" in result.stderr
    assert contents(folder) == {"config/reaper.toml": b"ours\n"}
    refused = reaper.json("files", str(folder), code=1)
    assert "nothing was written" in refused["error"]


def test_force_replaces_the_file_that_differs_and_leaves_every_other_one(reaper: Reaper, folder: Path) -> None:
    (folder / "config").mkdir(parents=True)
    (folder / "config/reaper.toml").write_text("ours\n")
    (folder / "config/other.toml").write_text("also ours\n")
    result = reaper("files", str(folder), "--force")
    assert result.exit_code == 0, result.output
    assert contents(folder) == {**shipped(), "config/other.toml": b"also ours\n"}


def test_many_files_that_differ_are_named_in_part(reaper: Reaper, folder: Path) -> None:
    reaper("files", str(folder))
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_text("ours\n")
    result = reaper("files", str(folder))
    assert result.exit_code == 1
    assert f" and {len(shipped()) - 10} more; --force replaces them" in result.stderr


@pytest.mark.parametrize("exists", [True, False])
def test_link_is_replaced_with_force_and_never_followed(
    reaper: Reaper, folder: Path, tmp_path: Path, exists: bool
) -> None:
    elsewhere = tmp_path / "elsewhere.toml"
    if exists:
        elsewhere.write_text("ours\n")
    (folder / "config").mkdir(parents=True)
    (folder / "config/reaper.toml").symlink_to(elsewhere)
    assert reaper("files", str(folder)).exit_code == 1
    assert reaper("files", str(folder), "--force").exit_code == 0
    assert not (folder / "config/reaper.toml").is_symlink()
    assert (elsewhere.read_text() == "ours\n") if exists else not elsewhere.exists()


@pytest.mark.parametrize("blocked", ["config/reaper.toml/folder", "systemd"])
def test_folder_for_a_file_and_file_for_a_folder_are_refused_before_anything_is_written(
    reaper: Reaper, folder: Path, blocked: str
) -> None:
    (folder / blocked).parent.mkdir(parents=True)
    (folder / blocked).touch()
    result = reaper("files", str(folder), "--force")
    assert result.exit_code == 1
    assert "nothing was written" in result.stderr
    assert contents(folder) == {blocked: b""}


# --- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing argument 'DIRECTORY'"),
        ([""], "expected a folder, not an empty text"),
        (["a file"], "a file is not a folder"),
        (["a", "b"], "unexpected extra argument"),
    ],
)
def test_wrong_argument_is_wrong_usage(
    reaper: Reaper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a file").touch()
    result = reaper("files", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_folder_that_cannot_be_made_is_a_failure_with_its_name(reaper: Reaper, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    result = reaper("files", str(tmp_path / "a file" / "below"))
    assert result.exit_code == 1
    assert str(tmp_path / "a file") in result.stderr


def test_broken_configuration_does_not_matter(reaper: Reaper, folder: Path) -> None:
    reaper.configure("nonsense = [")
    assert reaper("files", str(folder), REAPER_NONSENSE="1").exit_code == 0


def test_installation_without_the_files_says_so(
    reaper: Reaper, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site-packages/reaper").mkdir(parents=True)
    monkeypatch.setattr(shipped_files, "_PACKAGE", tmp_path / "site-packages/reaper")
    result = reaper("files", str(folder))
    assert result.exit_code == 1
    assert "config/reaper.toml is missing: install job-reaper again" in result.stderr
    assert not folder.exists()
