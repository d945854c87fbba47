"""How a database spells what a profile names: tables, columns and values that differ from the profile only by case.

An exact match always wins. What differs by more than case is left as it is, for `reaper check` to report. Values are
decided by the labels of an enum and by CHECK constraints that list values; those of free text by a sample of the values
that the column has, because nothing else shows them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from reaper.errors import SpellingUnclear
from reaper.profile import Insert, Profile
from reaper.profile.column_usage import Comparison, comparisons, possible_values, row_writes
from reaper.profile.corrections import Corrections, corrected_profile
from reaper.profile.real_tables import ColumnKind, RealColumn, RealTable, TableIdentity

TableColumn = tuple[str, str]
"""A table and one of its columns, by their names in the profile."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """How one database spells what one profile names: the differences, and the optional inserts that are left out.

    `left_out` are the tables of these inserts that cannot take them, each with the reason, or None where there is no
    such table; `denied`, those that could, with what the role may not do. `decided`: every table that is needed exists,
    and the column of states of the jobs is not an empty one of free text, so that this is final.

    `schemas` has, for each bare name of a table, as it is spelled, the schema whose table it means: statements name
    both, so that the name never leads elsewhere. `type_schemas` are those of types of extensions: a comparison of their
    values is found there. `identities` has the identity of each table, by its name as it is spelled. All three are
    empty where the server has no search path. `byte_columns` are the columns of bytes, by table, as they are spelled,
    and the most bytes of each. `column_kinds` are the kinds of columns with moments and durations, likewise.
    """

    corrections: Corrections = field(default_factory=Corrections)
    left_out: Mapping[str, str | None] = field(default_factory=dict)
    denied: Mapping[str, str] = field(default_factory=dict)
    decided: bool = False
    schemas: Mapping[str, str] = field(default_factory=dict)
    type_schemas: tuple[str, ...] = ()
    byte_columns: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    column_kinds: Mapping[str, Mapping[str, ColumnKind]] = field(default_factory=dict)
    identities: Mapping[str, TableIdentity] = field(default_factory=dict)

    def with_every_privilege(self) -> Spelling:
        """The same, as if the role might insert into every table."""
        return replace(self, denied={})

    def identities_in(self, profile: Profile) -> Mapping[str, TableIdentity]:
        """Those of the tables that this profile names, which is spelled so already: not of the inserts left out."""
        return {name: self.identities[name] for name in profile.columns() if name in self.identities}

    def applied_to(self, profile: Profile) -> Profile:
        """The profile as this database spells it."""
        corrected = self._corrected(profile)
        if not self.byte_columns and not self.column_kinds:
            return corrected
        return corrected.on_database(self.byte_columns, self.column_kinds)

    def _corrected(self, profile: Profile) -> Profile:
        if not self.corrections and not self.left_out and not self.denied:
            return profile
        table = profile.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"name"})
        for action in table["actions"].values():
            if "also" in action:
                action["also"] = [step for step in action["also"] if not self._leaves_out(step)]
        spelled = {**corrected_profile(profile, table, self.corrections), "name": profile.name}
        return Profile.model_validate(spelled).extending(profile.lineage).in_zone(profile.zone)

    def same_names(self, other: Spelling) -> bool:
        """Whether both make the same of a profile."""
        return replace(self, decided=other.decided) == other

    def _leaves_out(self, step: Mapping[str, object]) -> bool:
        return bool(step.get("optional")) and (step["insert"] in self.left_out or step["insert"] in self.denied)

    def notes(self) -> Iterator[tuple[str, str]]:
        """What differs from the profile, in words: subject and message."""
        for table, spelled in self.corrections.tables.items():
            yield table, f"the database spells this table {spelled!r}"
        for (table, column), spelled in self.corrections.columns.items():
            yield f"{table}.{column}", f"the database spells this column {spelled!r}"
        for (table, column), values in _by_column(self.corrections.values).items():
            yield f"{table}.{column}", f"the database spells these values in another case: {', '.join(values)}"
        for table, why in (*self.left_out.items(), *self.denied.items()):
            if why is not None:
                yield table, f"is left alone: {why}"


def _by_column(values: Mapping[tuple[str, str, str], str]) -> Mapping[TableColumn, list[str]]:
    by_column = defaultdict[TableColumn, list[str]](list)
    for (table, column, value), spelled in values.items():
        by_column[table, column].append(f"{value} is {spelled}")
    return by_column


class SampledColumn(NamedTuple):
    """A column whose values are to be sampled, by its real names: the values in the rows that are newest by the columns
    `newest_by`, which have an index, or in any rows; and, where the column is `indexed`, those of `texts` that exist.

    `schema` is that of the table, where its name does not have it and the server looks such names up along a path.
    """

    schema: str | None
    table: str
    column: str
    newest_by: Sequence[str]
    indexed: bool
    texts: Sequence[str]


Sampler = Callable[[SampledColumn], Collection[str]]
"""Reads a sample of the values of a column, each once."""


def without_optional_inserts(profile: Profile) -> Spelling:
    """The spelling that leaves out every optional insert, and is the profile's own otherwise."""
    return Spelling(left_out={step.table: None for step in _optional_inserts(profile)})


