"""Everything that the tests in this folder need. No other module of the folder imports the package or other tests.

Only the part under "The package from inside" knows how the package is built. The rest goes through public interfaces:
the `reaper` command, HTTP, and files.
"""

from __future__ import annotations

import contextlib
import http.client
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from unittest import mock

import click
import psycopg
from click.testing import CliRunner, Result
from pydantic import BaseModel

from tests.support.api import TOKEN, ApiDaemon, api_daemon, token_file
from tests.support.brokers import CeleryCluster
from tests.support.daemons import closed
from tests.support.protea import HOUR, MINUTE, Protea
from tests.support.terminals import interrupted as interrupted_at_terminal
from tests.support.worlds.postgresql import PostgreSQLDatabase

__all__ = [
    "HOUR",
    "MINUTE",
    "TOKEN",
    "ApiDaemon",
    "CeleryCluster",
    "PostgreSQLDatabase",
    "Protea",
    "api_daemon",
    "closed",
    "token_file",
]

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
AWAY = "postgresql://someone:geheim@127.0.0.1:1/nothing"
"""A database that cannot be reached."""

_SETTINGS = ("REAPER_", "PROTEA_TUNING", "CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "NOTIFY_SOCKET", "NO_COLOR")


def clean_environment(given: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, without any setting of the reaper but those that are given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    return {**kept, "COLUMNS": "100", "PYTHONPATH": str(PROJECT), **given}


# --- The command line ------------------------------------------------------------------------------------------------


@cache
def command_line() -> click.Group:
    """The command that the console script `reaper` runs."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["reaper"].partition(":")
    run: list[click.Command] = []
    with mock.patch.object(click.Command, "main", lambda self, *_, **__: run.append(self)):
        getattr(import_module(module), function)()
    [found] = run
    assert isinstance(found, click.Group)
    return found


@dataclass
class Reaper:
    """`reaper` in a folder of its own, with nothing configured but `given`."""

    folder: Path
    given: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, **given: str) -> Result:
        """Run a command in this process. An exception that no exit status stands for fails the test."""
        none = self.folder / "no-settings.toml"
        none.touch()
        settings = {"REAPER_CONFIG": str(none), "REAPER_RESTART_GRACE": "0", **self.given, **given}
        variables: dict[str, str | None] = {**dict.fromkeys(os.environ), **clean_environment(settings)}
        with contextlib.chdir(self.folder):
            result = CliRunner().invoke(command_line(), arguments, prog_name="reaper", env=variables)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    def document(self, *arguments: str, code: int | None = 0, **given: str) -> Any:
        """The JSON document that a command prints; it ends with this exit status, if one is given."""
        result = self(*arguments, "--json", **given)
        assert code in (None, result.exit_code), result.output
        return json.loads(result.stdout)

    def using(self, given: Mapping[str, str]) -> Reaper:
        """The same, with more variables."""
        return Reaper(self.folder, {**self.given, **given})

    def interrupted(self, question: str, *arguments: str) -> int:
        """The exit status of a command at whose terminal Ctrl-C is pressed when it asks the question."""
        status, _ = interrupted_at_terminal(self, question, *arguments)  # type: ignore[arg-type]
        return status


def run(*words: str, folder: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """A process of its own."""
    environment = clean_environment(given)
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


PROGRAM = Path(sys.executable).with_name("reaper")
"""The installed command."""


# --- Structure of documents ------------------------------------------------------------------------------------------

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MEASURED = re.compile(r"seconds|epoch|overdue|hours")
_IDENTIFIER = re.compile(r"[\w-]+( [a-z]+)?")
_WORDS = frozenset(
    (
        "action",
        "after",
        "before",
        "command",
        "event",
        "level",
        "outcome",
        "reason",
        "severity",
        "state",
        "status",
        "verdict",
    )
)
"""Members whose values come from a closed list that users compare with: the values are part of the contract."""


def structure(name: str, *documents: Any) -> list[str]:
    """A line for each member of documents of one kind, with every type that it has in them.

    A member that not every object has is marked with a question mark. Values are left out, but for those of `_WORDS`.
    """
    types: dict[str, set[str]] = {}
    objects: dict[str, int] = {}
    members: dict[str, int] = {}

    def walk(value: Any, path: str, key: str) -> None:
        types.setdefault(path, set()).add(_type(value, key))
        if isinstance(value, dict):
            objects[path] = objects.get(path, 0) + 1
            for inner, member in value.items():
                place = f"{path}.{inner}" if path else inner
                members[place] = members.get(place, 0) + 1
                walk(member, place, inner)
        elif isinstance(value, list):
            for member in value:
                walk(member, f"{path}[]", key)

    def optional(path: str) -> str:
        parent, _, _ = path.rpartition(".")
        return "?" if members.get(path, 0) < objects.get(parent, 0) and path in members else ""

    for document in documents:
        walk(document, "", "")
    return [
        f"{name}: {path or '(document)'}{optional(path)}: {' | '.join(sorted(found))}"
        for path, found in sorted(types.items())
    ]


def _type(value: Any, key: str) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() if key == "version":
            return str(value)
        case int():
            # A measured value may be whole by chance.
            return "number" if _MEASURED.search(key) else "integer"
        case float():
            return "number"
        case dict():
            return "object"
        case list():
            return "array"
        case str() if _UUID.fullmatch(value):
            return "uuid"
        case str() if _MOMENT.fullmatch(value):
            return "moment"
        case str() if key in _WORDS and _IDENTIFIER.fullmatch(value):
            return json.dumps(value)
        case _:
            return "string"


def flattened(value: Any, path: str = "") -> Iterator[str]:
    """A line for each scalar of a document, with its path. Lists of scalars stand on one line.

    Objects in a list are called by their `name`, where each has one.
    """
    if isinstance(value, dict) and value:
        for key, member in sorted(value.items()):
            yield from flattened(member, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(member, (dict, list)) for member in value):
        named = all(isinstance(member, dict) and "name" in member for member in value)
        for place, member in enumerate(value):
            yield from flattened(member, f"{path}[{member['name'] if named else place}]")
    else:
        yield f"{path} = {json.dumps(value, ensure_ascii=False)}"


def without(value: Any, dropped: Iterable[str], *, names: bool = False) -> Any:
    """The same document without the keys that hold prose. With `names`, the keys are names of the document's own."""
    if isinstance(value, dict):
        kept = value if names else {key: member for key, member in value.items() if key not in dropped}
        return {key: without(member, dropped, names=key == "properties" and not names) for key, member in kept.items()}
    return [without(member, dropped) for member in value] if isinstance(value, list) else value


def unordered(value: Any) -> Any:
    """The same document, with those lists sorted whose order means nothing in a JSON schema."""
    if isinstance(value, dict):
        found = {key: unordered(member) for key, member in value.items()}
        for key in ("required", "enum", "anyOf"):
            if isinstance(found.get(key), list):
                found[key] = sorted(found[key], key=json.dumps)
        return found
    return [unordered(member) for member in value] if isinstance(value, list) else value


# --- HTTP ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What came back for a request, whose `name` is its method and its path without values."""

    name: str
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def line(self) -> str:
        """Status, media type, and the headers that clients act on."""
        acted_on = [name for name in ("allow", "www-authenticate", "retry-after") if name in self.headers]
        shown = "".join(f", {name}: {self.headers[name]}" for name in acted_on)
        return f"{self.name}: {self.status} {self.media_type}{shown}"


def ask(port: int, method: str, path: str, body: object = None, *, name: str = "", **headers: str) -> Answer:
    """One request. Words in headers are separated by `_`."""
    sent = None if body is None else json.dumps(body).encode()
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    given |= {"Content-Type": "application/json"} if sent else {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, sent, given)
        answer = connection.getresponse()
        found = {key.lower(): value for key, value in answer.getheaders()}
        return Answer(f"{method} {name or path}", answer.status, found, answer.read().decode())
    finally:
        connection.close()


# --- Databases -------------------------------------------------------------------------------------------------------


def shipped_file(name: str) -> Path:
    """A file of the package, wherever it stands in it."""
    [found] = (PROJECT / "reaper").rglob(name)
    return found


def shipped_profiles() -> dict[str, dict[str, Any]]:
    """The profiles in the package, by name."""
    files = sorted((PROJECT / "reaper").rglob("*.toml"))
    tables = {path.stem: tomllib.loads(path.read_text()) for path in files}
    return {name: table for name, table in tables.items() if "jobs" in table}


def make_tables(url: str, *scripts: str) -> None:
    """Run SQL scripts of the package, and statements, in an empty database."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for script in scripts:
            text = shipped_file(script).read_text() if script.endswith(".sql") else script
            connection.execute(text.encode())


# --- Celery ----------------------------------------------------------------------------------------------------------


def celery_tasks() -> dict[str, Any]:
    """The public Celery tasks, by the names that beat and other programs send."""
    from celery import Task

    from reaper import celery_tasks as module

    found = [value for value in vars(module).values() if isinstance(value, Task)]
    return {task.name: task for task in found if task.name.startswith("reaper.")}


def parameters(function: Any) -> str:
    """Names and defaults, as a caller sees them."""
    found = inspect.signature(function).parameters.values()
    return ", ".join(f"{each.name}={each.default!r}" for each in found)


# --- The package from inside -----------------------------------------------------------------------------------------
# Whether the recorded TOML has every key there is can only be read from the models. When these move, change this part.


def settings_model() -> type[BaseModel]:
    """The configuration file as a whole."""
    from reaper.config.schema import RawSettings

    return RawSettings


def profile_model() -> type[BaseModel]:
    """A profile as a whole."""
    from reaper.profile.profile import Profile

    return Profile


@dataclass
class UsedVocabulary:
    """Which keys, and which words of closed lists, documents use, by the model that they belong to."""

    keys: set[tuple[str, str]] = field(default_factory=set)
    words: set[tuple[str, str, Any]] = field(default_factory=set)

    def see(self, value: Any) -> None:
        if isinstance(value, BaseModel):
            model = type(value)
            for name in value.model_fields_set:
                member = getattr(value, name)
                spelled = model.model_fields[name].alias or name
                self.keys.add((model.__name__, spelled))
                self.words |= {(model.__name__, spelled, word) for word in _scalars(member)}
                self.see(member)
        elif isinstance(value, Mapping):
            self.see(list(value.values()))
        elif isinstance(value, (list, tuple)):
            for member in value:
                self.see(member)


def _scalars(value: Any) -> set[Any]:
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else [value]
    return {word.value if isinstance(word, Enum) else word for word in values if isinstance(word, (str, Enum))}


def unused(model: type[BaseModel], used: UsedVocabulary, *, words_too: bool) -> list[str]:
    """Keys, and words of closed lists, that the model and the models in it know, and that were not used."""
    found = list[str]()
    for each in _models(model, set()):
        for name, described in each.model_fields.items():
            spelled = described.alias or name
            if (each.__name__, spelled) not in used.keys and (each, name) != (model, "name"):
                found.append(f"{each.__name__}: {spelled}")
            words = _words(described.annotation) if words_too else set()
            found += [
                f"{each.__name__}: {spelled} = {word!r}"
                for word in sorted(words)
                if (each.__name__, spelled, word) not in used.words
            ]
    return sorted(found)


def _models(annotation: Any, seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation not in seen:
            seen.add(annotation)
            yield annotation
            for described in annotation.model_fields.values():
                yield from _models(described.annotation, seen)
        return
    for argument in get_args(annotation):
        yield from _models(argument, seen)


def _words(annotation: Any) -> set[str]:
    """The words of a closed list that an annotation allows, itself or in a mapping's values."""
    if get_origin(annotation) is Literal:
        return {word for word in get_args(annotation) if isinstance(word, str)}
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return {str(member.value) for member in annotation}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return set()
    return {word for argument in get_args(annotation) for word in _words(argument)}


def setting_names() -> Sequence[str]:
    """Every setting that a variable of the environment can give."""
    from reaper.config.schema import SCALAR_SETTINGS

    return sorted(SCALAR_SETTINGS)
