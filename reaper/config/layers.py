"""Layers of settings: flags, the environment, systemd and the file (`file`), each checked, and merged by precedence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource

from reaper.common.suggestions import did_you_mean, nearest
from reaper.config.error_messages import problems_by_key
from reaper.config.schema import RENAMED_SETTINGS, SCALAR_SETTINGS, KeyPath, RawSettings, field_names
from reaper.config.secret_files import TOKEN_CREDENTIAL, URL_SETTINGS, Credentials
from reaper.errors import ConfigError

CONFIG_VARIABLE = "REAPER_CONFIG"
_STATE_VARIABLE = "STATE_DIRECTORY"
_PREFIX = "REAPER_"
_VARIABLES = {f"{_PREFIX}{name.upper()}": name for name in SCALAR_SETTINGS}
# The names that protea's own manual gives its operators. Other names that begin so are meant for us, and wrong.
_PROTEA_PREFIX = "PROTEA_TUNING__WORKER__REAPER_"
_PROTEA_VARIABLES = {
    f"{_PROTEA_PREFIX}MAIN_TIMEOUT_SECONDS": "timeout_seconds",
    f"{_PROTEA_PREFIX}STALL_SECONDS": "stall_seconds",
}
# What follows the prefix, whole and without its first or last word: a wrong name is often a part of the right one.
_PROTEA_PARTS = {
    **dict.fromkeys(("MAIN_TIMEOUT_SECONDS", "TIMEOUT_SECONDS", "MAIN_TIMEOUT", "TIMEOUT"), "MAIN_TIMEOUT_SECONDS"),
    **dict.fromkeys(("STALL_SECONDS", "STALL"), "STALL_SECONDS"),
}
# Kubernetes sets these in every pod for a Service called "reaper" or "reaper-…". They are not settings.
_SERVICE_LINK = re.compile(
    r"REAPER_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://")
_MOST_PROBLEMS = 1000
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?P<fraction>\.[0-9]{1,20})?")
_SWITCHES = {"true": True, "false": False}


@dataclass(frozen=True)
class Layer:
    """Values from one place, by their names in the file. `origins` are the flags or variables that gave them.

    After `validate`, `settings` are the valid values, and `invalid` the keys of those that were refused.
    """

    values: Mapping[str, Any]
    origins: Mapping[str, str] = field(default_factory=dict)
    settings: RawSettings = field(default_factory=RawSettings)
    invalid: frozenset[KeyPath] = frozenset()

    def origin(self, key: Sequence[str]) -> str:
        """Where a value of this layer was set, for people."""
        return self.origins[key[0]]

    def line(self, key: Sequence[str]) -> int:  # noqa: ARG002
        """The line of a value in the file; 0 in the other layers."""
        return 0

    def problem(self, key: Sequence[str], message: str) -> str:
        """One line that says where a value was set, and what is wrong with it."""
        return f"{self.origin(key)}: {message}"


def from_flags(flags: Mapping[str, object]) -> Layer:
    """The layer of flags. `--older-than` is the timeout of one sweep; other flags are named as their settings."""
    values = {name: _typed(name, value) for name, value in flags.items() if value is not None}
    origins = {name: f"--{name.replace('_', '-')}" for name in values}
    return Layer(values, origins | {"timeout_seconds": "--older-than"})


def from_environment(environ: Mapping[str, str]) -> tuple[Layer, Layer]:
    """The layer of `REAPER_` variables, and the one of protea's two. An empty variable counts as not set."""
    return _from_variables(environ, _VARIABLES), _from_variables(environ, _PROTEA_VARIABLES)


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """A line for each `REAPER_` variable that is not a setting, and for each of protea's that is not one of its two."""
    yield from _unknown_protea_variables(environ)
    valid = {*_VARIABLES, CONFIG_VARIABLE}
    for name, value in environ.items():
        if not name.startswith(_PREFIX) or name in valid or not value.strip():
            continue
        is_service_link = _SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_URL.match(value))
        if not is_service_link:
            # Compared without the prefix, which makes any two of the names look alike.
            near = nearest(name.removeprefix(_PREFIX), (other.removeprefix(_PREFIX) for other in valid))
            yield f"{name}: unknown variable{did_you_mean(f'{_PREFIX}{near}' if near else '', valid)}"


