"""What a single value may be. Every refusal says what was expected, and shows no secret."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable
from pathlib import Path

from pydantic import AfterValidator, BeforeValidator, SecretStr

from reaper.common.durations import parse_duration
from reaper.common.suggestions import did_you_mean
from reaper.config import broker_url as broker
from reaper.config import cron as crontab
from reaper.config.database_url import normalise_database_url


def shown(value: object) -> str:
    """A wrong value for a message. One that looks like a database's address, in the wrong place, is not shown."""
    text = str(value)
    if "://" in text or "password" in text.casefold():
        return "an address"
    return repr(text if len(text) <= 40 else f"{text[:37]}...") if isinstance(value, (str, Path)) else text[:40]


def seconds(low: str, high: str) -> BeforeValidator:
    """A duration from `low` to `high`; a `low` of "0<" excludes only zero itself."""
    expected = f"expected a duration {'above 0 and up to' if low == '0<' else f'from {low} to'} {high}"
    least, most = parse_duration(low.removesuffix("<")), parse_duration(high)

    def check(value: object) -> float:
        if isinstance(value, str):
            try:
                number = parse_duration(value)
            except ValueError as error:
                raise ValueError(f"{error}, not {shown(value)}") from None
        else:
            number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
        if not least <= number <= most or (low == "0<" and number == 0):  # NaN is never between
            raise ValueError(f"{expected}, not {shown(value)}")
        return float(number)

    return BeforeValidator(check)


def whole(low: int, high: int) -> BeforeValidator:
    """A whole number from `low` to `high`."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}, not {shown(value)}")
        return value

    return BeforeValidator(check)


def share() -> BeforeValidator:
    """A fraction above 0 and up to 1."""

    def check(value: object) -> float:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= 1:
            raise ValueError(f"expected a number above 0 and up to 1, not {shown(value)}")
        return float(value)

    return BeforeValidator(check)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected text, not {shown(value)}")
    return value.strip()


def text() -> BeforeValidator:
    """Text that says something."""
    return BeforeValidator(_text)


def _name(value: object) -> str:
    name = _text(value)
    if "://" in name:
        raise ValueError("expected a name, not an address")
    return name


def name() -> BeforeValidator:
    """The name of something, which an address is not."""
    return BeforeValidator(_name)


def names() -> BeforeValidator:
    """A list of at least one name."""

    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError(f'expected a list of names, such as ["celery", "mail"], not {shown(value)}')
        return tuple(_name(each) for each in value)

    return BeforeValidator(check)


def switch() -> BeforeValidator:
    """On or off."""

    def check(value: object) -> bool:
        if isinstance(value, bool):
            return value
        raise ValueError(f"expected true or false, not {shown(value)}")

    return BeforeValidator(check)


def cron() -> BeforeValidator:
    """A cron expression of five fields, with the meaning of crontab(5)."""
    return BeforeValidator(lambda value: crontab.normalise_cron(_text(value)))


def choice(*names: str) -> BeforeValidator:
    """One of `names`, in any case."""

    def check(value: object) -> str:
        name = _text(value).casefold()
        if name not in names:
            raise ValueError(f"{shown(value)} is unknown{did_you_mean(name, names)}")
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
            raise ValueError(f"expected a host name or an IP address, without a port, not {shown(value)}") from None
    return name


def host() -> BeforeValidator:
    """A name or an address to listen on, without a port."""
    return BeforeValidator(_host)


def hosts() -> BeforeValidator:
    """A list of host names or addresses, without ports."""

    def check(value: object) -> tuple[str, ...]:
        if isinstance(value, (list, tuple)):
            return tuple(_host(each).casefold() for each in value)
        raise ValueError(f'expected a list of host names, such as ["reaper.example.org"], not {shown(value)}')

    return BeforeValidator(check)


def source_name() -> AfterValidator:
    """A name that can stand in a metric's label, on a command line and in a credential's file name."""

    def check(value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", value):
            raise ValueError("expected a source's name of letters, digits, '_', '-' and '.', up to 63 of them")
        return value

    return AfterValidator(check)


def _secret(value: object, normal: Callable[[str], str]) -> SecretStr:
    secret = value.get_secret_value() if isinstance(value, SecretStr) else value
    return SecretStr(normal(secret if isinstance(secret, str) else ""))


def database_url() -> BeforeValidator:
    """A PostgreSQL URL, as SQLAlchemy takes it."""
    return BeforeValidator(lambda value: _secret(value, normalise_database_url))


def broker_url() -> BeforeValidator:
    """A broker's URL, as Celery takes it."""
    return BeforeValidator(lambda value: _secret(value, broker.normalise_broker_url))
