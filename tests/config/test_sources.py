"""Sources: their databases, profiles and inherited settings, and what must fit together."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from reaper.config import Settings, SourceSettings, load
from reaper.config.settings import PurgeSettings
from reaper.daemon.reload import needs_rebuild
from reaper.model import Threshold
from tests.config.support import BROKER, URL, problem, problems, sources_of, write


def test_database_url_alone_makes_one_source_called_default() -> None:
    settings = load({}, {"REAPER_DATABASE_URL": URL})
    (source,) = settings.sources.values()
    assert source.name == "default"
    assert source.database_url.get_secret_value() == "postgresql+psycopg://u:hunter2@db/app"
    assert source.profile.name == "protea"
    assert source.thresholds.timeout == Threshold(21600, "default")
    assert settings.origins["sources.default.database_url"] == "REAPER_DATABASE_URL"


def test_sources_share_the_database_url_and_use_profiles_of_the_file() -> None:
    write(f"""
        database_url = "{URL}"
        profile = "mine"
        [sources.a]
        [sources.b]
        profile = "protea"
        [sources.c]
        database_url = "postgres://x/y"
        [profiles.mine]
        extends = "protea"
        jobs.running.in = ["RUNNING"]
        actions.fail.set.status = "FAILED"
    """)
    sources = load({}, {}).sources
    assert [(s.name, s.profile.name, make_url(s.database_url.get_secret_value()).host) for s in sources.values()] == [
        ("a", "mine", "db"),
        ("b", "protea", "db"),
        ("c", "mine", "x"),
    ]
    running = sources["a"].profile.jobs.running
    assert running is not None
    assert running.values == ("RUNNING",)


def test_source_without_a_database_is_refused_with_the_ways_to_give_one() -> None:
    write("\n[sources.main]\n")
    message = problem()
    assert message.startswith("config/reaper.toml:2: sources.main: no database; ")
    for way in ("database_url_file", "REAPER_DATABASE_URL", "REAPER_DATABASE_URL_FILE", "main.database_url"):
        assert way in message


def test_sources_with_the_same_database_and_profile_are_refused() -> None:
    write(f'[sources.a]\ndatabase_url = "{URL}"\n[sources.b]\ndatabase_url = "postgres://u:other@DB:5432/app"\n')
    assert problem() == (
        "config/reaper.toml:3: sources.b: the same database and profile as source 'a' (config/reaper.toml:1); "
        "remove one of them"
    )


def test_unknown_profile_is_refused_once_with_the_nearest_name() -> None:
    nearest = "there is no profile 'prota'; did you mean 'protea'?"
    assert problem({"REAPER_PROFILE": "prota"}) == f"REAPER_PROFILE: {nearest}"
    write('[sources.a]\ndatabase_url = "postgresql:///a"\n[sources.b]\ndatabase_url = "postgresql:///b"')
    assert problem({"REAPER_PROFILE": "prota"}) == f"REAPER_PROFILE: {nearest}"
    write('[sources.a]\ndatabase_url = "postgresql:///a"\nprofile = "prota"')
    assert problem() == f"config/reaper.toml:3: {nearest}"


def test_wrong_profile_is_refused_with_its_lines_even_when_unused() -> None:
    write("""[profiles.mine]
