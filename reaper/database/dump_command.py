"""The command with which a person keeps a copy of some tables: `pg_dump` or `mariadb-dump`, without a password."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import URL

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


def dump_command(url: URL, tables: Iterable[str], file: str) -> str:
    """A shell command that writes these tables to the file. It asks for the password, if the server wants one."""
    if url.get_backend_name() == "postgresql":
        host, port = url.host or _parameter(url, "host"), url.port or _parameter(url, "port")
        server = _options({"-h": host, "-p": port, "-U": url.username, "-d": url.database})
        words = ["pg_dump", *server, *(word for table in tables for word in ("-t", _pattern(table)))]
    else:
        server = _options({"-h": url.host, "-P": url.port, "-u": url.username})
        words = ["mariadb-dump", *server, "-p", url.database or "", *tables]
    return f"{shlex.join(words)} > {shlex.quote(file)}"


def _options(values: Mapping[str, object]) -> Iterator[str]:
    for option, value in values.items():
        if value is not None:
            yield from (option, str(value))


def _parameter(url: URL, name: str) -> str | None:
    """A parameter of a PostgreSQL URL. Several hosts are joined by commas, as pg_dump takes them."""
    value = url.query.get(name)
    return ",".join(value) if isinstance(value, tuple) else value


def _pattern(table: str) -> str:
    """pg_dump folds a name to small letters unless it is quoted."""
    return ".".join(part if _PLAIN_NAME.fullmatch(part) else f'"{part}"' for part in table.split("."))
