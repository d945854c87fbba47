"""The documents: every command that they show works as it stands there, and every link leads somewhere."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import psycopg
import pytest
import yaml
from celery import Celery
from pages import repository

from reaper import celery_tasks
from reaper.cli.main import cli
from reaper.config import load
from tests.support.commands import PROJECT, Reaper, environment
from tests.support.daemons import Daemon
from tests.support.documents import DOCS, PAGES, anchors, blocks, called, links, typed
from tests.support.protea import Protea
from tests.support.waiting import wait_until

README = PROJECT / "README.md"
RUN_BY_OTHER_FILES = {
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
    "docs/runbook.md": "tests/system/test_alerts.py",
}
"""Pages all of whose commands another file runs."""

REVIEWED = {
    "scripts/manage.sh start": "tests/system/test_manage.py runs it on a machine of its own",
    "scripts/manage.sh demo": "tests/system/test_manage.py runs it; it takes a minute",
    "scripts/test.sh": ".ci/run is this command",
    "scripts/test.sh -k interleavings -x": ".ci/run is this command; pytest knows the options",
    "python scripts/bench.py": "tests/system/test_benchmark.py runs it at small sizes; it takes minutes",
    "scripts/install.sh": "tests/system/test_host.py installs a whole host",
    "systemctl enable --now reaper": "tests/system/test_host.py runs it on a host of its own",
    "systemctl status reaper": "tests/system/test_host.py runs it on a host of its own",
    "systemctl reload reaper": "tests/system/test_host.py runs it on a host of its own",
    (
        'curl -X POST localhost:9469/api/executions/cleanup -H "Content-Type: application/json"'
        """ -d '{"dry_run": true}'"""
    ): "tests/web/api/test_dry_runs.py runs it, on the port of its daemon",
    "pip install job-reaper": "it fetches from a package index; what is installed is tested from the checkout",
    (
        "pip install --require-hashes --no-deps --only-binary :all: -r locks/run/reaper.txt -r locks/run/celery.txt"
    ): "it fetches from a package index; tests/system/test_packaging.py installs from a lock with the same options",
    "pip install --no-deps job-reaper": "it fetches from a package index; the package is tested from the checkout",
    "python scripts/audit_locks.py": "tests/security/test_audit.py runs it against an OSV of its own",
    (
        "SOURCE_DATE_EPOCH=1750000000 python scripts/build_release.py"
    ): "it writes into the checkout; tests/system/test_release.py has it write elsewhere",
    "python scripts/renew_locks.py": "tests/security/test_locked_dependencies.py runs it in a project of its own",
    "python scripts/renew_locks.py --upgrade": "tests/security/test_locked_dependencies.py runs it as above",
    "podman build -f config/container/Containerfile -t reaper .": "it fetches an image; it is compared below",
    "podman secret create reaper_database_url database_url": "needs podman; compared with the Containerfile below",
    (
        "podman run --rm --secret reaper_database_url,uid=10001,mode=0400"
        " -e REAPER_DATABASE_URL_FILE=/run/secrets/reaper_database_url reaper"
    ): "needs podman; compared with the Containerfile below",
    (
        "kubectl create secret generic reaper --from-file=database_url --from-file=http_token"
    ): "needs a cluster; a test below finds its names in the manifest",
    "kubectl apply -f config/kubernetes/reaper.yaml": "needs a cluster; tests/system/test_containers.py",
    "kubectl rollout restart deployment/reaper": "needs a cluster; a test below finds its names in the manifest",
    "kubectl scale deployment/reaper --replicas=0": "needs a cluster; a test below finds its names in the manifest",
    "kubectl logs -l app.kubernetes.io/name=reaper": "needs a cluster; a test below finds its label in the manifest",
}
"""Commands that no test here can run, each with the reason. Reviewed by a person, one by one."""

TOKEN_COMMANDS = ('(umask 077; echo "alice:$(openssl rand -hex 32)" > http-token)',)
PIPED = "reaper grants --source main --role reaper | psql -v ON_ERROR_STOP=1 --single-transaction main"
LANGUAGES = {"sh", "toml", "text", "sql", "python", "ini"}
GENERATED = {f"docs/reference/{name}.md" for name in ("api", "cli", "documents", "metrics", "profile", "settings")}


def shown() -> list[str]:
    """Every command of every page that no other file runs, each once."""
    here = [page for page in PAGES if called(page) not in RUN_BY_OTHER_FILES]
    return list(dict.fromkeys(command for page in here for command in typed(page)))


def steers(command: str) -> bool:
    return bool(re.match(r"reaper (state|halt|restart)\b", command))


BEGINNING = [line for line in shown() if "reaper.toml" in line.split()]
"""What a new user types, in this order: the first command writes the file that the others read."""
ALONE = [
    line
    for line in shown()
    if line.startswith("reaper ") and not steers(line) and line not in (PIPED, "reaper run", *BEGINNING)
]
STEERING = [line for line in shown() if steers(line)]


@pytest.fixture
def reaper(protea: Protea, tmp_path: Path) -> Reaper:
    protea.stale()
    return Reaper(tmp_path, {"REAPER_DATABASE_URL": protea.url, "REAPER_HTTP_PORT": "0"})


# --- commands ---------------------------------------------------------------------------------------------------


def test_every_command_is_run_by_a_test_or_reviewed() -> None:
    run = {*BEGINNING, *ALONE, *STEERING, *TOKEN_COMMANDS, PIPED, "reaper run"}
    for line in shown():
        assert line in run or line in REVIEWED or line.startswith("export REAPER_DATABASE_URL="), line
    assert set(shown()) >= {*REVIEWED, *TOKEN_COMMANDS, PIPED}, "the reviewed list has commands that no page shows"
    for page, file in RUN_BY_OTHER_FILES.items():
        assert typed(PROJECT / page)
        assert Path(page).name in (PROJECT / file).read_text(encoding="utf-8"), file


def test_reviewed_commands_are_known_to_the_files_that_their_reason_names() -> None:
    for line, reason in REVIEWED.items():
        if not (place := re.match(r"(\S+\.py|\.ci/run) (?:runs|installs|is)", reason)):
            continue
        script, *words = line.removeprefix("python ").split()
        text = (PROJECT / place[1]).read_text(encoding="utf-8")
        assert Path(script).name in text, line
        assert not words or words[0].startswith("-") or words[0] in text, line


def test_shell_commands_stand_in_blocks_that_tests_read() -> None:
    for page in PAGES:
        allowed = LANGUAGES | ({"bash"} if called(page) == "docs/reference/api.md" else set())
        languages = {block.language for block in blocks(page) if not block.language.startswith("{")}
        assert languages <= allowed, called(page)


@pytest.mark.parametrize("line", ALONE)
def test_command_of_the_documents_does_what_it_says(reaper: Reaper, line: str) -> None:
    result = reaper(*shlex.split(line)[1:])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()


def test_file_that_init_writes_is_used_as_the_documents_say(
    reaper: Reaper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in BEGINNING:
        result = reaper(*shlex.split(line)[1:])
        assert result.exit_code == 0, (line, result.output)


def test_daemon_starts_as_the_documents_say_and_ends_when_stopped(reaper: Reaper, protea: Protea) -> None:
    assert "reaper run" in typed(README)
    with reaper.process("run") as daemon:
        wait_until(lambda: protea.connection.execute("SELECT 1 FROM job WHERE status = 'failed'").fetchone(), "a reap")
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=10)
        assert daemon.returncode == 0


def test_daemon_is_steered_as_the_documents_say_with_the_token_that_they_make(protea: Protea, tmp_path: Path) -> None:
    for line in TOKEN_COMMANDS:
        subprocess.run(["bash", "-ec", line], cwd=tmp_path, check=True)
    token = tmp_path / "http-token"
    assert {line.split()[1] for line in STEERING} == {"state", "halt", "restart"}
    with Daemon(tmp_path, database_url=protea.url, http_token_file=token) as daemon:
        daemon.comes_up().sweeps_on(1)
        reaper = Reaper(tmp_path, {"REAPER_HTTP_PORT": str(daemon.port), "REAPER_HTTP_TOKEN_FILE": str(token)})
        for line in STEERING:
            result = reaper(*shlex.split(line)[1:])
            halted = bool(daemon.metrics.value("reaper_halted"))
            # `state` has a status of its own for a supervisor that does not run.
            assert result.exit_code == (3 if line.startswith("reaper state") and halted else 0), result.output
        assert daemon.metrics.value("reaper_halted") == 0


def test_grants_can_be_piped_to_psql_as_the_documents_say(protea: Protea, tmp_path: Path) -> None:
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": ""})
    reaper.configure(f'[sources.main]\ndatabase_url = "{protea.url.replace("+psycopg", "")}"\n')
    command, _, psql = PIPED.partition(" | ")
    program = shlex.join([sys.executable, "-m", "reaper"])
    line = f'{command.replace("reaper", program, 1)} | {psql.removesuffix("main")}"{protea.libpq}"'
    try:
        piped = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", line],
            env=environment(reaper.given), cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert piped.returncode == 0, piped.stderr
        privilege = protea.connection.execute(
            "SELECT has_column_privilege('reaper', 'job', 'status', 'UPDATE')"
        ).fetchone()
        assert privilege == (True,)
    finally:
        protea.connection.execute("DROP OWNED BY reaper; DROP ROLE reaper")


def test_address_in_the_readme_is_one_that_settings_take(tmp_path: Path) -> None:
    [line] = [line for line in typed(README) if line.startswith("export ")]
    name, _, url = line.removeprefix("export ").partition("=")
    result = Reaper(tmp_path, {name: url})("config", "show")
    assert result.exit_code == 0, result.output


def test_podman_commands_are_those_of_the_containerfile() -> None:
    text = (PROJECT / "config/container/Containerfile").read_text(encoding="utf-8")
    said = " ".join(re.sub(r"\\?\n#", " ", text).split())
    for line in (line for line in shown() if line.startswith("podman ")):
        assert line in said, line


def test_kubectl_commands_name_what_the_manifest_has() -> None:
    documents = list(yaml.safe_load_all((PROJECT / "config/kubernetes/reaper.yaml").read_text(encoding="utf-8")))
    named = {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in documents}
    [deployment] = [each for each in documents if each["kind"] == "Deployment"]
    pod, labels = deployment["spec"]["template"]["spec"], deployment["spec"]["template"]["metadata"]["labels"]
    secrets = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    for line in (line for line in shown() if line.startswith("kubectl ")):
        assert set(re.findall(r"deployment/\w+", line)) <= named, line
        assert not (found := re.search(r"secret generic (\w+)", line)) or found[1] in secrets, line
        assert not (found := re.search(r" -l (\S+)=(\S+)", line)) or labels.get(found[1]) == found[2], line


# --- commands and names inside sentences --------------------------------------------------------------------------


def inline(page: Path) -> list[str]:
    """The code inside the sentences of a page."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", text)


