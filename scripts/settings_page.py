"""Writes docs/reference/settings.md from the settings' schema and the comments of config/reaper.toml.

settings_page.py           write the page
settings_page.py --check   fail when the page is not current

config/reaper.toml explains each setting; the schema says which there are, their defaults and their limits. A setting
without an explanation, an explanation without a setting, and a default that differs make this script fail.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pages import PROJECT, REFERENCE, cell, table, write_or_check
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from reaper.config.schema import RENAMED_SETTINGS, TABLE_SETTINGS, KindTable, PurgeTable, RawSettings, SourceTable

PAGE = REFERENCE / "settings.md"
FILE = PROJECT / "config" / "reaper.toml"

_HEAD = """\
# Settings

<!-- Made by scripts/settings_page.py from config/reaper.toml and the settings' schema: change those, and run the
     script again. -->

A setting is given by a command-line flag, an environment variable or the configuration file. A flag beats the
environment, the environment beats a systemd credential, a credential beats the file, and the file beats the default.
`reaper config show` prints every value that is in force and where it came from; `reaper config check` says whether the
daemon would accept a new file.

- The file is the one that `--config` or `REAPER_CONFIG` names, else `config/reaper.toml` in the working directory, else
  `/etc/reaper/reaper.toml`.
- The environment variable of a setting is `REAPER_` and the name in capitals, for example `REAPER_TIMEOUT_SECONDS`.
  A list is written with commas. A variable that is set to nothing counts as not set.
- A duration is a number of seconds, or text such as `45s`, `30m`, `6h`, `1h30m` or `2d`.
- A name that does not exist, in the file or as a `REAPER_` variable, is an error. The message names the nearest name.
- `resume_at_start` and `resume_window_seconds` are now called `close_interrupted_at_start` and
  `close_interrupted_window_seconds`. The old names, and their variables, are taken with a warning until the next
  release.
- Wrong settings are reported all at once. The exit status is then 78.
- `systemctl reload reaper` (or `kill -HUP`) makes a running daemon read the file again. The daemon refuses a file that
  is wrong, says why, and keeps the settings it had. It does not read the environment again.
- Secrets are never printed. Give them as files: `database_url_file`, `broker_url_file` and `http_token_file`, or the
  systemd credentials `database_url`, `broker_url` and `http_token`. A source's own credentials are
  `NAME.database_url` and `NAME.broker_url`.
- `PROTEA_TUNING__WORKER__REAPER_MAIN_TIMEOUT_SECONDS` and `PROTEA_TUNING__WORKER__REAPER_STALL_SECONDS` set
  `timeout_seconds` and `stall_seconds`, for operators of *protea* who know these names. Another name that begins with
  `PROTEA_TUNING__WORKER__REAPER_` is an error.
