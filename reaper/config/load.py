"""From what was given to the settings in force. Flags beat the environment, which beats the file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from reaper.config import broker_url
from reaper.config.file import ConfigFile, read
from reaper.config.layers import Layer, Stack, from_environment, from_flags, from_systemd, unknown_variables, validate
from reaper.config.schema import DaemonSettings
from reaper.config.secrets import Credentials
from reaper.config.settings import Settings
from reaper.config.sources import Sources
from reaper.config.url_lookup import UrlLookup
from reaper.errors import ConfigError


def load(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in force.

    `flags` are settings by their names, and `config`, the path of the file; None is a flag that was not given.
    A timeout or a stall window given as a flag is above every source's and kind's own.

    Raises ConfigError with everything that is wrong, one line each; no line holds a secret.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    problems = list(unknown_variables(environ))
    found = read(given.pop("config", None), environ, problems)
    credentials = Credentials.of(environ)
    layers = (
        from_flags(given),
        *from_environment(environ),
        from_systemd(environ, credentials),
        found or ConfigFile({}),
    )
    settings = _settled([validate(layer, problems) for layer in layers], credentials, found, problems)
    if problems:
        raise ConfigError(problems)
    return settings


def _settled(layers: list[Layer], credentials: Credentials, found: ConfigFile | None, problems: list[str]) -> Settings:
    flags, own, protea, _, file = layers
    stack = Stack.of(layers)
    databases = UrlLookup(stack, file, credentials, problems)
    brokers = UrlLookup(stack, file, credentials, problems, "broker_url", broker_url.normalise_broker_url)
    sources = Sources(stack, flags, file, databases, brokers, problems)
    problems += [
        *_contradictions(own, protea),
        *databases.said_twice(),
        *brokers.said_twice(),
        *credentials.unmatched(stack.given.sources),
    ]
    resolved = sources.resolve()
    names = {name: field.alias or name for name, field in DaemonSettings.model_fields.items()}
    return Settings(
        **{name: getattr(stack.given, name) for name in names},
        config_file=found.path if found else None,
        sources=resolved,
        origins={
            "config": found.named_by if found else "default",
            **{spelled: stack.origin(spelled) for spelled in names.values()},
            **sources.origins,
        },
    )


def _contradictions(own: Layer, protea: Layer) -> Iterator[str]:
    """A line for each threshold that two variables give differently: neither is above the other."""
    for name in own.values.keys() & protea.values.keys():
        if getattr(own.given, name) != getattr(protea.given, name):
            yield (
                f"{own.origin((name,))} and {protea.origin((name,))} mean the same threshold and differ; "
                "give one of them"
            )