extends = "protea"
[profiles.mine.jobs]
tabel = "x"
[[profiles.mine.alive]]
witness = "a"
column = "c"
[[profiles.mine.alive]]
witness = "b"
events = { job = ["id"] }
[profiles.other]
extends = "minee"
""")
    assert problems() == (
        "config/reaper.toml:4: profile 'mine': jobs.tabel: unknown name; did you mean 'table'?",
        "config/reaper.toml:10: profile 'mine': alive.1.events.table: missing",
        "config/reaper.toml:10: profile 'mine': alive.1.events.at: missing",
        "config/reaper.toml:12: unknown profile 'minee'; did you mean 'mine'?",
    )


def test_source_has_the_defaults_where_it_has_no_values() -> None:
    source = sources_of(f'[sources.main]\ndatabase_url = "{URL}"')["main"]
    assert (source.action, source.max_age_seconds, source.broker) == ("fail", None, None)
    assert (source.broker_deadline_seconds, source.queues) == (5, ("celery",))
    assert source.worker_absence_seconds == 300
    assert (source.close_interrupted_at_start, source.close_interrupted_window_seconds) == (False, 300)
    assert source.purge == PurgeSettings(cron=None, days_to_keep=30, batch_size=1000)
    made = SourceSettings("main", source.database_url, source.profile, source.thresholds)
    assert made == source


@pytest.mark.parametrize(
    ("name", "in_file", "in_variable", "expected"),
    [
        ("action", ('"fail"', '"drop"'), "drop", ("drop", "fail")),
        ("max_age_seconds", ('"1d"', "60"), "2h", (7200, 86400)),
        ("broker_deadline_seconds", ("0.5", '"60s"'), "1.5", (1.5, 0.5)),
        ("worker_absence_seconds", ("0", '"10m"'), "90", (90, 0)),
        ("queues", ('["a", " b "]', '["c"]'), " x, y ", (("x", "y"), ("a", "b"))),
        ("close_interrupted_at_start", ("false", "false"), "TRUE", (True, False)),
        ("close_interrupted_window_seconds", ('"1d"', "1"), "90", (90, 86400)),
    ],
)
def test_source_value_beats_the_value_for_all_sources_but_not_a_flag(
    name: str, in_file: tuple[str, str], in_variable: str, expected: tuple[object, object]
) -> None:
    text = f"""
        {name} = {in_file[1]}
        database_url = "{URL}"
        close_interrupted_only_server = true
        profile = "mine"
        [sources.own]
        {name} = {in_file[0]}
        [sources.other]
        database_url = "postgresql:///other"
        [profiles.mine]
        extends = "protea"
        actions.drop.set.status = "dropped"
    """
    write(text)
    variable = f"REAPER_{name.upper()}"
    settings = load({}, {variable: in_variable})
    assert (getattr(settings.sources["other"], name), getattr(settings.sources["own"], name)) == expected
    assert settings.origins[f"sources.other.{name}"] == variable
    assert settings.origins[f"sources.own.{name}"] == "config/reaper.toml:7"
    assert load({}, {}).origins[f"sources.other.{name}"] == "config/reaper.toml:2"
    flagged = load({name: in_variable}, {})
    assert getattr(flagged.sources["own"], name) == expected[0]
    assert flagged.origins[f"sources.own.{name}"] == f"--{name.replace('_', '-')}"


def test_action_that_the_profile_lacks_is_refused_once_with_the_nearest_name() -> None:
    nearest = "profile 'protea' has no action 'fial'; did you mean 'fail'?"
    write('[sources.a]\ndatabase_url = "postgresql:///a"\n[sources.b]\ndatabase_url = "postgresql:///b"')
    assert problem({"REAPER_ACTION": "fial"}) == f"REAPER_ACTION: {nearest}"
    write('[sources.a]\ndatabase_url = "postgresql:///a"\naction = "fial"')
    assert problem() == f"config/reaper.toml:3: {nearest}"
    write('[sources.a]\ndatabase_url = "postgresql:///a"\naction = "xyz"')
    assert problem() == "config/reaper.toml:3: profile 'protea' has no action 'xyz'; expected one of: fail"
    write('[sources.a]\ndatabase_url = "postgresql:///a"\naction = "dlete"\nprofile = "adhese"')
    assert problem() == "config/reaper.toml:3: profile 'adhese' has no action 'dlete'; did you mean 'delete'?"


@pytest.mark.parametrize(
    "line",
    [
        'action = "drop"',
        'broker_url = "redis://:other@broker:6379/0"',
        "broker_deadline_seconds = 2",
        'queues = ["mail"]',
        "max_age_seconds = 60",
        "close_interrupted_at_start = true",
        'close_interrupted_window_seconds = "1m"',
        'purge.cron = "0 3 * * *"',
        "purge.days_to_keep = 31",
        "purge.batch_size = 999",
    ],
)
def test_changed_value_rebuilds_its_source_and_no_other(line: str) -> None:
    common = f"""
        [sources.other]
        database_url = "postgresql:///other"
        [profiles.mine]
        extends = "protea"
        actions.drop.set.status = "dropped"
        purge = {{ where = [{{ column = "status", in = ["failed"] }}], at = ["finished_at"] }}
        [sources.main]
        profile = "mine"
        database_url = "{URL}"
        close_interrupted_only_server = true
    """
    before = f'broker_url = "{BROKER}"'
    after = line if line.startswith("broker_url") else f"{before}\n{line}"

    def settings(text: str) -> Settings:
        write(common + text)
        return load({}, {})

    old, same, fresh = settings(before), settings(f"{before}\n\n"), settings(after)
    assert not needs_rebuild("main", old, same)
    assert needs_rebuild("main", old, fresh)
    assert not needs_rebuild("other", old, fresh)


def test_empty_array_of_sources_means_that_there_is_none() -> None:
    write("timeout_seconds = 60\nsources = []\n")
    settings = load({}, {})
    assert settings.sources == {}
    assert settings.without_sources
    assert ("sources", "none", "config/reaper.toml:2") in settings.described()


def test_forgotten_database_is_not_an_empty_array_of_sources() -> None:
    for text in ("", "[sources]\n"):
        write(text)
        assert not load({}, {}).without_sources


def test_empty_array_of_sources_contradicts_a_database_url() -> None:
    write("sources = []\n")
    assert problem({"REAPER_DATABASE_URL": URL}) == (
        "config/reaper.toml:1: sources: [] means no source at all, but REAPER_DATABASE_URL gives a database; "
        "remove one of them"
    )


def test_array_of_sources_with_members_is_refused() -> None:
    write("sources = [1]\n")
    assert problem() == (
        "config/reaper.toml:1: sources: expected tables [sources.NAME], or the empty array [] for no source at all"
    )


# --- jobs whose start was lost -----------------------------------------------------------------------------------


def test_start_lost_is_inherited_and_may_differ_in_a_source() -> None:
    write(f"""
        database_url = "{URL}"
        start_lost = "end"
        [sources.a]
        profile = "noetl"
        [sources.b]
        profile = "noetl"
        database_url = "postgres://x/y"
        start_lost = "off"
    """)
    settings = load({}, {})
    assert [source.start_lost for source in settings.sources.values()] == ["end", "off"]
    assert settings.origins["sources.b.start_lost"].endswith("reaper.toml:9")
    assert load({}, {"REAPER_START_LOST": "off"}).sources["a"].start_lost == "off"


def test_start_lost_of_a_source_whose_profile_does_not_look_for_any_is_refused() -> None:
    write(f"""
        database_url = "{URL}"
        [sources.a]
        start_lost = "end"
    """)
    assert "profile 'protea' does not look for jobs whose start was lost; remove this line" in problem()


def test_start_lost_that_is_no_choice_is_refused_with_the_nearest_one() -> None:
    write(f"""
        database_url = "{URL}"
        [sources.a]
        profile = "noetl"
        start_lost = "ends"
    """)
    assert "did you mean 'end'?" in problem()


# --- jobs whose worker is gone -----------------------------------------------------------------------------------


def test_worker_lost_is_inherited_where_the_profile_says_when_a_worker_is_gone() -> None:
    write(f"""
        database_url = "{URL}"
        worker_lost = "fail"
        [sources.a]
        profile = "chancy"
        [sources.b]
        profile = "chancy"
        database_url = "postgres://x/y"
        worker_lost = "off"
        [sources.c]
        profile = "protea"
    """)
    sources = load({}, {}).sources.values()
    assert [source.gone_after_seconds for source in sources] == [180.0, None, None]


@pytest.mark.parametrize(
    ("profile", "why"),
    [
        ("protea", "profile 'protea' does not say when a worker is gone; remove this line, or give the profile a"),
        ("noetl", "the jobs of profile 'noetl' exist only as a log: sweeps do not end them for their workers; remove"),
    ],
)
def test_worker_lost_of_a_source_whose_workers_are_not_known_is_refused(profile: str, why: str) -> None:
    write(f"""
        database_url = "{URL}"
        [sources.a]
        profile = "{profile}"
        worker_lost = "action"
    """)
    assert f"reaper.toml:5: sources.a.worker_lost: {why}" in problem()


def test_search_path_of_a_source_replaces_its_profile_s() -> None:
    write(f"""
        database_url = "{URL}"
        profile = "mine"
        [sources.a]
        [sources.b]
        database_url = "postgres://x/y"
        search_path = ["app", "App two"]
        [sources.c]
        database_url = "postgres://x/z"
        search_path = []
        [profiles.mine]
        extends = "protea"
        search_path = ["public"]
    """)
    settings = load({}, {})
    paths = {name: source.profile.search_path for name, source in settings.sources.items()}
    assert paths == {"a": ("public",), "b": ("app", "App two"), "c": ()}
    assert settings.sources["b"].profile.lineage == settings.sources["a"].profile.lineage
    shown = {row for row in settings.described() if row[0].endswith("search_path")}
    assert shown == {
        ("sources.a.search_path", "public", "profile 'mine'"),
        ("sources.b.search_path", "app, App two", "config/reaper.toml:7"),
    }


@pytest.mark.parametrize("value", ['"app"', '[""]', "[1]", '["a\\u0000"]', "true"])
def test_search_path_of_a_source_is_a_list_of_schemas(value: str) -> None:
    write(f'[sources.a]\ndatabase_url = "{URL}"\nsearch_path = {value}\n')
    assert 'expected a list of schemas, such as ["app"]' in problem()


def test_search_path_of_a_source_on_mariadb_is_refused() -> None:
    write('[sources.a]\ndatabase_url = "mysql://u@db/app"\nprofile = "adhese"\nsearch_path = ["app"]\n')
    assert problem().startswith("config/reaper.toml:4: sources.a.search_path: MariaDB looks names up in the database")


@pytest.mark.parametrize("where", ["all sources", "source"])
def test_former_names_of_settings_are_taken_with_a_warning(where: str) -> None:
    lines = 'resume_window_seconds = "9m"\nresume_at_start = true\nclose_interrupted_only_server = true\n'
    table = f'[sources.main]\ndatabase_url = "{URL}"\n'
    write(lines + table if where == "all sources" else table + lines)
    settings = load({}, {})
    source = settings.sources["main"]
    assert (source.close_interrupted_at_start, source.close_interrupted_window_seconds) == (True, 540)
    line = 1 if where == "all sources" else 3
    assert settings.origins["sources.main.close_interrupted_window_seconds"] == f"config/reaper.toml:{line}"
    assert [note.partition("; ")[0].partition(": ")[2].split(": ")[-1] for note in settings.notes] == [
        "is now called close_interrupted_at_start",
        "is now called close_interrupted_window_seconds",
    ]


def test_former_variable_beats_the_file_and_is_warned_about() -> None:
    write(f'close_interrupted_window_seconds = "1m"\n[sources.main]\ndatabase_url = "{URL}"')
    settings = load({}, {"REAPER_RESUME_WINDOW_SECONDS": "9m"})
    assert settings.sources["main"].close_interrupted_window_seconds == 540
    assert settings.notes == (
        "REAPER_RESUME_WINDOW_SECONDS: is now called close_interrupted_window_seconds; the old name goes with the next "
        "release",
    )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (("close_interrupted_at_start = true",), "nothing says whose jobs a restart has interrupted"),
        (("resume_at_start = true",), "nothing says whose jobs a restart has interrupted"),
        (('close_interrupted_holder = "a"',), "does not say which column names the holder"),
        (
            ('profile = "held"', 'close_interrupted_holder = "a"', "close_interrupted_only_server = true"),
            "names one of several servers",
        ),
        (("resume_at_start = false", "close_interrupted_at_start = false"), "which is given too"),
    ],
)
def test_closing_at_the_start_without_one_proof_is_refused(lines: tuple[str, ...], said: str) -> None:
    text = "\n".join(lines)
    profile = '[profiles.held]\nextends = "protea"\njobs.holder = "worker"\n'
    write(f'{profile}[sources.main]\ndatabase_url = "{URL}"\n{text}\n')
    found = problem()
    assert said in found and found.startswith("config/reaper.toml:")