def commands_named() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for code in (*inline(page), *(text for block in blocks(page, "ini") for text in block.text.splitlines())):
            for found in re.findall(r"\breaper (?:[a-z]+(?:-[a-z]+)*\b)(?: [^|;&]*)?", code):
                yield page, found


def test_commands_in_sentences_exist_with_their_options() -> None:
    context = click.Context(cli)
    checked = 0
    for page, line in commands_named():
        command: click.Command | None = cli
        words = shlex.split(line)[1:]
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            name = words.pop(0)
            command = command.get_command(context, name)
            assert command is not None, (called(page), line)
        assert command is not None
        options = {option for param in command.params for option in param.opts} | {"--help"}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, (called(page), line)
        checked += 1
    assert checked > 50


def test_metrics_in_sentences_are_on_the_page_of_metrics() -> None:
    known = set(re.findall(r"`(reaper_\w+)`", (DOCS / "reference/metrics.md").read_text(encoding="utf-8")))
    for page in PAGES:
        named = {code.partition("{")[0] for code in inline(page) if re.match(r"reaper_\w+(\{|$)", code)}
        assert named - {"reaper_database_url"} <= known, called(page)


def test_variables_in_sentences_are_settings() -> None:
    known = set(re.findall(r"`(REAPER_\w+)`", (DOCS / "reference/settings.md").read_text(encoding="utf-8")))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert set(re.findall(r"\bREAPER_[A-Z_]*[A-Z]\b", text)) <= known | {"REAPER_CONFIG"}, called(page)


