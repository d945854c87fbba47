"""`reaper files`: writes alert rules, unit files and other files that a host needs beside the program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from reaper.cli import output
from reaper.cli.options import json_option
from reaper.common.shipped_files import shipped_root
from reaper.common.terminal import shown
from reaper.errors import ReaperError

SHIPPED = {
    "config/reaper.toml": "every setting at its default, explained",
    "config/prometheus/prometheus.yml": "the scrape job and where the rules stand",
    "config/prometheus/reaper.alerts.yml": "alert rules",
    "config/prometheus/reaper.recording.yml": "recording rules; the alerts and the dashboard need them",
    "config/alertmanager": "where each alert goes",
    "config/grafana": "the dashboard",
    "config/container": "the container file and its health check",
    "locks/run": "versions and hashes of what the program and its extras need",
    "config/kubernetes": "the manifest",
    "systemd": "unit files, and the grants for each shipped profile",
    "docs/runbook.md": "what to do for each alert",
}
"""Files and folders, as they stand in a checkout, in a wheel (below reaper/files) and in the folder that is written."""

_MAX_NAMED = 10


@dataclass(frozen=True)
class _File:
    """A shipped file. `name` is its path below the folder that is written."""

    name: str
    content: bytes

    @property
    def mode(self) -> int:
        """What the caller's umask is applied to."""
        return 0o777 if self.name.endswith(".sh") else 0o666


def _folder(_: click.Context, param: click.Parameter, value: str) -> Path:
    """The callback of DIRECTORY."""
    if not value:
        # An empty shell variable; Path("") would be the current folder.
        raise click.BadParameter("expected a folder, not an empty text", param=param)
    folder = Path(value)
    if os.path.lexists(folder) and not folder.is_dir():
        raise click.BadParameter(f"{shown(value)} is not a folder", param=param)
    return folder


@click.command("files", short_help="Write alert rules, unit files and other files for a host.")
@click.argument("folder", metavar="DIRECTORY", callback=_folder)
@click.option("--force", is_flag=True, help="Replace files that exist and differ.")
@json_option
def command(folder: Path, force: bool, as_json: bool) -> None:
    """Write alert rules, unit files and other files for a host to a folder.

    These are: a configuration file with every setting explained, Prometheus rules, an Alertmanager configuration, a
    Grafana dashboard, systemd units, SQL grants, a container file with the locks of what it installs, a Kubernetes
    manifest and the runbook. The folder is created if it does not exist. If one of the files exists and differs,
    nothing is written and the exit status is 1. Reads no configuration and asks no database.

    \b
    Example:
      reaper files ./reaper-files
    """
    files = list(_shipped())
    _refuse_blocked(folder, files)
    differing = [file for file in files if _differs(folder / file.name, file)]
    if differing and not force:
        names = ", ".join(str(folder / file.name) for file in differing[:_MAX_NAMED])
        more = f" and {len(differing) - _MAX_NAMED} more" if len(differing) > _MAX_NAMED else ""
        raise ReaperError(f"nothing was written: these files exist and differ: {names}{more}; --force replaces them")
    written = [file for file in files if file in differing or not (folder / file.name).exists()]
    for file in written:
        _write(folder / file.name, file)
    if as_json:
        output.write_document(
            "files",
            {
                "directory": str(folder),
                "written": [file.name for file in written],
                "replaced": [file.name for file in differing],
                "unchanged": [file.name for file in files if file not in written],
            },
        )
        return
    for line in _lines(folder, new=len(written) - len(differing), replaced=len(differing), of=len(files)):
        click.echo(shown(line))


# --- the shipped files ---------------------------------------------------------------------------------------


def _shipped() -> Iterator[_File]:
    """Every shipped file. Raises ReaperError where this installation lacks one."""
    root = shipped_root()
    for place in SHIPPED:
        names = sorted(_names_below(root, root / place))
        if not names:
            raise ReaperError(f"{root / place} is missing: install job-reaper again, from a wheel or from its sources")
        yield from (_File(name, (root / name).read_bytes()) for name in names)


def _names_below(root: Path, entry: Path) -> Iterator[str]:
    for path in [entry] if entry.is_file() else entry.rglob("*"):
        # pip compiles the health check of the image, too.
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(root).as_posix()


# --- the folder that is written ------------------------------------------------------------------------------


def _refuse_blocked(folder: Path, files: list[_File]) -> None:
    """Raises ReaperError if a folder stands in the place of a file, or something else in the place of a folder."""
    for file in files:
        target = folder / file.name
        if target.is_dir() and not target.is_symlink():
            raise ReaperError(f"nothing was written: {target} is a folder, and a file of that name would be written")
        for parent in target.parents:
            if parent == folder:
                break
            if os.path.lexists(parent) and not parent.is_dir():
                raise ReaperError(f"nothing was written: {parent} is not a folder, and files would be written into it")


def _differs(target: Path, file: _File) -> bool:
    """Whether something else has the name already. A link that leads nowhere is something else."""
    if not os.path.lexists(target):
        return False
    if not target.is_file() or target.stat().st_size != len(file.content):
        return True
    return target.read_bytes() != file.content


def _write(target: Path, file: _File) -> None:
    """Write the whole file or none of it. A link is replaced, not followed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode), "wb") as stream:
            stream.write(file.content)
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _lines(folder: Path, *, new: int, replaced: int, of: int) -> Iterator[str]:
    yield f"{folder}: {new} files written, {replaced} replaced, {of - new - replaced} unchanged."
    width = max(map(len, SHIPPED))
    for place, what in SHIPPED.items():
        yield f"  {place.ljust(width)}  {what}"
    yield "Next:"
    yield f"  1. Set the database in {folder / 'config/reaper.toml'}"
    yield f"  2. reaper --config {folder / 'config/reaper.toml'} check"
    yield f"  3. {folder / 'systemd/README.md'} says where each unit file goes."
    yield "     The other files say in their first lines how they are used."
