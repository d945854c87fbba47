"""Reads flags, environment, credentials and file into the settings in force, or raises everything that is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from reaper.config.file import ConfigFile, read
from reaper.config.layers import (
    Layer,
    LayerStack,
    from_environment,
    from_flags,
    from_systemd,
    unknown_variables,
    validate,
)
from reaper.config.schema import SCALAR_SETTINGS, DaemonSettings
from reaper.config.secret_files import Credentials
from reaper.config.settings import DatabaseSettings, HiddenValue, Settings
from reaper.config.sources import SourceResolver
from reaper.config.url_lookup import UrlLookup
from reaper.config.urls import normalise_broker_url, normalise_database_url
from reaper.config.vuls_variables import BorrowedUrls
from reaper.errors import ConfigError


def load(flags: Mapping[str, object] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings in force.

    `flags` are settings by their names, and `config`, the path of the file; None is a flag that was not given.
    A timeout or a stall window given as a flag has precedence over those of sources and kinds.

    Raises ConfigError with one line for each thing that is wrong. No line contains a secret.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    problems = list(unknown_variables(environ))
    file = read(given.pop("config", None), environ, problems)
    credentials = Credentials.of(environ)
    layers = (
        from_flags(given),
        *from_environment(environ),
        from_systemd(environ, credentials),
        file or ConfigFile({}),
    )
    validated = [validate(layer, problems) for layer in layers]
    settings = _resolve(validated, credentials, file, BorrowedUrls(environ, problems), problems)
    if problems:
        raise ConfigError(problems)
    return settings


def load_database(url: str | None, environ: Mapping[str, str]) -> DatabaseSettings:
    """The database that a flag, the environment or a credential gives, without any file of settings.

    Raises ConfigError as `load` does, also where no database is given.
    """
    problems, credentials = list[str](), Credentials.of(environ)
    given = (
        from_flags({} if url is None else {"database_url": url}),
        *from_environment(environ),
        from_systemd(environ, credentials),
    )
    layers = [validate(layer, problems) for layer in given]
    stack, no_file = LayerStack.of(layers), validate(ConfigFile({}), problems)
    lookup = UrlLookup("database_url", normalise_database_url, stack, no_file, credentials, problems)
    brokers = UrlLookup("broker_url", normalise_broker_url, stack, no_file, credentials, problems)
    problems += lookup.ambiguities()
    database, broker = lookup.shared, brokers.shared or BorrowedUrls(environ, problems).broker()
    if database is None and not problems:
        problems.append("no database is given: give --database-url, REAPER_DATABASE_URL or REAPER_DATABASE_URL_FILE")
    if problems or database is None or database.url is None:
        raise ConfigError(problems)
    settings = stack.settings
    return DatabaseSettings(
        database.url,
        database.origin,
        settings.database_url_file if settings.database_url is None else None,
        broker is not None,
        settings.connect_timeout_seconds,
    )


def _resolve(
    layers: list[Layer],
    credentials: Credentials,
    config_file: ConfigFile | None,
    borrowed: BorrowedUrls,
    problems: list[str],
) -> Settings:
    flags, own, protea, _, file = layers
    stack = LayerStack.of(layers)
    databases = UrlLookup("database_url", normalise_database_url, stack, file, credentials, problems)
    brokers = UrlLookup("broker_url", normalise_broker_url, stack, file, credentials, problems)
    sources = SourceResolver(stack, flags, file, databases, brokers, borrowed, problems)
    problems += [
        *_contradicting_variables(own, protea),
        *databases.ambiguities(),
        *brokers.ambiguities(),
        *credentials.problems(stack.settings.sources),
    ]
    resolved = sources.resolve()
    spellings = {name: field.alias or name for name, field in DaemonSettings.model_fields.items()}
    return Settings(
        **{name: getattr(stack.settings, name) for name in spellings},
        config_file=config_file.path if config_file else None,
        sources=resolved,
        notes=(*borrowed.notes, *sources.notes),
        without_sources=sources.without_sources,
        hidden=_hidden(stack, file),
        origins={
            "config": config_file.named_by if config_file else "default",
            **{spelling: stack.origin(spelling) for spelling in spellings.values()},
            **sources.origins,
        },
    )


def _hidden(stack: LayerStack, file: Layer) -> dict[str, HiddenValue]:
    """The scalar values of the file that another layer hides."""
    found = {}
    for name in file.values.keys() & SCALAR_SETTINGS:
        # A URL and the file with it are two ways to say one thing.
        same = (name, f"{name}_file", name.removesuffix("_file"))
        above = ((layer, key) for layer in stack.layers[:-1] for key in same if key in layer.values)
        if (hiding := next(above, None)) is not None:
            found[name] = HiddenValue(file.origin((name,)), hiding[0].origin((hiding[1],)), file.values[name])
    return found


def _contradicting_variables(own: Layer, protea: Layer) -> Iterator[str]:
    """A line for each threshold that is set differently by two variables, neither of which has precedence."""
    for name in own.values.keys() & protea.values.keys():
        if getattr(own.settings, name) != getattr(protea.settings, name):
            yield (
                f"{own.origin((name,))} and {protea.origin((name,))} mean the same threshold and differ; "
                "give one of them"
            )