def _optional_inserts(profile: Profile) -> Iterator[Insert]:
    steps = (step for action in profile.actions.values() for step in action.also)
    return (step for step in steps if isinstance(step, Insert) and step.optional)


def spelling_of(profile: Profile, tables: Collection[RealTable], sample: Sampler) -> Spelling:
    """The spelling of a profile in a database with these tables.

    Raises SpellingUnclear with everything that cannot be decided: names that two tables, columns or values have in
    other cases, and values to be written in a case that the others of the column do not tell.
    """
    return _Match(profile, tables, sample).spelling()


@dataclass(slots=True)
class _Uses:
    """The texts that a profile compares one column with, or writes to it, each with its keys in the file."""

    running: list[str] = field(default_factory=list)
    compared: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    @property
    def all(self) -> list[str]:
        return list(dict.fromkeys((*self.compared, *self.written)))


class _Match:
    """Matches one profile with the tables of one database. Use `spelling_of`."""

    def __init__(self, profile: Profile, tables: Collection[RealTable], sample: Sampler) -> None:
        self._profile, self._candidates, self._sample = profile, tables, sample
        self._tables: dict[str, RealTable] = {}
        self._corrections = Corrections()
        self._problems: list[str] = []
        self._nothing_found = False

    def spelling(self) -> Spelling:
        for name, columns in sorted(self._profile.columns().items()):
            self._match_table(name)
            for column in sorted(columns):
                self._match_column(name, column)
        for (table, column), uses in _uses(self._profile).items():
            if (real := self._column(table, column)) is not None:
                self._match_values(table, real, column, uses)
        self._problems += self._array_keys()
        if self._problems:
            raise SpellingUnclear(*self._problems)
        optional = {step.table for step in _optional_inserts(self._profile)}
        decided = self._profile.columns().keys() <= {*self._tables, *optional} and not self._nothing_found
        left_out = dict(self._left_out())
        return Spelling(
            self._corrections,
            left_out,
            dict(self._denied(left_out)),
            decided,
            {self._corrections.table(name): schema for name in self._tables if (schema := self._schema(name))},
            tuple(sorted(set(self._type_schemas()))),
            dict(self._byte_columns()),
            dict(self._column_kinds()),
            {self._corrections.table(name): table.identity for name, table in self._tables.items() if table.identity},
        )

    def _array_keys(self) -> list[str]:
        table = self._profile.jobs.table
        columns = (self._column(table, name) for name in self._profile.jobs.key)
        return [
            f"{table}.{column.name} is an array, and part of jobs.key: keys of arrays are not supported"
            for column in columns
            if column and column.is_array
        ]

    def _schema(self, name: str) -> str | None:
        """The schema that a statement names beside this name of a table, which has none itself."""
        table = self._tables[name]
        return table.schema if table.has_path and "." not in name else None

    def _byte_columns(self) -> Iterator[tuple[str, dict[str, int]]]:
        for name, columns in self._profile.columns().items():
            real = (self._column(name, column) for column in columns)
            if of_bytes := {column.name: column.most_bytes for column in real if column and column.most_bytes}:
                yield self._corrections.table(name), of_bytes

    def _column_kinds(self) -> Iterator[tuple[str, dict[str, ColumnKind]]]:
        for name, columns in self._profile.columns().items():
            real = (self._column(name, column) for column in columns)
            if kinds := {column.name: column.kind for column in real if column and column.kind}:
                yield self._corrections.table(name), kinds

    def _type_schemas(self) -> Iterator[str]:
        for name, columns in self._profile.columns().items():
            types = (self._column(name, column) for column in columns)
            yield from (column.operators_in for column in types if column and column.operators_in)

    # --- names -----------------------------------------------------------------------------------------------

    def _match_table(self, name: str) -> None:
        exact = next((table for table in self._candidates if table.is_named(name)), None)
        others = [table for table in self._candidates if table.is_named_in_another_case(name)]
        if exact is None and len(others) > 1:
            spelled = sorted(table.spelled(name) for table in others)
            self._problems.append(
                f"{name}: there is no such table, and {_listed(spelled)} differ from it only by case: "
                "name the one that is meant in the profile"
            )
        elif exact is not None or others:
            table = self._tables[name] = exact or others[0]
            if exact is None:
                self._corrections.tables[name] = table.spelled(name)

    def _match_column(self, table: str, name: str) -> None:
        real = self._tables.get(table)
        if real is None or name in real.columns:
            return
        others = [column for column in real.columns if column.casefold() == name.casefold()]
        if len(others) > 1:
            self._problems.append(
                f"{table}.{name}: there is no such column, and {_listed(others)} differ from it only by case: "
                "name the one that is meant in the profile"
            )
        elif others:
            self._corrections.columns[table, name] = others[0]

    def _column(self, table: str, name: str) -> RealColumn | None:
        real = self._tables.get(table)
        return real.columns.get(self._corrections.column(table, name)) if real else None

    # --- values ----------------------------------------------------------------------------------------------

    def _match_values(self, table: str, real: RealColumn, column: str, uses: _Uses) -> None:
        subject = (table, column)
        if real.allowed is not None:
            for text in uses.all:
                self._match_value(subject, uses, text, real.allowed, style=None, tolerant=True)
        elif real.is_text and real.readable:
            # Texts that are only written tell nothing about their column, except in a log: its entries have a state.
            if uses.compared:
                values = self._sampled_values(table, real, uses)
                self._match_by_sample(subject, uses, values, tolerant=real.ignores_case)
            elif self._profile.jobs.log and table == self._profile.jobs.table:
                self._match_written(subject, uses, self._sampled_values(table, real, uses))

    def _match_written(self, subject: TableColumn, uses: _Uses, values: Collection[str]) -> None:
        style = _common_style(values)
        if style is None:
            return
        for text in uses.written:
            if text not in values:
                self._correct(subject, text, style(text))

    def _sampled_values(self, table: str, real: RealColumn, uses: _Uses) -> Collection[str]:
        key = self._profile.jobs.key if table == self._profile.jobs.table else ()
        columns = [column for name in key if (column := self._column(table, name))]
        can_order = len(columns) == len(key) > 0 and columns[0].leads_index and all(c.readable for c in columns)
        return self._sample(
            SampledColumn(
                self._schema(table),
                self._corrections.table(table),
                real.name,
                [column.name for column in columns] if can_order else (),
                real.leads_index,
                _in_every_case(uses.all),
            )
        )

    def _match_by_sample(self, subject: TableColumn, uses: _Uses, values: Collection[str], *, tolerant: bool) -> None:
        """The values by which a job claims to be running decide; without one of them, the other values do."""
        for texts in (uses.running or uses.compared, uses.all):
            if any(text in values for text in texts):
                return
            if in_other_case := _in_other_case(texts, values):
                break
        style = _common_style(in_other_case or values)
        if not in_other_case and style is None:
            self._nothing_found |= bool(uses.running) and not values
            return
        for text in uses.all:
            self._match_value(subject, uses, text, values, style, tolerant=tolerant)

    def _match_value(
        self,
        subject: TableColumn,
        uses: _Uses,
        text: str,
        existing: Collection[str],
        style: _Style | None,
        *,
        tolerant: bool,
    ) -> None:
        """With `tolerant`, a text whose case cannot be determined stays as it is."""
        if text in existing:
            return
        others = _in_other_case([text], existing)
        place = f"{'.'.join(subject)}: {uses.places[text]}"
        if len(others) > 1:
            self._problems.append(
                f"{place}: {text!r} is not there, and {_listed(others)} differ from it only by case: "
                "name the one that is meant in the profile"
            )
        elif others:
            self._correct(subject, text, others[0])
        elif style is not None:
            self._correct(subject, text, style(text))
        elif not tolerant:
            self._problems.append(
                f"{place}: the case of {text!r} cannot be determined from the values that the column has "
                f"({_listed(sorted(existing))}): set it in the profile"
            )

    def _correct(self, subject: TableColumn, text: str, spelled: str) -> None:
        if spelled != text:
            self._corrections.values[(*subject, text)] = spelled

    # --- optional steps --------------------------------------------------------------------------------------

    def _left_out(self) -> Iterator[tuple[str, str | None]]:
        for step in _optional_inserts(self._profile):
            if step.table not in self._tables:
                yield step.table, None
            elif missing := [name for name in step.values if self._column(step.table, name) is None]:
                yield step.table, f"it has no column {_listed(missing)}"

    def _denied(self, left_out: Collection[str]) -> Iterator[tuple[str, str]]:
        """Of the inserts that their tables can take: those that the role may not make."""
        for step in _optional_inserts(self._profile):
            if step.table in left_out:
                continue
            columns = {name: column for name in step.values if (column := self._column(step.table, name))}
            given = {column.name for column in columns.values()}
            omitted = (column for column in self._tables[step.table].columns.values() if column.name not in given)
            if denied := [name for name, column in columns.items() if not column.insertable]:
                yield step.table, f"the role may not INSERT into {_listed(denied)}"
            elif denied := [column.name for column in omitted if not column.omittable]:
                yield step.table, f"the role may not use the sequence of {_listed(denied)}"


