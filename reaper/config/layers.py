"""Where values come from: flags, the environment, a credential. The file is a layer too (`file`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource

from reaper.common.suggestions import did_you_mean, nearest
from reaper.config.error_messages import findings
from reaper.config.schema import SCALAR_SETTINGS, RawSettings, field_names
from reaper.config.secrets import SECRETS, TOKENS, Credentials
from reaper.config.toml_lines import KeyPath

CONFIG_VARIABLE = "REAPER_CONFIG"
_STATE = "STATE_DIRECTORY"
_PREFIX = "REAPER_"
_VARIABLES = {f"{_PREFIX}{name.upper()}": name for name in SCALAR_SETTINGS}
# What protea's own manual tells its operators to set.
_PROTEA = {
    "PROTEA_TUNING__WORKER__REAPER_MAIN_TIMEOUT_SECONDS": "timeout_seconds",
    "PROTEA_TUNING__WORKER__REAPER_STALL_SECONDS": "stall_seconds",
}
# Kubernetes gives every pod these for a Service called "reaper" or "reaper-…"; nobody set them on purpose.
_SERVICE_LINK = re.compile(
    r"REAPER_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_URL = re.compile(r"(?:tcp|udp|sctp)://")
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?P<fraction>\.[0-9]{1,20})?")
_SWITCHES = {"true": True, "false": False}


@dataclass(frozen=True)
class Layer:
    """Values from one place, by their names in the file.

    Once checked, `given` is what they mean, and `refused` are those that were wrong, and told.
    """

    values: Mapping[str, Any]
    spelled: Mapping[str, str] = field(default_factory=dict)
    given: RawSettings = field(default_factory=RawSettings)
    refused: frozenset[KeyPath] = frozenset()

    def origin(self, place: Sequence[str]) -> str:
        """Where a value of this layer stands, for people."""
        return self.spelled[place[0]]

    def line(self, place: Sequence[str]) -> int:  # noqa: ARG002
        """The line of a value, where there are lines."""
        return 0

    def problem(self, place: Sequence[str], message: str) -> str:
        """One line that says where, and what is wrong there."""
        return f"{self.origin(place)}: {message}"


def from_flags(flags: Mapping[str, object]) -> Layer:
    """`--older-than` is the timeout of one sweep; any other flag is called as its setting."""
    values = {name: _typed(name, value) for name, value in flags.items() if value is not None}
    spelled = {name: f"--{name.replace('_', '-')}" for name in values}
    return Layer(values, spelled | {"timeout_seconds": "--older-than"})


def from_environment(environ: Mapping[str, str]) -> tuple[Layer, Layer]:
    """This daemon's own variables, and protea's names for two of them. An empty variable is none."""
    return _variables(environ, _VARIABLES), _variables(environ, _PROTEA)


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable that looks like a setting and is none."""
    known = {*_VARIABLES, CONFIG_VARIABLE}
    for name, value in environ.items():
        if not name.startswith(_PREFIX) or name in known or not value.strip():
            continue
        linked = _SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and _SERVICE_URL.match(value))
        if not linked:
            # Without the prefix that all share: it makes any two of them look alike.
            near = nearest(name.removeprefix(_PREFIX), (other.removeprefix(_PREFIX) for other in known))
            yield f"{name}: unknown variable{did_you_mean(f'{_PREFIX}{near}' if near else '', known)}"


def from_systemd(environ: Mapping[str, str], credentials: Credentials) -> Layer:
    """The credentials that serve every source without one of its own, and the directory for what is to last."""
    secrets = (*SECRETS, TOKENS)
    found: dict[str, object] = {f"{secret}_file": credentials.path(secret) for secret in secrets}
    spelled = {f"{secret}_file": f"credential {secret}" for secret in secrets}
    # Several are joined by colons; the first is as good as any other.
    found["state_dir"] = environ.get(_STATE, "").partition(":")[0] or None
    values = {name: value for name, value in found.items() if value is not None}
    return Layer(values, spelled | {"state_dir": _STATE})


def _variables(environ: Mapping[str, str], known: Mapping[str, str]) -> Layer:
    given = {variable: environ.get(variable, "").strip() for variable in known}
    return Layer(
        {known[variable]: _typed(known[variable], text) for variable, text in given.items() if text},
        {name: variable for variable, name in known.items()},
    )


def _typed(name: str, value: object) -> object:
    """Text as the type that a file would give it: the checks are the same for both."""
    if not isinstance(value, str):
        return value
    if name in SECRETS:
        return SecretStr(value)
    kind = field_names(RawSettings).get(name)
    if kind in (int, float) and (number := _NUMBER.fullmatch(value.strip())):
        return float(value) if number["fraction"] else int(value)
    if kind is bool:
        return _SWITCHES.get(value.strip().casefold(), value)
    if kind == tuple[str, ...]:
        return value.split(",")
    return value


def validate(layer: Layer, problems: list[str]) -> Layer:
    """The layer without what is wrong in it, which is told. A value is checked even if a higher one hides it."""
    try:
        return replace(layer, given=merge(layer))
    except ValidationError as error:
        refused = dict(sorted(findings(error), key=lambda finding: layer.line(finding[0])))
    problems += [layer.problem(place, message) for place, message in refused.items()]
    values = dict(layer.values)
    for place in refused:
        values = _without(values, place)
    sound = replace(layer, values=values, refused=frozenset(refused))
    return replace(sound, given=merge(sound))


def _without(table: Mapping[str, Any], place: Sequence[str]) -> dict[str, Any]:
    head, *rest = place
    if rest and isinstance(inside := table.get(head), Mapping):
        return {**table, head: _without(inside, rest)}
    return {key: value for key, value in table.items() if key != head}


class _Layered(RawSettings):
    """Reads the layers of `_reading`.

    They are handed over as sources, never as keyword arguments: among those, BaseSettings has switches of its own
    (`_env_file`), which a file must not be able to name. Nor as a class for each reading: one takes 6 ms to make.
    """

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *_: object, **__: object
    ) -> tuple[InitSettingsSource, ...]:
        return tuple(InitSettingsSource(settings_cls, dict(layer.values)) for layer in _reading.get())


_reading: ContextVar[tuple[Layer, ...]] = ContextVar("layers that are read")


def merge(*layers: Layer) -> RawSettings:
    """What layers give, the first being the strongest. Raises pydantic's ValidationError."""
    before = _reading.set(layers)
    try:
        return _Layered()
    finally:
        _reading.reset(before)


@dataclass(frozen=True)
class Stack:
    """Layers that have been checked, the strongest first, and what they give together."""

    layers: tuple[Layer, ...]
    given: RawSettings

    @classmethod
    def of(cls, layers: Sequence[Layer]) -> Stack:
        return cls(tuple(layers), merge(*layers))

    def origin(self, name: str) -> str:
        """Where the value of a setting came from."""
        return next((layer.origin((name,)) for layer in self.layers if name in layer.values), "default")