# --- configuration ------------------------------------------------------------------------------------------------


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged, anything else is replaced: as a reader does who edits one file along a page."""
    both = {key: merged(base[key], value) for key, value in over.items() if isinstance(base.get(key), dict)}
    return {**base, **over, **both}


def as_toml(table: Mapping[str, Any]) -> str:
    """The table as TOML, on one line for each member."""
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in table.items())


def _key(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key) else f'"{key}"'


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else f"'{value}'" if '"' in value else f'"{value}"'


WITH_TOML = [page for page in PAGES if blocks(page, "toml") and called(page) != "docs/tutorial.md"]


@pytest.mark.parametrize("page", WITH_TOML, ids=called)
def test_configuration_of_the_documents_is_one_that_settings_take(page: Path, tmp_path: Path) -> None:
    start, *_ = blocks(DOCS / "how-to/your-own-table.md", "toml")
    table: Mapping[str, Any] = tomllib.loads(start.text)
    secret = tmp_path / "url"
    secret.write_text("postgresql://reaper@127.0.0.1/app")
    broker = tmp_path / "broker"
    broker.write_text("redis://127.0.0.1/0")
    file = tmp_path / "reaper.toml"
    for block in blocks(page, "toml"):
        table = merged(table, tomllib.loads(block.text))
        if "database_url" in table:
            # A profile for PostgreSQL only may be among those that stand in the file.
            table = {**table, "sources": {}}
        text = as_toml(table)
        text = re.sub(r'"/run/secrets/[\w-]*database-url"', f'"{secret}"', text)
        text = re.sub(r'"/run/secrets/[\w-]*broker-url"', f'"{broker}"', text)
        file.write_text(text)
        url = "" if "database_url" in table else secret.read_text()
        settings = load({"config": str(file)}, {"REAPER_DATABASE_URL": url, "REAPER_BROKER_URL": broker.read_text()})
        assert settings.sources


def test_profile_of_the_readme_is_checked_and_swept(database: str, tmp_path: Path) -> None:
    [toml] = blocks(README, "toml")
    assert len(toml.text.splitlines()) == 10
    reaper = Reaper(tmp_path, {"REAPER_DATABASE_URL": database})
    reaper.configure(toml.text)
    with psycopg.connect(database.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE tasks (id bigint PRIMARY KEY, name text NOT NULL, state text NOT NULL, error text,"
            " created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, heartbeat_at timestamptz);"
            "CREATE INDEX ON tasks (state);"
            "INSERT INTO tasks SELECT n, 'resize', 'working', NULL, now() - interval '9 h', now() - interval '8 h',"
            " now() - n * interval '20 min' FROM generate_series(1, 3) n"
        )
        assert reaper("check").exit_code == 0
        assert reaper("sweep", "--yes").exit_code == 0
        states = connection.execute("SELECT id, state, error FROM tasks ORDER BY id").fetchall()
    assert [state for _, state, _ in states] == ["working", "dead", "dead"]
    assert states[1][2].startswith("No sign of life for 40m")


def test_reap_is_undone_behind_a_fence_as_the_documents_say(reaper: Reaper, protea: Protea) -> None:
    [job] = protea.statuses()
    assert reaper("sweep", "--yes").exit_code == 0
    assert reaper("fence", "install", "--force").exit_code == 0
    [block] = blocks(DOCS / "how-to/preview-stop-undo.md", "sql")
    undo = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", job, block.text)
    protea.connection.execute(undo.replace("SET LOCAL reaper.fence = 'off'", "SELECT 1").encode())
    assert protea.status(job) == "failed"
    protea.connection.execute(undo.encode())
    assert protea.status(job) == "running"


def test_celery_beat_is_configured_as_the_documents_say() -> None:
    beat, _ = blocks(DOCS / "how-to/celery.md", "python")  # tests/test_celery_tasks.py runs the other block
    app = Celery("documents", broker="memory://")
    exec(beat.text, {"app": app})
    for entry in app.conf.beat_schedule.values():
        name = entry["task"].removeprefix(f"{celery_tasks.__name__}.")
        assert set(entry["kwargs"]) <= set(getattr(celery_tasks, name).run.__code__.co_varnames), name
    table = re.findall(r"^\| `(\w+)` \| `reaper", (DOCS / "how-to/celery.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(table) == 4
    assert all(hasattr(celery_tasks, name) for name in table)


# --- links --------------------------------------------------------------------------------------------------------


def test_readme_is_short_and_its_links_work_on_a_package_index() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200
    for link in links(README):
        assert link.startswith("https://"), link


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    base = repository()
    raw = base.replace("https://github.com/", "https://raw.githubusercontent.com/")
    for link in links(page):
        path, _, anchor = link.partition("#")
        if path.startswith(raw):
            place = PROJECT / path.removeprefix(f"{raw}/main/")
        elif path.startswith(base):
            place = PROJECT / path.removeprefix(f"{base}/blob/main/")
        elif "://" in path:
            continue
        else:
            place = (page.parent / path).resolve() if path else page
        assert place.is_file(), link
        assert not anchor or anchor in anchors(place), link


CHECK_PAGES = """
import runpy, sys
for script in sys.argv[1:]:
    sys.argv = [script, "--check"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        print(script, end.code)
"""


def test_generated_pages_are_current() -> None:
    """In one process: each would import the whole program."""
    scripts = [str(PROJECT / "scripts" / f"{Path(name).stem}_page.py") for name in sorted(GENERATED)]
    checked = subprocess.run(
        [sys.executable, "-c", CHECK_PAGES, *scripts],
        env=environment({"PYTHONPATH": f"{PROJECT}:{PROJECT / 'scripts'}"}),
        capture_output=True, text=True, cwd=PROJECT,
    )  # fmt: skip
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.splitlines() == [f"{script} 0" for script in scripts]
    assert {f"{path.stem.removesuffix('_page')}" for path in (PROJECT / "scripts").glob("*_page.py")} == {
        Path(name).stem for name in GENERATED
    }
