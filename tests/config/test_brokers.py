"""Brokers: where their URLs come from, which ones are accepted, and that no secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from reaper.config import Settings, load
from reaper.config.urls import mask_broker_url, normalise_broker_url
from tests.config.support import BROKER, URL, problem, problems, write


def test_profile_with_celery_requires_a_broker_and_says_how_to_give_one() -> None:
    message = "profile 'vuls' inspects Celery's workers, and no broker is given; give broker_url or broker_url_file"
    write('[sources.main]\ndatabase_url = "postgresql:///a"\nprofile = "vuls"')
    refusal = problem()
    assert refusal.startswith(f"config/reaper.toml:1: sources.main: {message} here or above the first [section], ")
    assert refusal.endswith("REAPER_BROKER_URL, REAPER_BROKER_URL_FILE, or the credential main.broker_url")
    write("")
    environ = {"REAPER_DATABASE_URL": URL, "REAPER_PROFILE": "vuls"}
    alone = problem(environ)
    assert alone.startswith(f"REAPER_PROFILE: {message}, REAPER_BROKER_URL, ")
    assert alone.endswith("or the credential broker_url")
    # A wrong URL is reported as wrong, not as missing.
    assert problem({**environ, "REAPER_BROKER_URL": "x"}).startswith("REAPER_BROKER_URL: expected a")
    assert load({}, {**environ, "REAPER_BROKER_URL": BROKER}).sources["default"].broker is not None


def broker_of(settings: Settings, source: str) -> tuple[str | None, str]:
    broker = settings.sources[source].broker
    return broker.get_secret_value() if broker else None, settings.origins[f"sources.{source}.broker_url"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://s3cretpw@host/0", "redis://***@host/0"),
        ("rediss://s3cretpw:@host/0", "rediss://***@host/0"),
        ("redis+socket://s3cretpw@/run/redis.sock", "redis+socket://***@/run/redis.sock"),
        ("sentinel://s3cretpw@a:1;sentinel://s3cretpw@b:2", "sentinel://***@a:1;sentinel://***@b:2"),
        ("redis://someone:s3cretpw@host/0", "redis://someone:***@host/0"),
        ("redis://host/0", "redis://host/0"),
        ("amqp://someone@host//", "amqp://someone@host//"),
        ("redis://host/0?p%61ssword=s3cretpw&ssl_cert_reqs=none", "redis://host/0?p%61ssword=***&ssl_cert_reqs=none"),
        ("redis://host/0?s3cretpw", "redis://host/0?***"),
    ],
)
def test_password_in_place_of_a_redis_user_is_masked(url: str, shown: str) -> None:
    assert mask_broker_url(normalise_broker_url(url)) == shown


def test_broker_url_comes_from_the_same_places_as_a_database_url() -> None:
    Path("credentials").mkdir()
    write("redis://common", "credentials/broker_url")
    write("redis://main\n", "credentials/main.broker_url")
    write("redis://own", "secret")
    write(f"""
        broker_url = "redis://file"
        database_url = "{URL}"
        [sources.main]
        [sources.b]
        database_url = "postgresql:///b"
        [sources.c]
        database_url = "postgresql:///c"
        broker_url_file = "secret"
        [sources.d]
        database_url = "postgresql:///d"
        broker_url = "{BROKER}"
    """)
    environ = {"CREDENTIALS_DIRECTORY": "credentials"}
    settings = load({}, environ)
    assert {name: broker_of(settings, name) for name in settings.sources} == {
        "main": ("redis://main", "credential main.broker_url"),
        "b": ("redis://common", "credential broker_url"),
        "c": ("redis://own", "config/reaper.toml:9 (secret)"),
        "d": (BROKER, "config/reaper.toml:12"),
    }
    assert broker_of(load({}, environ | {"REAPER_BROKER_URL": BROKER}), "b") == (BROKER, "REAPER_BROKER_URL")
    own = load({}, {"REAPER_BROKER_URL_FILE": "secret"})
    assert broker_of(own, "b") == ("redis://own", "REAPER_BROKER_URL_FILE (secret)")
    assert broker_of(load({}, {}), "main") == ("redis://file", "config/reaper.toml:2")
    write(f'[sources.main]\ndatabase_url = "{URL}"')
    assert broker_of(load({}, {}), "main") == (None, "default")


def test_wrong_broker_file_or_credential_is_refused_by_name() -> None:
    Path("credentials").mkdir()
    write("http://:hunter2@x", "credentials/mian.broker_url")
    write("http://:hunter2@x", "secret")
    write(f'[sources.main]\ndatabase_url = "{URL}"\nbroker_url = "{BROKER}"\nbroker_url_file = "secret"')
    messages = problems({"CREDENTIALS_DIRECTORY": "credentials", "REAPER_BROKER_URL_FILE": "secret"})
    assert messages == (
        "config/reaper.toml:3: sources.main.broker_url: config/reaper.toml:4 gives the URL too; keep one of the two",
        "credential mian.broker_url: there is no such source; did you mean 'main.broker_url'?",
    )
    write(f'[sources.main]\ndatabase_url = "{URL}"\nbroker_url_file = "secret"')
    assert problem().startswith("config/reaper.toml:3 (secret): http:// is not a supported broker; ")


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://h:6379/0",
        "rediss://u:hunter2@h/0?ssl_cert_reqs=required",
        "redis+socket://:hunter2@/run/redis.sock?virtual_host=1",
        "redis://:hunter2@[::1]:6379/1",
        "amqp://u:p%40%2F%3A@h:5672//",
        "amqps://u:hunter2@h/app",
        "pyamqp://",
        "sentinel://:hunter2@a:26379;sentinel://:hunter2@b:26379",
        "amqp://u:hunter2@a//;amqp://u:hunter2@b//",
    ],
)
def test_broker_url_is_understood_by_kombu_and_shown_without_its_password(url: str) -> None:
    kombu = pytest.importorskip("kombu")
    normal = normalise_broker_url(f" {url}\n")
    assert normal == url
    with kombu.Connection(normal) as connection:
        assert connection.transport_cls == url.partition(":")[0].partition("+")[0]
    assert "hunter2" not in mask_broker_url(normal)
    settings = load({}, {"REAPER_DATABASE_URL": URL, "REAPER_BROKER_URL": url})
    rows = {name: value for name, value, _ in settings.described()}
    assert (
        rows["sources.default.broker_url"]
        == mask_broker_url(url)
        == url.replace("hunter2", "***").replace("p%40%2F%3A", "***")
    )
    assert "hunter2" not in f"{rows} {settings!r} {settings}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("hunter2", "expected a URL such as redis://"),
        ("broker:6379/hunter2", "expected a URL such as redis://"),
        (
            "rediz://:hunter2@h",
            "rediz:// is not a supported broker; did you mean 'redis'?",
        ),
        ("ampq://u:hunter2@h", "did you mean 'amqp'?"),
        (
            "sqs://u:hunter2@",
            "sqs:// is not a supported broker; expected one of: amqp, amqps, ",
        ),
        ("hunter 2://h", "the URL's scheme cannot be parsed; expected one of: amqp, "),
        ("redis://u:hunter2 @h", "a blank or a control character"),
        ("redis://u:a/hunter2@h:1/0", "the URL cannot be parsed"),
        ("redis://u:12/hunter2@h:1/0", "the URL cannot be parsed"),
        ("redis://u:12?hunter2@h:1/0", "the URL cannot be parsed"),
        ("redis://u:12#hunter2", "the URL cannot be parsed"),
        ("redis://u:x@hunter2@h", "the URL cannot be parsed"),
        ("redis://u:hunter2", "the URL cannot be parsed"),
        ("redis://:hunter2@h:99999", "the URL cannot be parsed"),
        ("redis://:hunter2@h:0", "the URL cannot be parsed"),
        ("redis://:hunter2@[::1", "the URL cannot be parsed"),
        ("redis://:hun;ter2hunter2@h", "the URL cannot be parsed"),
        ("redis://a;hunter2", "expected a URL such as redis://"),
    ],
)
def test_refusal_shows_no_part_of_a_broker_url_but_its_scheme(url: str, expected: str) -> None:
    message = problem({"REAPER_BROKER_URL": url})
    assert message.startswith("REAPER_BROKER_URL: ")
    assert expected in message
    write(f'[sources.s]\ndatabase_url = "{URL}"\nbroker_url = "{url}"')
    assert problem().startswith("config/reaper.toml:3: sources.s.broker_url: ")
