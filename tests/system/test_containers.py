"""The container file and the Kubernetes manifest, as far as they can be tried without a cluster.

Nothing is built here: that takes a registry. What stands in both is held against the program instead: the variables
against its settings, the probes against a daemon that runs with them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from reaper import __version__
from reaper.cli.files import SHIPPED
from reaper.config import load
from tests.support.commands import Reaper
from tests.support.daemons import PROJECT, Daemon, closed, fetch
from tests.support.protea import Protea
from tests.support.waiting import wait_until

CONTAINERFILE = PROJECT / "config/container/Containerfile"
MANIFEST = PROJECT / "config/kubernetes/reaper.yaml"
TEXT = CONTAINERFILE.read_text(encoding="utf-8")
DOCUMENTS: list[dict[str, Any]] = [*yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))]
TOKEN = "admin:0123456789abcdef0123456789abcdef"


def of(kind: str) -> dict[str, Any]:
    [found] = [document for document in DOCUMENTS if document["kind"] == kind]
    return found


POD: dict[str, Any] = of("Deployment")["spec"]["template"]
[CONTAINER] = POD["spec"]["containers"]
VARIABLES: dict[str, str] = {entry["name"]: entry["value"] for entry in CONTAINER["env"]}


# --- the container file --------------------------------------------------------------------------------------


def instruction(name: str) -> list[str]:
    """What stands behind an instruction, wherever it is given."""
    whole = TEXT.replace("\\\n", " ")
    return [line.partition(" ")[2] for line in whole.splitlines() if line.startswith(f"{name} ")]


def health_check() -> list[str]:
    [line] = instruction("HEALTHCHECK")
    words: list[str] = json.loads(line.partition("CMD ")[2])
    return words


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    result = subprocess.run([hadolint, CONTAINERFILE], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def let_through() -> list[str]:
    """The places that a build in a checkout can read: all that its context consists of."""
    lines = (CONTAINERFILE.parent / f"{CONTAINERFILE.name}.dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines
    return [line[1:] for line in lines if line.startswith("!")]


def context(folder: Path) -> Path:
    """What a build in a checkout begins with."""
    for name in let_through():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, place)
    return folder


def installs(folder: Path) -> list[str]:
    """What pip is called with, call by call, when the image is built with that folder as its context."""
    pip = folder / "pip"
    pip.write_text('#!/bin/sh\necho "${PYTHONPATH:+PYTHONPATH=$PYTHONPATH }$@"\n')
    pip.chmod(0o755)
    script = "set -e\n" + "\n".join(line for line in instruction("RUN") if "pip install" in line)
    script = script.replace("/opt/reaper/bin/pip", shlex.quote(str(pip)))
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run(["sh", "-c", script], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


LOCKED = "install --no-cache-dir --require-hashes --no-deps --only-binary :all:"
NEEDED = f"{LOCKED} -r locks/run/reaper.txt -r locks/run/celery.txt -r locks/run/mysql.txt"


def test_image_of_a_checkout_is_made_from_it_and_has_all_of_the_package(tmp_path: Path) -> None:
    made = context(tmp_path / "context")
    assert installs(made) == [
        NEEDED,
        f"{LOCKED} --target /build -r locks/dev/build.txt",
        "PYTHONPATH=/build install --no-cache-dir --no-deps --no-index --no-build-isolation .",
    ]
    assert all((made / name).is_file() for name in re.findall(r"-r (\S+)", " ".join(installs(made))))
    sources = {str(path.relative_to(made)) for path in (made / "reaper").rglob("*") if path.is_file()}
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, str(tmp_path), str(made)], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "wheel", "zip")
    packed = {str(path.relative_to(tmp_path / "wheel")) for path in (tmp_path / "wheel/reaper").rglob("*")}
    assert sources <= packed, sources - packed
    assert set(SHIPPED) <= {name.removeprefix("reaper/files/") for name in packed}


def test_image_beside_files_that_the_command_wrote_is_made_from_this_release(tmp_path: Path) -> None:
    assert Reaper(tmp_path, {})("files", str(tmp_path / "host")).exit_code == 0
    released = f"install --no-cache-dir --no-deps --only-binary :all: job-reaper=={__version__}"
    assert installs(tmp_path / "host") == [NEEDED, released]
    assert all((tmp_path / "host" / name).is_file() for name in re.findall(r"-r (\S+)", NEEDED))
    copied = [line.split()[0] for line in instruction("COPY") if not line.startswith(("--from", ". "))]
    assert copied and all((tmp_path / "host" / name).is_file() for name in copied)


def test_image_runs_the_command_as_an_unprivileged_user() -> None:
    assert instruction("USER") == ["10001:10001"]
    assert [json.loads(line) for line in instruction("ENTRYPOINT") + instruction("CMD")] == [["reaper"], ["run"]]
    assert all(re.fullmatch(r"python:3\.\d+-slim-bookworm( AS build)?", line) for line in instruction("FROM"))
    assert instruction("EXPOSE") == [str(load({}, {}).http_port)]
    [environment] = instruction("ENV")
    given = dict(word.split("=", 1) for word in environment.split())
    load({}, {name: value for name, value in given.items() if name.startswith("REAPER_")})


def test_health_check_passes_while_the_daemon_lives_even_without_its_database(protea: Protea, tmp_path: Path) -> None:
    def healthy(**given: str) -> bool:
        words: list[str | Path] = [sys.executable, PROJECT / "config/container" / Path(health_check()[1]).name]
        env = {**os.environ, **given, "PYTHONPATH": str(PROJECT), "http_proxy": "http://127.0.0.1:1"}
        return subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, check=False).returncode == 0

    assert health_check()[0] == "python"
    name = protea.libpq.partition("?")[0].rpartition("/")[2]
    with Daemon(tmp_path, database_url=protea.url) as daemon:
        daemon.comes_up()
        assert healthy(REAPER_HTTP_PORT=str(daemon.port))
        # It may stand in the file, and the daemon may listen everywhere.
        (tmp_path / "own.toml").write_text(f'http_port = {daemon.port}\nhttp_host = "0.0.0.0"\n')
        assert healthy(REAPER_CONFIG="own.toml")
        with closed(protea.libpq.replace(name, "postgres"), name):
            wait_until(lambda: not daemon.ready[0], "not ready")
            assert healthy(REAPER_HTTP_PORT=str(daemon.port))
    assert not healthy(REAPER_CONFIG="own.toml")
    # Switched off, it can tell nothing against the daemon.
    assert healthy(REAPER_HTTP_PORT="0")


def test_secret_is_readable_by_the_user_of_the_image() -> None:
    [given] = re.findall(r"--secret (\S+)", TEXT)
    name, *options = given.split(",")
    assert options == [f"uid={instruction('USER')[0].partition(':')[0]}", "mode=0400"]
    assert f"REAPER_DATABASE_URL_FILE=/run/secrets/{name} " in TEXT


# --- the manifest --------------------------------------------------------------------------------------------


def test_kubernetes_takes_it() -> None:
    validate = Path(sys.executable).parent / "kubernetes-validate"
    for version in ("1.30", "1.34"):
        words: list[str | Path] = [validate, "--strict", "--kubernetes-version", version, MANIFEST]
        result = subprocess.run(words, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        assert (result.stdout + result.stderr).count(" passed ") == len(DOCUMENTS)


def test_deployment_has_two_pods_and_a_disruption_leaves_one() -> None:
    assert of("Deployment")["spec"]["replicas"] == 2
    assert of("PodDisruptionBudget")["spec"]["minAvailable"] == 1


def test_everything_that_selects_the_pods_finds_them() -> None:
    labels = POD["metadata"]["labels"].items()
    assert of("Deployment")["spec"]["selector"]["matchLabels"].items() <= labels
    assert of("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= labels
    assert of("Service")["spec"]["selector"].items() <= labels
    [spread] = POD["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= labels


def test_pod_meets_the_restricted_standard() -> None:
    """As https://kubernetes.io/docs/concepts/security/pod-security-standards/ lists it."""
    pod, container = POD["spec"]["securityContext"], CONTAINER["securityContext"]
    assert pod["runAsNonRoot"] is True and pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["readOnlyRootFilesystem"] is True
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert POD["spec"].keys() & {"hostNetwork", "hostPID", "hostIPC"} == set()
    kinds = {kind for volume in POD["spec"]["volumes"] for kind in volume.keys() - {"name"}}
    assert kinds <= {"configMap", "emptyDir", "secret"}