def _unknown_protea_variables(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in environ.items():
        # Protea itself reads them in any case.
        if not name.upper().startswith(_PROTEA_PREFIX) or name in _PROTEA_VARIABLES or not value.strip():
            continue
        near = nearest(name[len(_PROTEA_PREFIX) :], _PROTEA_PARTS)
        hint = f"{_PROTEA_PREFIX}{_PROTEA_PARTS[near]}" if near else ""
        yield f"{name}: unknown variable{did_you_mean(hint, _PROTEA_VARIABLES)}"


def from_systemd(environ: Mapping[str, str], credentials: Credentials) -> Layer:
    """The layer of systemd: the credentials that serve all sources, and the state directory."""
    names = (*URL_SETTINGS, TOKEN_CREDENTIAL)
    given: dict[str, object] = {f"{name}_file": credentials.path(name) for name in names}
    origins = {f"{name}_file": f"credential {name}" for name in names}
    # A unit may have several state directories, joined by colons. The first is used.
    given["state_dir"] = environ.get(_STATE_VARIABLE, "").partition(":")[0] or None
    values = {name: value for name, value in given.items() if value is not None}
    return Layer(values, origins | {"state_dir": _STATE_VARIABLE})


def _from_variables(environ: Mapping[str, str], settings: Mapping[str, str]) -> Layer:
    texts = {variable: environ.get(variable, "").strip() for variable in settings}
    return Layer(
        {settings[variable]: _typed(settings[variable], text) for variable, text in texts.items() if text},
        {name: variable for variable, name in settings.items()},
    )


def _typed(name: str, value: object) -> object:
    """A text as the type that it would have in a file, so that one set of checks serves all layers."""
    if not isinstance(value, str):
        return value
    if name in URL_SETTINGS:
        return SecretStr(value)
    kind = field_names(RawSettings).get(RENAMED_SETTINGS.get(name, name))
    if kind in (int, float) and (number := _NUMBER.fullmatch(value.strip())):
        return float(value) if number["fraction"] else int(value)
    if kind is bool:
        return _SWITCHES.get(value.strip().casefold(), value)
    if kind == tuple[str, ...]:
        return value.split(",")
    return value


def validate(layer: Layer, problems: list[str]) -> Layer:
    """The layer without its invalid values, each of which adds a line to `problems`.

    A value is checked even where a layer with precedence hides it.

    Raises ConfigError at once where so much is wrong that the file is something else than a configuration.
    """
    try:
        return replace(layer, settings=merge(layer))
    except ValidationError as error:
        if (count := error.error_count()) > _MOST_PROBLEMS:
            key, message = next(problems_by_key(error))
            more = f"and {count - 1} more problems, so this is probably not a configuration of the reaper"
            raise ConfigError([f"{layer.problem(key, message)} ({more})"]) from None
        messages = dict(sorted(problems_by_key(error), key=lambda problem: layer.line(problem[0])))
    problems += [layer.problem(key, message) for key, message in messages.items()]
    values = dict(layer.values)
    for key in messages:
        values = _without(values, key)
    valid = replace(layer, values=values, invalid=frozenset(messages))
    return replace(valid, settings=merge(valid))


def _without(table: Mapping[str, Any], key: Sequence[str]) -> dict[str, Any]:
    head, *rest = key
    if rest and isinstance(inner := table.get(head), Mapping):
        return {**table, head: _without(inner, rest)}
    return {name: value for name, value in table.items() if name != head}


class _LayeredSettings(RawSettings):
    """Settings that pydantic reads from the layers in `_layers`.

    Layers are given as pydantic's sources. As keyword arguments, a file could name BaseSettings' own switches
    (`_env_file`). A class for each reading would cost 6 ms every time.
    """

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *_: object, **__: object
    ) -> tuple[InitSettingsSource, ...]:
        return tuple(InitSettingsSource(settings_cls, dict(layer.values)) for layer in _layers.get())


_layers: ContextVar[tuple[Layer, ...]] = ContextVar("layers to merge")


def merge(*layers: Layer) -> RawSettings:
    """The settings of several layers; the first layer has precedence. Raises pydantic's ValidationError."""
    token = _layers.set(layers)
    try:
        return _LayeredSettings()
    finally:
        _layers.reset(token)


@dataclass(frozen=True)
class LayerStack:
    """Validated layers, the one with precedence first, and their settings together."""

    layers: tuple[Layer, ...]
    settings: RawSettings

    @classmethod
    def of(cls, layers: Sequence[Layer]) -> LayerStack:
        return cls(tuple(layers), merge(*layers))

    def origin(self, name: str) -> str:
        """Where the value of a setting was set."""
        return next((layer.origin((name,)) for layer in self.layers if name in layer.values), "default")