def _uses(profile: Profile) -> Mapping[TableColumn, _Uses]:
    uses = defaultdict[TableColumn, _Uses](_Uses)
    for comparison in comparisons(profile):
        if isinstance(comparison.value, str) and _is_equality(comparison):
            use = uses[comparison.table, comparison.column]
            use.compared.append(comparison.value)
            use.running += [comparison.value] if comparison.says_running else []
            use.places.setdefault(comparison.value, comparison.place)
    for write in row_writes(profile):
        for column, value in write.values.items():
            for text in possible_values(value):
                if isinstance(text, str):
                    use = uses[write.table, column]
                    use.written.append(text)
                    use.places[text] = f"{write.place}.{column}"
    return uses


def _is_equality(comparison: Comparison) -> bool:
    return not comparison.place.endswith(("less_than", "greater_than"))


# --- case ------------------------------------------------------------------------------------------------------------

_Style = Callable[[str], str]
_STYLES: Sequence[_Style] = (str.lower, str.upper, str.capitalize)


def _in_every_case(texts: Iterable[str]) -> list[str]:
    """The texts themselves, and each in every style."""
    return list(dict.fromkeys(spelled for text in texts for spelled in (text, *(style(text) for style in _STYLES))))


def _in_other_case(texts: Iterable[str], values: Iterable[str]) -> list[str]:
    """The values that differ from one of the texts only by case."""
    folded = {text.casefold() for text in texts}
    return [value for value in values if value.casefold() in folded]


def _common_style(texts: Iterable[str]) -> _Style | None:
    """The style of all of the texts that have letters; None without one, or when they differ."""
    with_letters = [text for text in texts if text.lower() != text.upper()]
    styles = (style for style in _STYLES if all(style(text) == text for text in with_letters))
    return next(styles, None) if with_letters else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
