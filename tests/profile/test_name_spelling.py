"""How a database's spelling of a profile is decided, without a database: names, listed values, sampled values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest

from reaper.errors import SpellingUnclear
from reaper.profile import Profile, resolve, shipped
from reaper.profile.name_spelling import SampledColumn, Spelling, spelling_of
from reaper.profile.real_tables import RealColumn, RealTable, listed_values

QUEUE: Mapping[str, Any] = {
    "jobs": {
        "table": "task",
        "key": "id",
        "started": "begun",
        "running": {"column": "state", "in": ["running", "claimed"]},
    },
    "actions": {"fail": {"set": {"state": "failed", "note": "lost"}}},
    "purge": {"where": [{"column": "state", "in": ["done", "failed"]}], "at": "begun"},
}
COLUMNS = ("id", "begun", "state", "note")


def queue(**changes: Any) -> Profile:
    return resolve("queue", {"queue": {**QUEUE, **changes}})


def table(name: str = "task", columns: Sequence[str] = COLUMNS, schema: str = "public", **state: Any) -> RealTable:
    """A table; `state` describes its column `state`, whatever its case."""
    described = {
        column: RealColumn(column, is_text=True, **(state if column.casefold() == "state" else {}))
        for column in columns
    }
    return RealTable(schema, name, schema == "public", described)


def spell(*tables: RealTable, values: Collection[str] = (), profile: Profile | None = None) -> Spelling:
    """The spelling in a database where the column `state` has these values."""

    def sample(sampled: SampledColumn) -> Collection[str]:
        return values if sampled.column.casefold() == "state" else ()

    return spelling_of(profile or queue(), tables, sample)


def spelled_values(*tables: RealTable, values: Collection[str] = ()) -> dict[str, str]:
    corrections = spell(*tables, values=values).corrections
    return {value: spelled for (_, _, value), spelled in corrections.values.items()}


# --- names -----------------------------------------------------------------------------------------------------------


def test_profile_stays_as_it_is_where_every_name_exists() -> None:
    profile = queue()
    assert spell(table()).applied_to(profile) is profile


@pytest.mark.parametrize("name", shipped())
def test_every_name_of_a_shipped_profile_is_taken_in_another_case(name: str) -> None:
    profile = resolve("mine", {"mine": {"extends": name}})

    def other_case(text: str) -> str:
        return text.upper() if text == text.lower() else text.lower()

    tables = [
        RealTable(
            schema=other_case(spelled.rpartition(".")[0]) or "public",
            name=other_case(spelled.rpartition(".")[2]),
            in_path="." not in spelled,
            columns={other_case(column): RealColumn(other_case(column)) for column in columns},
        )
        for spelled, columns in profile.columns().items()
    ]
    spelled = spell(*tables, profile=profile).applied_to(profile)
    assert spelled.columns() == {
        other_case(table): {other_case(column) for column in columns} for table, columns in profile.columns().items()
    }
    assert (spelled.name, spelled.lineage) == (profile.name, profile.lineage)


def test_exact_table_wins_over_one_in_another_case() -> None:
    assert not spell(table("TASK"), table()).corrections


def test_two_tables_in_other_cases_are_ambiguous() -> None:
    with pytest.raises(SpellingUnclear, match=r"task: there is no such table, and 'TASK', 'Task' differ"):
        spell(table("TASK"), table("Task"))


def test_table_outside_the_search_path_is_not_taken() -> None:
    assert not spell(table("TASK", schema="other")).corrections


def test_schema_is_taken_in_another_case_too() -> None:
    profile = queue(jobs={**QUEUE["jobs"], "table": "app.task"})
    spelling = spell(table(schema="APP"), table(schema="public"), profile=profile)
    assert spelling.corrections.tables == {"app.task": "APP.task"}


def test_exact_column_wins_and_two_others_are_ambiguous() -> None:
    assert not spell(table(columns=(*COLUMNS, "STATE"))).corrections
    with pytest.raises(SpellingUnclear, match=r"task\.state: there is no such column, and 'State', 'STATE'"):
        spell(table(columns=("id", "begun", "note", "State", "STATE")))


def test_column_that_differs_by_more_than_case_is_left_for_check() -> None:
    assert not spell(table(columns=("id", "begun", "status", "note"))).corrections


# --- values that the database lists ----------------------------------------------------------------------------------


def test_labels_decide_without_a_sample() -> None:
    labels = ("RUNNING", "CLAIMED", "FAILED", "Done")
    assert spelled_values(table(allowed=labels), values=["running"]) == {
        "running": "RUNNING",
        "claimed": "CLAIMED",
        "failed": "FAILED",
        "done": "Done",
    }


def test_exact_label_wins_and_two_others_are_ambiguous() -> None:
    assert spelled_values(table(allowed=("running", "RUNNING", "claimed", "failed", "done"))) == {}
    with pytest.raises(SpellingUnclear, match=r"task\.state: jobs\.running\.in: 'running' is not there, and 'RUNNING'"):
        spell(table(allowed=("RUNNING", "Running", "claimed", "failed", "done")))


def test_label_that_does_not_exist_in_any_case_is_left_for_check() -> None:
    assert spelled_values(table(allowed=("RUNNING", "FAILED"))) == {"running": "RUNNING", "failed": "FAILED"}


@pytest.mark.parametrize(
    "expression",
    [
        "(status = ANY (ARRAY['A'::text, 'B''s'::text]))",
        "((status)::text = ANY ((ARRAY['A'::character varying, 'B''s'::character varying])::text[]))",
        "((status = 'A'::text) OR (status = 'B''s'::text))",
        "((status IS NULL) OR (status = ANY (ARRAY['A'::bpchar, 'B''s'::bpchar])))",
        "(VALUE = ANY (ARRAY['A'::text, 'B''s'::text]))",
        "`status` in ('A','B''s')",
        "`status` = 'A' or `status` = 'B''s'",
    ],
)
def test_check_that_lists_values_is_read(expression: str) -> None:
    assert listed_values(expression, "status") == ("A", "B's")


@pytest.mark.parametrize(
    "expression",
    [
        "(status <> 'A'::text)",
        "(lower(status) = ANY (ARRAY['a'::text]))",
        "((status = 'A'::text) AND (other = 'B'::text))",
        "((status = 'A'::text) OR (other = 'B'::text))",
        "(NOT (status = 'A'::text))",
        "(length(status) = 1)",
        "(status ~ '^[A-Z]+$'::text)",
        "(status = E'A\\\\'::text)",
    ],
)
def test_check_that_says_anything_else_lists_no_values(expression: str) -> None:
    assert listed_values(expression, "status") is None


# --- values of free text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, style",
    [(["RUNNING"], str.upper), (["Running", "Other"], str.capitalize), (["CLAIMED", "odd One"], str.upper)],
)
def test_written_values_take_the_case_of_the_running_value(values: list[str], style: Any) -> None:
    assert spelled_values(table(), values=values) == {
        text: style(text) for text in ("running", "claimed", "failed", "done")
    }


@pytest.mark.parametrize("values", [["running", "RUNNING"], ["claimed", "DONE"], [], ["Active thing", "x"]])
def test_exact_value_wins_and_unknown_values_change_nothing(values: list[str]) -> None:
    assert spelled_values(table(), values=values) == {}


def test_other_values_of_the_column_decide_while_no_job_runs() -> None:
    assert spelled_values(table(), values=["DONE", "FAILED"])["running"] == "RUNNING"
    assert spelled_values(table(), values=["WAITING"])["running"] == "RUNNING"
    assert spelled_values(table(), values=["done", "WAITING"]) == {}


def test_written_value_that_exists_is_taken_as_it_is() -> None:
    assert spelled_values(table(), values=["RUNNING", "failed", "dOne"]) == {
        "running": "RUNNING",
        "claimed": "CLAIMED",
        "done": "dOne",
    }


def test_case_that_cannot_be_determined_is_an_error_that_names_key_and_values() -> None:
    with pytest.raises(SpellingUnclear) as raised:
        spell(table(), values=["rUNNING"])
    unknown = "cannot be determined from the values that the column has ('rUNNING'): set it in the profile"
    assert f"task.state: actions.fail.set.state: the case of 'failed' {unknown}" in raised.value.problems


def test_column_that_ignores_case_has_no_unclear_values() -> None:
    assert spelled_values(table(ignores_case=True), values=["rUNNING"]) == {"running": "rUNNING"}


def test_column_that_the_role_may_not_read_is_not_sampled() -> None:
    assert spelled_values(table(readable=False), values=["RUNNING"]) == {}


def test_text_that_is_only_written_stays_as_it_is() -> None:
    def sample(sampled: SampledColumn) -> Collection[str]:
        assert sampled.column != "note"
        return ()

    assert not spelling_of(queue(), [table()], sample).corrections


@pytest.mark.parametrize(
    "values, written",
    [
        (["STARTED", "COMPLETED"], "CANCELLED"),
        (["started", "completed"], "cancelled"),
        (["started", "COMPLETED"], "CANCELLED"),
        (["STARTED", "cancelled"], "CANCELLED"),
        ([], "CANCELLED"),
    ],
)
def test_entry_of_a_log_takes_the_case_that_all_its_states_have(values: list[str], written: str) -> None:
    profile = resolve("noetl")
    columns = {
        name: RealColumn(name, is_text=name in ("event_type", "status")) for name in profile.columns()["noetl.event"]
    }
    log = RealTable("noetl", "event", in_path=False, columns=columns)

    def sample(sampled: SampledColumn) -> Collection[str]:
        return values if sampled.column == "status" else ["playbook.initialized"]

    spelled = spelling_of(profile, [log], sample).applied_to(profile)
    [insert] = spelled.actions["fail"].also
    assert insert.values["status"] == written  # type: ignore[union-attr]


# --- optional inserts ------------------------------------------------------------------------------------------------

AUDITED = {
    "fail": {**QUEUE["actions"]["fail"], "also": [{"insert": "audit", "optional": True, "values": {"why": "x"}}]}
}


@pytest.mark.parametrize(
    "audit, kept, note",
    [
        (None, False, []),
        (RealTable("public", "audit", True, {"why": RealColumn("why")}), True, []),
        (RealTable("public", "AUDIT", True, {"WHY": RealColumn("WHY")}), True, None),
        (RealTable("public", "audit", True, {}), False, [("audit", "is left alone: it has no column 'why'")]),
        (
            RealTable("public", "audit", True, {"why": RealColumn("why", insertable=False)}),
            False,
            [("audit", "is left alone: the role may not INSERT into 'why'")],
        ),
    ],
)
def test_optional_insert_is_left_out_where_its_table_cannot_take_it(
    audit: RealTable | None, kept: bool, note: list[tuple[str, str]] | None
) -> None:
    profile = queue(actions=AUDITED)
    spelling = spell(table(), *([audit] if audit else []), profile=profile)
    spelled = spelling.applied_to(profile)
    assert bool(spelled.actions["fail"].also) is kept
    assert ("audit" in {name.casefold() for name in spelled.tables}) is kept
    assert note is None or list(spelling.notes()) == note