- `DATABASE_URL`, and `CELERY_BROKER_URL` or else `REDIS_URL`, serve sources with a profile of *vuls* that have no URL
  from a setting: see [vuls' own variables](../how-to/celery.md#vuls-own-variables). No other source looks at them.

[config/reaper.toml](../../config/reaper.toml) is the same list as a file to edit.
"""
_TABLES = """\
## Tables of the file

These exist only in the file. A value that a source does not set comes from the settings above.

Without a source nothing starts: most likely a URL was forgotten. `sources = []`, above the first `[section]`, says that
none is meant: the daemon runs and sweeps nothing, and the state of its supervisor is answered with 503 and the reason.

"""
_THRESHOLDS = """\
For a job's timeout and stall window the most specific value counts: the row's own column (if the profile names one),
then the kind within the source, then the kind, then the source, then `timeout_seconds` and `stall_seconds` from above.

"""
_TEXTS: Mapping[str, str] = {
    "kinds.NAME.timeout_seconds": "How long a job of this kind may run before it can become stale.",
    "kinds.NAME.stall_seconds": "How long a job of this kind may show no sign of life.",
    "sources.NAME.search_path": (
        "PostgreSQL: the schemas in which names in the profile's own `sql` are looked up, after `pg_catalog`. Replaces "
        "the profile's `search_path`; `[]` is none. See [Names in your own SQL](profile.md#names-in-your-own-sql)."
    ),
    "sources.NAME.kinds": "Thresholds of kinds in this source alone: `[sources.NAME.kinds.KIND]`.",
    "sources.NAME.purge": "Retention of finished jobs: `[sources.NAME.purge]`, below.",
    "sources.NAME.purge.cron": (
        "When the daemon purges, in UTC, with the meaning of crontab(5): minute, hour, day of the month, month, day of "
        "the week. Where both day fields are restricted, one of them must match. Without it the daemon never purges."
    ),
    "sources.NAME.purge.days_to_keep": "How many days a finished job is kept.",
    "sources.NAME.purge.batch_size": "How many jobs are deleted per transaction.",
}
"""Explanations of keys that have no comment of their own in the file."""

_FIRST_TABLE = "# ---- Thresholds of single kinds"
_WRONG: tuple[Any, ...] = ([], 0.5, "?")
"""Values that nearly every setting rejects; the error message then states what is expected."""
_SETTING = re.compile(r"#(?:   )?(\w+) = (.+)")
_RULER = re.compile(r"# ---- (.+?) -+")


@dataclass(frozen=True)
class Explanation:
    """A setting in the file, with its comment. `default` is the text in the file; None for an example."""

    section: str
    text: str
    default: str | None


def explanations_in_file() -> tuple[dict[str, str], dict[str, Explanation]]:
    """The introduction of each section, and each setting above the first table with the comment before it."""
    openings: dict[str, str] = {}
    explanations: dict[str, Explanation] = {}
    section, words = "", list[str]()
    for line in FILE.read_text(encoding="utf-8").split(_FIRST_TABLE)[0].splitlines():
        if ruler := _RULER.fullmatch(line):
            section, words = ruler[1], []
            openings[section] = ""
        elif setting := _SETTING.fullmatch(line):
            default = None if line.startswith("#   ") else setting[2]
            explanations.setdefault(setting[1], Explanation(section, " ".join(words), default))
        elif line.startswith("# "):
            words.append(line.removeprefix("# "))
        elif not line.strip():
            if words and section and not any(other.text == " ".join(words) for other in explanations.values()):
                openings[section] = " ".join([openings[section], *words]).strip()
            words = []
    return openings, explanations


def limits_of(field: FieldInfo) -> str:
    """The permitted values, taken from the error message for a wrong value."""
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    adapter = TypeAdapter[Any](kind)
    for wrong in _WRONG:
        try:
            adapter.validate_python(wrong)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            if match := re.search(r"expected (?:one of: )?(.+?)(?:, not .*)?$", message):
                text = match[1]
                if text == "the path of a file":
                    return "path"
                if text != "text" or wrong == "?":
                    return _listed(text) if "one of: " in message else text
    return ""


def _listed(choices: str) -> str:
    return ", ".join(f"`{choice}`" for choice in choices.split(", "))


def kind_of(field: FieldInfo) -> str:
    """The kind of value, in words."""
    inner = field.annotation
    if get_origin(inner) in (Union, UnionType):
        inner = next(option for option in get_args(inner) if option is not type(None))
        while get_origin(inner) is Annotated:
            field = FieldInfo(annotation=get_args(inner)[0], default=None)
            field.metadata = list(get_args(inner)[1:])
            inner = get_args(inner)[0]
    if inner is SecretStr:
        return "URL (secret)"
    return limits_of(field) or {"Path": "path"}.get(getattr(inner, "__name__", ""), "text")


def names(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The keys as spelled in the file, and their fields. Former names are left out."""
    for name, field in model.model_fields.items():
        if name not in RENAMED_SETTINGS:
            yield field.alias or name, field


def default_of(field: FieldInfo) -> str:
    """The default in TOML, as Markdown code; empty if there is none."""
    value = field.default
    if value is None or isinstance(value, BaseModel) or value == {}:
        return ""
    if isinstance(value, tuple):
        return "`[" + ", ".join(f'"{item}"' for item in value) + "]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def problems() -> list[str]:
    """The differences between the file and the schema, as messages."""
    scalars = {name: field for name, field in names(RawSettings) if name not in TABLE_SETTINGS}
    _, explanations = explanations_in_file()
    differences = [f"config/reaper.toml does not explain {name}" for name in scalars.keys() - explanations.keys()]
    differences += [
        f"config/reaper.toml explains {name}, which is not a setting" for name in explanations.keys() - scalars.keys()
    ]
    for name, explanation in explanations.items():
        if name in scalars and explanation.default is not None:
            value = tomllib.loads(f"value = {explanation.default}")["value"]
            value_in_file = getattr(RawSettings.model_validate({name: value}), _attribute(name))
            if value_in_file != scalars[name].default:
                differences.append(
                    f"config/reaper.toml says {name} = {explanation.default}, not {scalars[name].default!r}"
                )
    return differences


def _attribute(name: str) -> str:
    return next(
        attribute for attribute, field in RawSettings.model_fields.items() if (field.alias or attribute) == name
    )


def page() -> str:
    """The whole document. Raises ValueError when the file does not fit the schema."""
    if differences := problems():
        raise ValueError("\n".join(differences))
    openings, explanations = explanations_in_file()
    scalars = dict(names(RawSettings))
    parts = [_HEAD]
    for section, opening in openings.items():
        rows = [
            (
                f"`{name}`<br>`REAPER_{name.upper()}`",
                f"`{explanation.default}`" if explanation.default else "",
                cell(kind_of(scalars[name])),
                cell(explanation.text),
            )
            for name, explanation in explanations.items()
            if explanation.section == section
        ]
        words = f"{opening}\n\n" if opening else ""
        parts.append(f"## {section}\n\n{words}{table(('setting', 'default', 'value', 'what it does'), rows)}")
    parts.append(_TABLES + _THRESHOLDS + _table("kinds.NAME", KindTable, explanations))
    parts.append(_table("sources.NAME", SourceTable, explanations))
    parts.append(_table("sources.NAME.purge", PurgeTable, explanations))
    parts.append("### `[profiles.NAME]`\n\nA mapping of your own: see [Profile vocabulary](profile.md).\n")
    return "\n".join(parts)


def _table(path: str, model: type[BaseModel], explanations: Mapping[str, Explanation]) -> str:
    rows = []
    for name, field in names(model):
        text = (
            _TEXTS.get(f"{path}.{name}")
            or f"As `{name}` above, for this source alone. {_first_sentence(explanations[name].text)}"
        )
        value = "table" if name in ("kinds", "purge") else kind_of(field)
        rows.append((f"`{name}`", default_of(field), cell(value), cell(text)))
    return f"### `[{path}]`\n\n" + table(("key", "default", "value", "what it does"), rows)


def _first_sentence(text: str) -> str:
    """The first sentence of a text."""
    return re.split(r"(?<=[.:]) (?=[A-Z])", text)[0]


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page(), "settings_page.py"))