def test_user_and_image_are_those_of_the_container_file() -> None:
    context = POD["spec"]["securityContext"]
    assert instruction("USER") == [f"{context['runAsUser']}:{context['runAsGroup']}"]
    assert CONTAINER["image"].endswith(f"/reaper:{__version__}")
    assert CONTAINER["args"] == json.loads(instruction("CMD")[0])


def test_pod_ports_are_those_of_the_daemon() -> None:
    [port] = CONTAINER["ports"]
    assert port["containerPort"] == load({}, {}).http_port
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    probes = [CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")]
    assert {probe["port"] for probe in probes} == {port["name"]}
    assert [probe["path"] for probe in probes] == ["/live", "/live", "/ready"]
    assert of("Service")["spec"]["ports"][0]["targetPort"] == port["name"]


class PodFiles:
    """What a pod finds at its mount points, in folders of this machine."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._volumes = {mount["mountPath"]: mount for mount in CONTAINER["volumeMounts"]}
        for path in self._volumes:
            self.place(path).mkdir(parents=True)
        [mode] = [volume["secret"]["defaultMode"] for volume in POD["spec"]["volumes"] if "secret" in volume]
        for name, text in {"database_url": url, "http_token": TOKEN}.items():
            self.place(f"/run/secrets/reaper/{name}").write_text(f"{text}\n")
            self.place(f"/run/secrets/reaper/{name}").chmod(mode)
        for name, text in of("ConfigMap")["data"].items():
            self.place(f"/etc/reaper/{name}").write_text(text)

    def place(self, path: str) -> Path:
        assert any(Path(path).is_relative_to(mount) for mount in self._volumes), f"nothing is mounted for {path}"
        return self._folder / path[1:]

    @property
    def variables(self) -> dict[str, str]:
        """The pod's, with its paths put where they are here."""
        given = {name: str(self.place(value)) if value[0] == "/" else value for name, value in VARIABLES.items()}
        return {**given, "REAPER_CONFIG": str(self.place("/etc/reaper/reaper.toml"))}


@pytest.fixture
def pod_files(tmp_path: Path, protea: Protea) -> Iterator[PodFiles]:
    yield PodFiles(tmp_path / "pod", protea.url)


def test_settings_accept_the_variables_configuration_and_secrets_of_the_pod(pod_files: PodFiles) -> None:
    settings = load({}, pod_files.variables)
    assert settings.sources.keys() == {"default"}
    assert settings.http_tokens.keys() == {"admin"}
    assert settings.http_exposed
    assert settings.state_dir == pod_files.place("/var/lib/reaper")
    assert set(VARIABLES) <= {f"REAPER_{origin}" for origin in _names()}, "a variable that is no setting"


def _names() -> set[str]:
    return {name.upper() for name, _, _ in load({}, {}).described()} | {"DATABASE_URL_FILE"}


def test_pod_and_its_twin_are_ready_and_probes_get_in_by_the_address_of_the_pod(
    pod_files: PodFiles, tmp_path: Path
) -> None:
    given = {**pod_files.variables, "REAPER_INTERVAL_SECONDS": "1"}
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    with (
        Daemon(folders[0], None, **dict[str, Any](given)) as one,
        Daemon(folders[1], None, **dict[str, Any](given)) as two,
    ):
        for daemon in (one, two):
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                path = CONTAINER[probe]["httpGet"]["path"]
                wait_until(lambda: (daemon.get(path) or (0, ""))[0] == 200, path)  # noqa: B023
        wait_until(lambda: {one.value("reaper_leader"), two.value("reaper_leader")} == {0.0, 1.0}, "one leader")
        assert (one.ready[0], two.ready[0]) == (True, True)
        assert fetch(two.port, POD["metadata"]["annotations"]["prometheus.io/path"])[0] == 200
