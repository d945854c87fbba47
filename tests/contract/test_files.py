"""Files that a host has of the reaper: units, users, paths, scripts, images, profiles, and the package's own names."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from tests.contract.conftest import Golden
from tests.contract.support import PROJECT, flattened, shipped_profiles, without

SYSTEMD = PROJECT / "systemd"
SCRIPTS = PROJECT / "scripts"
_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
_PATH = re.compile(r"(?<![\w$}])/(?:opt|etc|usr|var|run)/[\w@./-]*[\w]")
_PROSE = re.compile(r'".*?"')
_BUILDS = ("ENV", "WORKDIR", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD")


def _lines(path: Path) -> Iterator[str]:
    """Without comments, with continued lines joined and blanks made one."""
    for line in path.read_text().replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith(("#", ";")):
            yield " ".join(line.split())


def test_units_keep_their_directives(golden: Golden) -> None:
    golden("units.txt", (line for path in sorted(SYSTEMD.glob("*.service")) for line in _directives(path)))


def _directives(path: Path) -> Iterator[str]:
    section, numbers = "", dict[str, int]()
    for line in _lines(path):
        if line.startswith("["):
            section = line
            continue
        name = line.partition("=")[0]
        numbers[name] = numbers.get(name, 0) + 1
        # The order of commands means something; that of settings does not.
        place = f" {numbers[name]}" if name.startswith("Exec") else ""
        if name not in ("Description", "Documentation"):
            yield f"{path.name} {section}{place} {line}"


def test_host_keeps_its_users_folders_and_modes(golden: Golden) -> None:
    files = [SYSTEMD / name for name in ("reaper.sysusers", "reaper.tmpfiles", "reaper.logrotate")]
    lines = [f"{path.name}: {_PROSE.sub('TEXT', line)}" for path in files for line in _lines(path)]
    shipped = [f"shipped: systemd/grants/{path.name}" for path in (SYSTEMD / "grants").iterdir()]
    golden(
        "host.txt", [*lines, *shipped, *(f"as service: {path}" for path in _paths(SYSTEMD / "reaper-as-service.sh"))]
    )


def _paths(script: Path) -> set[str]:
    return {path for line in _lines(script) for path in _PATH.findall(line)}


def test_scripts_keep_their_commands_options_and_places(golden: Golden) -> None:
    golden("scripts.txt", [*_help_of("install.sh"), *_help_of("manage.sh"), *_installed()])


def _help_of(name: str) -> Iterator[str]:
    shown = subprocess.run([SCRIPTS / name, "--help"], capture_output=True, text=True, timeout=60)
    yield f"{name} --help: {shown.returncode}"
    wrong = subprocess.run([SCRIPTS / name, "--nothing-of-the-kind"], capture_output=True, text=True, timeout=60)
    yield f"{name} --nothing-of-the-kind: {wrong.returncode}"
    usage = shown.stdout
    yield from (f"{name} {option}" for option in _OPTION.findall(usage))
    yield from (f"{name} tells of {path}" for path in _PATH.findall(usage))
    # A word in the first column is a command.
    yield from (f"{name} {word}" for word in re.findall(r"^  ([a-z]+)(?= )", usage, re.MULTILINE))


def _installed() -> Iterator[str]:
    """Which file goes where, and which other places install.sh touches, as bash understands it."""
    names = '"${files[@]}" "${data_folders[@]}" "$program" "$command" "$configuration" "$override_folder" "$rotation"'
    paths_script = (
        f"prefix=; eval \"$(sed -n '/^set_paths() {{/,/^}}/p' install.sh)\"; set_paths; printf '%s\\n' {names}"
    )
    ran = subprocess.run(["bash", "-euc", paths_script], cwd=SCRIPTS, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    yield from (f"install.sh: {line.replace(':', ' -> ')}" for line in ran.stdout.splitlines())


def test_modules_that_scripts_start_are_there() -> None:
    """Scripts, units and images say `python -m MODULE`."""
    files = [
        path for folder in ("scripts", "systemd", "config") for path in (PROJECT / folder).rglob("*") if path.is_file()
    ]
    text = "\n".join(path.read_text(errors="replace") for path in files)
    modules = set(re.findall(r"-m (reaper[\w.]*)", text))
    assert "reaper" in modules
    assert not [module for module in modules if find_spec(module) is None]
    assert find_spec("reaper.__main__") is not None
    ran = subprocess.run([sys.executable, "-m", "reaper", "--help"], cwd=PROJECT, capture_output=True, timeout=60)
    assert ran.returncode == 0


def test_container_and_manifest_keep_what_a_deployment_sets(golden: Golden) -> None:
    built = [line for line in _lines(PROJECT / "config" / "container" / "Containerfile") if line.startswith(_BUILDS)]
    manifest = (PROJECT / "config" / "kubernetes" / "reaper.yaml").read_text()
    objects = [document for document in yaml.safe_load_all(manifest) if document]
    lines = [line for document in objects for line in _deployed(document)]
    golden("deployment.txt", [*(f"Containerfile {line}" for line in built), *lines])


def _deployed(document: dict[str, Any]) -> Iterator[str]:
    kind = document["kind"]
    # The image carries the version.
    yield from (f"{kind}: {line}" for line in flattened(without(document, ("image", "data"))))


def test_shipped_profiles_keep_their_names_and_what_they_say(golden: Golden) -> None:
    """Users extend them, part by part, and grant what they name."""
    found = shipped_profiles()
    golden(
        "profiles.txt",
        (line for name, table in found.items() for line in flattened(without(table, ("description",)), name)),
    )


def test_package_keeps_its_command_extras_and_python(golden: Golden) -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = [f"command: {name}" for name in project["scripts"]]
    lines += [f"extra: {name}" for name in project["optional-dependencies"]]
    lines += [f"python: {project['requires-python']}", f"typed: {(PROJECT / 'reaper' / 'py.typed').exists()}"]
    golden("package.txt", lines)
