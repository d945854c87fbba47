"""MariaDB's URLs: brought to one form, checked, and shown without their secrets."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from reaper.config.urls import connection_identity, database_location, mask_database_url, normalise_database_url


@pytest.mark.parametrize("scheme", ["mariadb", "mysql", "mariadb+pymysql", "mysql+pymysql", "MySQL"])
@pytest.mark.parametrize(
    "rest",
    [
        "host/app",
        "/app",
        "u:p%40%2F@host:3307/app",
        "u@[::1]/app",
        "u@/app?unix_socket=/run/mysqld/mysqld.sock",
        "u:p@host/app?ssl_ca=/etc/ca.pem&ssl_check_hostname=false",
    ],
)
def test_mariadb_url_is_normalised(scheme: str, rest: str) -> None:
    url = normalise_database_url(f" {scheme}://{rest}\n")
    assert url == f"mariadb+pymysql://{rest}"
    assert make_url(mask_database_url(url)) == (parsed := make_url(url)).set(
        password="***" if parsed.password else None
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mysql+mysqldb://u:hunter2@h/d", "mariadb:// or mysql://, not mysql+mysqldb://"),
        ("mariadb://u:hunter2@h", "the URL names no database"),
        ("mariadb://u:hunter2@h/", "the URL names no database"),
        ("mysql://u:hunter2@h:99999/d", "not a number from 1 to 65535"),
        ("mariadb://u:hunter2@h/d?sslmode=require", "parameter 1 after the ? of the URL is not known for MariaDB"),
        ("mariadb://u:hunter2@h/d?unix_sock=/s", "did you mean 'unix_socket'?"),
        ("mariadb://u:hunter2@h/d?ssl_ca=/a&ssl_ca=/b", "ssl_ca is given more than once"),
        ("mariadb://u:hunter2@h/d?ssl_ca=", "ssl_ca in the URL: expected a value"),
        ("mariadb://u:hunter2@h/d?ssl_check_hostname=maybe", "expected one of: true, false"),
        ("mariadb://u:hunter2@h/d?init_command=DROP", "is not known for MariaDB"),
        ("mariadb://u:hunter2@h/d?ssl_ca", "must be name=value"),
    ],
)
def test_wrong_mariadb_url_is_refused_without_its_secret(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=r"expected|URL") as raised:
        normalise_database_url(url)
    assert expected in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_database_location_is_the_server_and_the_database() -> None:
    one, port, socket, other = (
        normalise_database_url(f"mariadb://{rest}")
        for rest in ("u:p@h/d", "w@h:3306/d", "u@h/d?unix_socket=/s", "u@h/e")
    )
    assert database_location(one) == database_location(port)
    assert len({database_location(one), database_location(socket), database_location(other)}) == 3
    assert connection_identity(one)[2] == "3306"
    assert database_location(one) != database_location(normalise_database_url("postgresql://u@h/d"))
