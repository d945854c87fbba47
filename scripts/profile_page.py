"""Writes docs/reference/profile.md from the profile vocabulary and the texts in profile_texts.toml.

profile_page.py           write the page
profile_page.py --check   fail when the page is not current

The vocabulary says which keys there are, which are required, and their defaults; profile_texts.toml says in words what
each does. A key without a text, and a text without a key, make this script fail.
"""

from __future__ import annotations

import sys
import tomllib
from collections import deque
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pages import REFERENCE, cell, table, write_or_check
from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from reaper.model import StoredTime
from reaper.profile import Profile, resolve, shipped
from reaper.profile.times import as_written

PAGE = REFERENCE / "profile.md"
TEXTS = Path(__file__).with_name("profile_texts.toml")

_HEAD = """\
# Profile vocabulary

<!-- Made by scripts/profile_page.py from the vocabulary and scripts/profile_texts.toml: change those, and run the
     script again. -->

A profile tells the reaper how one job system works: where its jobs are, what "running" means, which signs of life
there are, and what to do with a stale job. A profile is data. A profile of your own is a table `[profiles.NAME]` in the
configuration file; a source uses it with `profile = "NAME"`.

- A profile is complete, or it says `extends = "OTHER"` and only what differs. Tables are merged key by key. A list and
  the value of a column are replaced as a whole.
- A key that does not exist is an error. The message names the nearest key.
- Names of tables and columns are always quoted in SQL, and values are always bound. Only `sql` reaches the database as
  it is written: review it before you use a profile that you did not write.
- A name or a value that the database has only in another case needs no lines: see [Case](#case).
- `reaper check` compares a profile with the real tables. `reaper sql` prints the statements that come of it.

The step-by-step guide is [Watch your own table](../how-to/your-own-table.md).

## Case

Tables, columns and values that differ from the profile only by case are taken as the database spells them, in every
condition, action, purge and fence. An exact match always wins.

| what | decided by |
|---|---|
| tables and columns | the catalog |
| values of an enum, or of a column whose CHECK lists values | the labels, the list |
| values of free text | a sample: the thousand newest rows, and what an index on the column finds |
| a state that is only written, in a log | the case that all sampled values of the column have |
| other texts that are only written | the profile |

In free text the case of the values that say "running" decides: all lower, all upper, or only the first letter upper.
Without one of them, it is the case of the column's other values.

It is decided once, when the source first meets its database, and again at a reload. What is written into the table
after that changes nothing. A command, and a Celery task, decides for itself when it begins. `reaper check` notes it,
the daemon logs it, and `reaper config show` has a line `spelling`.

Two candidates that both differ only by case are an error, and so is a value to be written whose case cannot be
determined from the column. The error names the key to set in the profile. A column that the role may not read is not
sampled.

## Names in your own SQL

On PostgreSQL, the statements of the reaper look names up in `pg_catalog` alone, whatever the role's `search_path` is:
in any other schema of a path, another role might have put a function or an operator of the same name. Tables of the
profile are found once, along the role's own path, and named with their schema from then on.

In `sql`, write the schema of each function, operator, type and table that is not PostgreSQL's own: `app.is_dead(…)`,
`OPERATOR(app.=)`. Or name the schemas: with `search_path = ["app"]`, in `[sources.NAME]` or in the profile, the
statements of the profile look into `pg_catalog` first, then into `app`; the source's list counts where both have one.
Name only schemas in which no other role may CREATE. `reaper check` says which names are found there, and which roles
may create something.

A schema with the type of a column, where that is not PostgreSQL's own (an extension such as citext), is looked into in
the same way, because the operators that compare its values are there.

## Shipped profiles

Each of them is a file in [reaper/profiles](../../reaper/profiles/protea.toml) and an example of the vocabulary.
`NAME.sql` beside it has the tables for which it was written.

"""


def parts(profile: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """Each model of the vocabulary once, with its shortest path."""
    queue, seen = deque([("", profile)]), {profile}
    while queue:
        path, model = queue.popleft()
        yield path, model
        for name, field in model.model_fields.items():
            inside = f"{path}.{field.alias or name}".lstrip(".")
            for tag, inner in _models(field.annotation):
                if inner not in seen:
                    seen.add(inner)
                    queue.append((f"{inside}{tag}", inner))


def _models(annotation: Any, tag: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The models in a type annotation, each with its union tag (empty outside a union)."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        tag = next((mark.tag for mark in marks if isinstance(mark, Tag)), tag)
        yield from _models(inner, tag)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield tag, annotation
    else:
        for inner in get_args(annotation):
            yield from _models(inner, tag)


def default_of(field: FieldInfo) -> str:
    """The default as TOML, "required", or nothing."""
    if field.is_required():
        return "required"
    value = field.default
    value = as_written(value) if isinstance(value, StoredTime) else value
    value = value.value if isinstance(value, Enum) else value
    if value is PydanticUndefined or value is None or value in ((), {}, ""):
        return ""
    return f"`{str(value).lower()}`" if isinstance(value, bool) else f'`"{value}"`'


def texts() -> Mapping[str, Any]:
    """The texts of each part, by its path."""
    return tomllib.loads(TEXTS.read_text(encoding="utf-8"))


def problems(explanations: Mapping[str, Any]) -> Iterator[str]:
    """Where the vocabulary and its texts differ."""
    vocabulary = {
        path: {field.alias or name for name, field in model.model_fields.items()} for path, model in parts(Profile)
    }
    explained = {path: set(part["keys"]) for path, part in explanations["parts"].items()}
    for path in vocabulary.keys() | explained.keys():
        for key in vocabulary.get(path, set()) - explained.get(path, set()):
            yield f"{TEXTS.name} does not explain {path}.{key}"
        for key in explained.get(path, set()) - vocabulary.get(path, set()):
            yield f"{TEXTS.name} explains {path}.{key}, which is not a key"
    for name in set(shipped()) ^ set(explanations["shipped"]):
        yield f"{TEXTS.name} and the shipped profiles differ: {name}"


def page() -> str:
    """The whole document. Raises ValueError when a key or a profile is not explained."""
    explanations = texts()
    if differences := list(problems(explanations)):
        raise ValueError("\n".join(differences))
    rows = [
        (
            f"`{name}`",
            cell(profile["for"]),
            ", ".join(f"`{action}`" for action in resolve(name).action_names),
            cell(profile["not"]),
        )
        for name, profile in explanations["shipped"].items()
    ]
    models = dict(parts(Profile))
    written = [_HEAD + table(("profile", "what it is for", "actions", "what it cannot do"), rows)]
    for path, part in explanations["parts"].items():
        fields = {field.alias or name: field for name, field in models[path].model_fields.items()}
        keys = [
            (f"`{key}`", cell(value), default_of(fields[key]) if (path, key) != ("", "name") else "", cell(text))
            for key, (value, text) in part["keys"].items()
        ]
        example = f"\n```toml\n{part['example'].strip()}\n```\n" if "example" in part else ""
        written.append(
            f"## {part['title']}\n\n{part['text'].strip()}\n\n"
            f"{table(('key', 'value', 'default', 'meaning'), keys)}{example}"
        )
    return "\n".join(written)


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page(), "profile_page.py"))
