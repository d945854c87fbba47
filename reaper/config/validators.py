"""Validators of single values. Each error says what was expected, and contains no secret."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import AfterValidator, BeforeValidator, SecretStr

from reaper.common.durations import DurationRange, parse_duration
from reaper.common.rates import parse_rate
from reaper.common.suggestions import did_you_mean
from reaper.common.time_zones import zone_name
from reaper.common.weekly_times import WeeklyTime, leaves_time, parse_weekly_time
from reaper.config.cron import normalise_cron
from reaper.config.urls import normalise_broker_url, normalise_database_url

_LONGEST_PATTERN = 200


def quote(value: object) -> str:
    """A wrong value for a message, cut to 40 characters. A URL in the wrong place may contain a password: not shown."""
    text = str(value)
    if "://" in text or "password" in text.casefold():
        return "an address"
    return repr(text if len(text) <= 40 else f"{text[:37]}...") if isinstance(value, (str, Path)) else text[:40]


def seconds(low: str, high: str) -> BeforeValidator:
    """A duration from `low` to `high`; a `low` of "0<" excludes only zero itself."""
    return duration(DurationRange(low, high))


def duration(within: DurationRange) -> BeforeValidator:
    """A duration of this range."""

    def check(value: object) -> float:
        if isinstance(value, str):
            try:
                number = parse_duration(value)
            except ValueError as error:
                raise ValueError(f"{error}, not {quote(value)}") from None
        else:
            number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
        if not within.holds(number):
            raise ValueError(f"{within.expected}, not {quote(value)}")
        return float(number)

    return BeforeValidator(check)


def time_zone() -> BeforeValidator:
    """The name of a time zone, or an offset from UTC."""
    return BeforeValidator(lambda value: zone_name(value, quote))


def whole(low: int, high: int) -> BeforeValidator:
    """A whole number from `low` to `high`."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}, not {quote(value)}")
        return value

    return BeforeValidator(check)


def share() -> BeforeValidator:
    """A fraction above 0 and up to 1."""

    def check(value: object) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= 1:
            raise ValueError(f"expected a number above 0 and up to 1, not {quote(value)}")
        return float(value)

    return BeforeValidator(check)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected text, not {quote(value)}")
    return value.strip()


def text() -> BeforeValidator:
    """Text that is not blank."""
    return BeforeValidator(_text)


def _name(value: object) -> str:
    name = _text(value)
    if "://" in name:
        raise ValueError("expected a name, not an address")
    return name


def name() -> BeforeValidator:
    """A name. An address is refused."""
    return BeforeValidator(_name)


def names() -> BeforeValidator:
    """A list of at least one name."""

    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError(f'expected a list of names, such as ["celery", "mail"], not {quote(value)}')
        return tuple(_name(item) for item in value)

    return BeforeValidator(check)


def schemas() -> BeforeValidator:
    """A list of schemas, each written as the database has it. It may be empty."""

    def check(value: object) -> tuple[str, ...]:
        good = isinstance(value, (list, tuple)) and all(isinstance(item, str) and item for item in value)
        if not good or not isinstance(value, (list, tuple)) or any("\0" in item for item in value):
            raise ValueError(f'expected a list of schemas, such as ["app"], not {quote(value)}')
        return tuple(value)

    return BeforeValidator(check)


