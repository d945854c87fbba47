"""What may follow the ? of a MariaDB URL: where its socket is, and TLS, as SQLAlchemy hands it to the driver.

The rest of what the driver takes is the reaper's business: time limits, character set, SQL mode.
No message repeats a part of the URL: a name is told by its position, a value by what was expected.
"""

from __future__ import annotations

from reaper.common.suggestions import nearest
from reaper.config.postgresql_parameters import pairs_of

_SWITCHES = frozenset({"ssl_check_hostname"})
_KNOWN = frozenset({"unix_socket", "ssl_ca", "ssl_capath", "ssl_cert", "ssl_cipher", "ssl_key"}) | _SWITCHES


def check_mariadb_parameters(query: str) -> None:
    """Raises ValueError for what the driver would refuse, or take for something else than was meant."""
    seen = set[str]()
    for position, (name, value) in enumerate(pairs_of(query), start=1):
        if name not in _KNOWN:
            near = nearest(name, _KNOWN)
            hint = f"; did you mean {near!r}?" if near else f"; expected one of: {', '.join(sorted(_KNOWN))}"
            raise ValueError(f"parameter {position} after the ? of the URL is not known for MariaDB{hint}")
        if name in seen:
            raise ValueError(f"{name} is given more than once after the ? of the URL")
        seen.add(name)
        if name in _SWITCHES and value not in ("true", "false"):
            raise ValueError(f"{name} in the URL: expected one of: true, false")
        if not value:
            raise ValueError(f"{name} in the URL: expected a value")
