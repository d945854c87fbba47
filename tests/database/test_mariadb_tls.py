"""TLS to a real MariaDB: used where the server offers it; its certificate is checked where the URL asks for that."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from reaper.errors import DatabaseUnavailable
from reaper.profile import resolve
from reaper.source import Source
from tests.support.mariadb import MariaDB, temporary
from tests.support.protea import PATIENCE, thresholds


@pytest.fixture(scope="module")
def tls_server() -> Iterator[MariaDB]:
    """A server with a certificate of its own, beside one that did not sign it: `other.pem`."""
    if shutil.which("openssl") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("openssl is not installed")
    with temporary() as server:
        server.stop()
        own, _ = (make_certificate(server.directory, name) for name in ("own", "other"))
        server.start(f"--ssl-ca={own}", f"--ssl-cert={own}", f"--ssl-key={own.with_suffix('.key')}")
        server.create_database("app")
        yield server


def make_certificate(folder: Path, name: str) -> Path:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        ["openssl", *words, *names, "-out", str(certificate), "-keyout", str(key)], check=True, capture_output=True
    )
    key.chmod(0o644)  # the server runs as another user
    return certificate


def source(server: MariaDB, options: str = "") -> Source:
    return Source("main", server.url("app") + options, resolve("protea"), thresholds(), PATIENCE)


def is_encrypted(connection: Connection) -> bool:
    return bool(connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_cipher'").one()[1])


def test_every_connection_is_encrypted_where_the_server_offers_it(tls_server: MariaDB) -> None:
    one = source(tls_server)
    with one.connect(prepared=False) as connection, one.connect(prepared=False) as another:
        assert is_encrypted(connection) and is_encrypted(another)


def test_certificate_is_checked_where_the_url_names_who_signs_it(tls_server: MariaDB) -> None:
    """Also after connections of this process that checked none."""
    with source(tls_server).connect(prepared=False):
        pass
    with source(tls_server, f"&ssl_ca={tls_server.directory}/own.pem").connect(prepared=False) as connection:
        assert is_encrypted(connection)
    wrong = source(tls_server, f"&ssl_ca={tls_server.directory}/other.pem")
    with pytest.raises(DatabaseUnavailable, match="certificate"), wrong.connect(prepared=False):
        pass


def test_connections_that_check_no_certificate_do_not_read_the_systems_certificates(
    tls_server: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = list[object]()
    monkeypatch.setattr("ssl.SSLContext.load_default_certs", lambda *values: read.append(values))
    with source(tls_server).connect(prepared=False) as connection:
        assert is_encrypted(connection)
    assert read == []