def switch() -> BeforeValidator:
    """true or false."""

    def check(value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise ValueError(f"expected true or false, not {quote(value)}")

    return BeforeValidator(check)


def kind_patterns() -> BeforeValidator:
    """Kinds that are never ended: tables with a pattern, such as `{ kind = "migrate_*" }`; of a variable, patterns."""
    expected = 'expected a list of tables, such as [{ kind = "migrate_*" }]'

    def pattern(item: object) -> str:
        text = item.get("kind") if isinstance(item, Mapping) else item
        if isinstance(item, Mapping) and (unknown := next((name for name in item if name != "kind"), None)) is not None:
            raise ValueError(f"{expected}: {quote(unknown)} is unknown{did_you_mean(str(unknown), ['kind'])}")
        if not isinstance(text, str) or not text.strip() or "\0" in text or len(text) > _LONGEST_PATTERN:
            raise ValueError(f"{expected} with a kind of 1 to {_LONGEST_PATTERN} characters, not {quote(text)}")
        return _name(text)

    def check(value: object) -> tuple[str, ...]:
        if isinstance(value, (list, tuple)):
            return tuple(dict.fromkeys(map(pattern, value)))
        raise ValueError(f"{expected}, not {quote(value)}")

    return BeforeValidator(check)


def weekly_times() -> BeforeValidator:
    """A time of the week, or a list of them; of a variable, several are joined by `;`."""

    def check(value: object) -> tuple[WeeklyTime, ...]:
        given = value.split(";") if isinstance(value, str) else value
        if not isinstance(given, (list, tuple)):
            given = [value]  # which is no time, and refused as such
        times = tuple(parse_weekly_time(one, quote) for one in given)
        if not leaves_time(times):
            raise ValueError("leaves less than an hour of a week in which jobs can be ended; `reaper halt` ends none")
        return times

    return BeforeValidator(check)


def rate() -> BeforeValidator:
    """A number of jobs in a time, such as 50 in 10m."""
    return BeforeValidator(lambda value: parse_rate(value, quote))


def cron() -> BeforeValidator:
    """A cron expression of five fields, with the meaning of crontab(5)."""
    return BeforeValidator(lambda value: normalise_cron(_text(value)))


def choice(*names: str) -> BeforeValidator:
    """One of `names`, in any case."""

    def check(value: object) -> str:
        name = _text(value).casefold()
        if name not in names:
            raise ValueError(f"{quote(value)} is unknown{did_you_mean(name, names)}")
        return name

    return BeforeValidator(check)


def path() -> BeforeValidator:
    """The path of a file, relative to the working directory."""

    def check(value: object) -> Path:
        name = str(value) if isinstance(value, Path) else _text(value)
        if "://" in name or "\0" in name:
            raise ValueError("expected the path of a file, not an address")
        return Path(name)

    return BeforeValidator(check)


_HOST = re.compile(r"(?![0-9.]+$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def _host(value: object) -> str:
    name = _text(value)
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        if not _HOST.fullmatch(name):
            raise ValueError(f"expected a host name or an IP address, without a port, not {quote(value)}") from None
    return name


def host() -> BeforeValidator:
    """A host name or an IP address to listen on, without a port."""
    return BeforeValidator(_host)


def hosts() -> BeforeValidator:
    """A list of host names or addresses, without ports."""

    def check(value: object) -> tuple[str, ...]:
        if isinstance(value, (list, tuple)):
            return tuple(_host(item).casefold() for item in value)
        raise ValueError(f'expected a list of host names, such as ["reaper.example.org"], not {quote(value)}')

    return BeforeValidator(check)


def source_name() -> AfterValidator:
    """A source's name: fit for a metric's label, a command line and the file name of a credential."""

    def check(value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", value):
            raise ValueError("expected a source's name of letters, digits, '_', '-' and '.', up to 63 of them")
        return value

    return AfterValidator(check)


def tables_or_empty_array() -> BeforeValidator:
    """The tables `[sources.NAME]`. An empty array says that there are none on purpose."""

    def check(value: object) -> object:
        if isinstance(value, list):
            if value:
                raise ValueError("expected tables [sources.NAME], or the empty array [] for no source at all")
            return {}
        return value

    return BeforeValidator(check)


def _secret(value: object, normal: Callable[[str], str]) -> SecretStr:
    secret = value.get_secret_value() if isinstance(value, SecretStr) else value
    return SecretStr(normal(secret if isinstance(secret, str) else ""))


def database_url() -> BeforeValidator:
    """The URL of a PostgreSQL or MariaDB database."""
    return BeforeValidator(lambda value: _secret(value, normalise_database_url))


def broker_url() -> BeforeValidator:
    """The URL of a Celery broker, or several joined by `;`."""
    return BeforeValidator(lambda value: _secret(value, normalise_broker_url))
