"""PostgreSQL's URLs: brought to one form, checked, compared, and shown without their secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from reaper.config import load
from reaper.config.urls import connection_identity, database_location, mask_database_url, normalise_database_url
from reaper.database.timeouts import Timeouts
from reaper.errors import ConfigError
from reaper.source import Source
from tests.config.support import URL, problem


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg", "PostgreSQL"])
@pytest.mark.parametrize(
    "rest",
    [
        "",
        "/",
        "host",
        "/app",
        "host/app",
        "u@host:5432/app",
        "u:p@[::1]:5432/app",
        "u:p%40%2F%3A@host/app",
        "/app?host=/run/postgresql",
        "u:p/w?x#y@host/app?host=a:1&host=b:2",
        "?service=x",
        "u:@host",
        "u:p@host:05432",
    ],
)
def test_postgresql_url_is_normalised_and_keeps_its_meaning(scheme: str, rest: str) -> None:
    url = normalise_database_url(f" {scheme}://{rest}\n")
    assert url == f"postgresql+psycopg://{rest}"
    assert make_url(url).drivername == "postgresql+psycopg"
    shown = make_url(mask_database_url(url))
    assert shown == (parsed := make_url(url)).set(password="***" if parsed.password is not None else None)


@given(st.text(st.sampled_from("au1:/?@#%[]&=. ,-2"), max_size=30))
def test_accepted_url_is_parsed_by_sqlalchemy_alike(rest: str) -> None:
    try:
        url = normalise_database_url(f"postgresql://{rest}")
    except ValueError:
        return
    parsed = make_url(url)
    user, host, port, database, _ = connection_identity(url)
    assert (user, host, int(str(port)), database) == (
        parsed.username or "",
        (parsed.host or "").casefold(),
        parsed.port or 5432,
        parsed.database or "",
    )
    assert "@" not in (parsed.host or "")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sslmod=require", "parameter 1 after the ? of the URL is not known to PostgreSQL's client; did you mean 'ssl"),
        ("sslmode=require&bogus=1", "parameter 2 after the ?"),
        ("bogus=", "parameter 1 after the ?"),
        ("plugin=foo", "parameter 1 after the ?"),
        ("plugin=foo&plugin=bar", "parameter 1 after the ?"),
        ("client_cert=x", "not known"),
        ("prepare_threshold=3", "not known"),
        ("autocommit=1", "not known"),
        ("replication=database", "not known"),
        ("SSLMODE=require", "did you mean 'sslmode'?"),
        ("sslmode=bogus", "sslmode in the URL: expected one of: disable, allow, prefer, require, verify-ca, verify-f"),
        ("target_session_attrs=readwrite", "expected one of: any, read-write, "),
        ("require_auth=md5,hunter2", "expected one or more, joined by commas, of: password, md5, "),
        ("connect_timeout=abc", "connect_timeout in the URL: expected a whole number"),
        ("keepalives_idle=-1", "keepalives_idle in the URL: expected a whole number"),
        ("sslmode=require&sslmode=require", "sslmode is given more than once"),
        ("host=a:1&host=b:x", "not a number from 1 to 65535"),
        ("host=a:1&host=b:99999", "not a number from 1 to 65535"),
        ("host=a&host=b&port=5432", "several hosts are written"),
        ("host=a,b&port=5432", "one port for several hosts"),
        ("host=a,b&port=1,2,3", "not as many ports as hosts"),
        ("host=a&port=x", "not a number from 1 to 65535"),
    ],
)
def test_parameter_that_libpq_would_refuse_is_refused(query: str, expected: str) -> None:
    message = problem({"REAPER_DATABASE_URL": f"{URL}?{query}"})
    assert message.startswith("REAPER_DATABASE_URL: ")
    assert expected in message
    assert "bogus" not in message


@pytest.mark.parametrize(
    "query",
    [
        "sslmode=verify-full&sslrootcert=/etc/ca.pem&connect_timeout=10&target_session_attrs=read-write",
        "options=-csearch_path%3Dtenant&application_name=x&require_auth=!password,!md5",
        "sslmode=",
        "host=a:1&host=b:2",
        "host=a&host=b",
        "host=a,b&port=1,2",
        "host=/run/postgresql&port=5433",
        "host=a:5433",
        "hostaddr=::1",
        "service=x&passfile=/p",
    ],
)
def test_parameter_that_libpq_accepts_is_accepted_and_an_engine_can_be_made(query: str) -> None:
    [source] = load({}, {"REAPER_DATABASE_URL": f"postgresql:///app?{query}"}).sources.values()
    Source("main", source.database_url.get_secret_value(), source.profile, source.thresholds, Timeouts(1, 1))


def test_source_whose_engine_cannot_be_made_is_a_config_error() -> None:
    [source] = load({}, {"REAPER_DATABASE_URL": URL}).sources.values()
    for query in ("plugin=foo", "host=a,b&port=1,2,3"):
        with pytest.raises(ConfigError, match="source main: database_url: "):
            Source("main", f"postgresql+psycopg:///d?{query}", source.profile, source.thresholds, Timeouts(1, 1))


@pytest.mark.parametrize(
    ("rest", "shown"),
    [
        (
            "h/d?sslmode=require&password=hunter2&sslpassword=hunter2",
            "h/d?sslmode=require&password=***&sslpassword=***",
        ),
        ("h/d?scram_client_key=hunter2&scram_server_key=hunter2", "h/d?scram_client_key=***&scram_server_key=***"),
        ("h/d?p%61ssword=hunter2&oauth_client_s%65cret=hunter2", "h/d?p%61ssword=***&oauth_client_s%65cret=***"),
        ("h/d?sslm%6fde=require", "h/d?sslm%6fde=require"),
        ("?dbname=postgresql%3A%2F%2Fu%3Ahunter2%40h%2Fd", "?dbname=***"),
        ("?dbname=password%3Dhunter2", "?dbname=***"),
        ("?dbname=orders", "?dbname=orders"),
        ("h/password%3Dhunter2", "h/***"),
        ("u%3Ahunter2@h/d", "***@h/d"),
        ("password%3Dhunter2/d", "***/d"),
        ("h/d?options=-c%20app.key%3Dhunter2", "h/d?options=***"),
        ("h/d?options=-csearch_path%3Dtenant%20-c%20app.key%3Dhunter2", "h/d?options=***"),
        ("h/d?options=hunter2", "h/d?options=***"),
        ("h/d?options=-csearch_path%3Dtenant+--statement-timeout%3D5s", None),
        ("h:5433/d?host=a:1&host=b:2&application_name=x&sslrootcert=/etc/ca.pem&passfile=/p", None),
        ("[::1]:5432/d", None),
    ],
)
def test_only_parts_of_a_url_that_are_known_to_be_harmless_are_shown(rest: str, shown: str | None) -> None:
    url = normalise_database_url(f"postgresql://{rest}")
    assert mask_database_url(url) == f"postgresql+psycopg://{rest if shown is None else shown}"
    settings = load({}, {"REAPER_DATABASE_URL": url})
    assert "hunter2" not in f"{settings.described()} {settings!r}"


def test_connection_identity_ignores_the_password_but_not_user_and_schema() -> None:
    def same(one: str, other: str) -> bool:
        return connection_identity(normalise_database_url(f"postgres://{one}")) == connection_identity(
            normalise_database_url(f"postgres://{other}")
        )

    assert same("u:a@h/d", "u:b@H:5432/d")
    assert not same("u@h/d", "v@h/d")
    assert not same("h/d", "h/e")
    assert not same("/d?host=/a", "/d?host=/b")
    assert not same("h/d?options=-csearch_path%3Da", "h/d?options=-csearch_path%3Db")


def test_database_location_ignores_user_and_options() -> None:
    def same(one: str, other: str) -> bool:
        return database_location(normalise_database_url(f"postgres://{one}")) == database_location(
            normalise_database_url(f"postgres://{other}")
        )

    assert same("u:a@h/d", "v:b@H:5432/d?sslmode=require&options=-csearch_path%3Da")
    assert same("u:a@/d?host=/a", "u:b@/d?sslmode=disable&host=/a")
    assert not same("u@h/d", "u@h:5433/d")
    assert not same("u@h/d", "u@i/d")
    assert not same("u@h/d", "u@h/e")
    assert not same("u@h", "v@h")
    assert not same("/d?host=/a", "/d?host=/b")
