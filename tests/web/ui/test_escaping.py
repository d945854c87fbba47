"""Every place of every template that prints a value: whatever the value says, the page keeps its structure."""

from __future__ import annotations

import dataclasses
import enum
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from jinja2 import Environment, Template, nodes, pass_context
from markupsafe import Markup

from reaper.config import load
from reaper.daemon import main as process
from reaper.model import AuditRecord, JobCounts, LateSign, Outcome, ReapedJob, SweepReport
from reaper.scheduling.source_runner import RetrySchedule, SourceRunner
from reaper.source.factory import create_source
from reaper.staleness.downtime import DowntimeTracker
from reaper.sweep.breaker import Breaker
from reaper.web.ui import routes
from reaper.web.ui.formatting import Text, visible
from reaper.web.ui.job_list import JobFilter
from reaper.web.ui.job_page import JobPage, make_job_page
from reaper.web.ui.overview import OverviewPage, make_overview
from tests.support.protea import HOUR, Protea

TEMPLATES = sorted(file.name for file in files("reaper.web.ui").joinpath("templates").iterdir())
MARK = "zq9"
HOSTILE = f"{MARK}\"'><b data-evil=1 onclick=alert(1)></bdi></title><script>alert(1)</script>&lt;{{{{ 7*7 }}}}`"
HARMLESS = f"{MARK} harmless"


# --- what is printed where -----------------------------------------------------------------------------------


class RecordingEnvironment:
    """The page's own environment, which notes the value of each expression that a template prints."""

    def __init__(self) -> None:
        self.expressions: dict[str, nodes.Expr] = {}
        self.printed: dict[str, list[object]] = {}
        self.environment: Environment = routes.template_environment.__wrapped__()
        compile_template = self.environment.compile

        def watched(source: str, name: str | None = None, filename: str | None = None) -> CodeType:
            tree = self._watched(self.environment.parse(source, name, filename), name or "")
            return compile_template(tree, name, filename)

        self.environment.compile = watched  # type: ignore[assignment, method-assign]

        @pass_context
        def noted(_: object, value: object, place: str) -> object:
            self.printed[place].append(value)
            return value

        self.environment.filters["noted"] = noted
        for name in TEMPLATES:
            self.template(name)

    def template(self, name: str) -> Template:
        return self.environment.get_template(name)

    def render(self, name: str, values: Mapping[str, object]) -> str:
        return self.template(name).render(**values)

    def _watched(self, tree: nodes.Template, name: str) -> nodes.Template:
        for number, output in enumerate(tree.find_all(nodes.Output)):
            for part, node in enumerate(output.nodes):
                if isinstance(node, nodes.TemplateData):
                    continue
                place = f"{name}:{node.lineno} ({number}.{part})"
                self.expressions[place], self.printed[place] = node, []
                const = nodes.Const(place, lineno=node.lineno)
                noted = nodes.Filter(node, "noted", [const], [], None, None, lineno=node.lineno)
                output.nodes[part] = noted.set_environment(self.environment)  # type: ignore[call-overload]
        return tree


class PageStructure(HTMLParser):
    """A page without its words: tags, and the names of their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.seen: list[tuple[object, ...]] = []
        self.values: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, *(name for name, _ in attrs)))
        self.values += [value or "" for _, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.seen.append(("/", tag))

    def handle_comment(self, data: str) -> None:
        self.seen.append(("comment", data))

    def handle_data(self, data: str) -> None:
        self.values.append(data)


# --- values of every field -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ViewModelFactory:
    """Makes a view model all of whose text is `text`.

    `full`: lists have entries, and what may be None is there. `fixed`: fields, by name, that choose between parts of a
    template, and have these values instead.
    """

    text: str
    full: bool = True
    fixed: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def of(self, kind: Any, name: str = "") -> Any:
        if name in self.fixed:
            return self.fixed[name]
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if origin in (typing.Union, types.UnionType):
            return self.of(next(each for each in inner if each is not type(None)), name) if self.full else None
        if kind is Text:
            return Text(self.text, f"{self.text} in full" if self.fixed.get("cut", True) else self.text)
        if kind is JobFilter:
            return JobFilter(self.text, self.text, str(self.fixed.get("filtered", "stale")), 2)
        if dataclasses.is_dataclass(kind):
            hints = typing.get_type_hints(kind)
            make: Any = kind
            return make(**{field.name: self.of(hints[field.name], field.name) for field in dataclasses.fields(kind)})
        if origin is tuple and Ellipsis not in inner:
            return tuple(self.of(each, name) for each in inner)
        if origin is not None and issubclass(origin, Mapping):
            return {"stuck": self.text, "stale": self.text, "running": self.text}
        if origin is not None and issubclass(origin, Sequence):
            return [self.of(inner[0])] * 2 if self.full or name in ("sources", "lanes") else []
        return self._simple(kind)

    def _simple(self, kind: Any) -> object:
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return next(iter(kind))
        return {str: self.text, bool: self.full, int: 1234, float: 55.5}[kind]


FIXED: Sequence[Mapping[str, object]] = [
    {},
    *({"tone": tone} for tone in ("bad", "hold")),
    *({"verdict": verdict} for verdict in ("stale", "spared", "unknown", "young", "ended")),
    *(
        {"outcome": outcome, "outcomes": [outcome], "last_outcome": outcome}
        for outcome in ("done", "standby", "held", "halted", "stopped", "none")
    ),
    *({"sort": sort} for sort in ("start", "sign", "late", "end", "now", "silent")),
    {"problems": []},
    {"audits": []},
    {"halted": None},
    {"runs": False, "actions": ["fail"]},
    {"runs": False, "by": None},
    {"by": None},
    {"iso": None},
    {"jobs": []},
    {"jobs": [], "unread": []},
    {"jobs": [], "unread": [], "filtered": "stuck"},
    {"filtered": "running"},
    {"filtered": "stuck"},
    {"kind": None, "link": None},
    {"link": None},
    {"known": None},
    {"known": None, "ended": None},
    {"timeline": None},
    {"census": None},
    {"reaped": 0},
    {"totals": None},
    {"late": []},
    {"cut": False},
    {"audits": [], "by": None},
]
"""Values that choose between parts of a template."""


def renderings(text: str) -> Iterator[tuple[str, dict[str, object]]]:
    for fixed in FIXED:
        for full in (True, False) if len(fixed) < 2 else (True,):
            values = ViewModelFactory(text, full, fixed)
            for live, can_change in ((False, True), (True, False)):
                frame: dict[str, object] = {"live": live, "can_change": can_change, "read_only_because": text}
                yield "board.html", {"board": values.of(OverviewPage), **frame}
                yield "job.html", {"board": values.of(JobPage), **frame}
                missing = {"version": text, "host": text, "problem": Text(text, text)}
                yield "missing.html", {"board": missing, **frame}


@pytest.fixture(scope="module")
def watched() -> RecordingEnvironment:
    """After every page has been printed with hostile values, and with harmless ones."""
    made = RecordingEnvironment()
    for (template, hostile), (_, harmless) in zip(renderings(HOSTILE), renderings(HARMLESS), strict=True):
        there, here = made.render(template, hostile), made.render(template, harmless)
        for one, other in zip(PageStructure(there).seen, PageStructure(here).seen, strict=True):
            assert one == other, template
    return made


def test_hostile_text_changes_the_structure_of_no_page(watched: RecordingEnvironment) -> None:
    pages = [PageStructure(watched.render(*one)) for one in renderings(HOSTILE)]
    assert all("data-evil" not in names for page in pages for names in page.seen)
    assert {names for page in pages for names in page.seen if names[0] == "script"} == {("script", "type", "src")}
    assert any(HOSTILE in value for page in pages for value in page.values), "escaped once, and not twice"


def test_every_place_of_every_template_was_tried_with_hostile_text(watched: RecordingEnvironment) -> None:
    """What prints text from elsewhere printed hostile text; the rest are numbers, and words of the template itself."""
    never = [place for place, values in watched.printed.items() if not values]
    assert not never, "printed by no rendering here: add one to FIXED"
    for place, values in watched.printed.items():
        if not any(MARK in str(value).lower() for value in values):
            odd = [
                v for v in values if not isinstance(v, (int, float)) and not re.fullmatch(r"[\w .,:+#/%…·-]*", str(v))
            ]
            assert not odd or is_drawing(watched.expressions[place]), f"{place} prints {odd[0]!r}"


def is_drawing(printed: nodes.Expr) -> bool:
    """Whether it is the call of a macro that only draws a shape: what it prints is tried in the macro."""
    called = printed.node if isinstance(printed, nodes.Call) else None
    name = called.name if isinstance(called, nodes.Name) else called.attr if isinstance(called, nodes.Getattr) else ""
    return name in {"shape", "outcome", "outcome_shape"}


def test_page_is_printed_by_the_environment_that_was_tried(watched: RecordingEnvironment) -> None:
    for template, values in renderings(HOSTILE):
        assert routes.render(template, **values).decode() == watched.render(template, values)
        return


# --- what is written in the templates, and beside them -------------------------------------------------------

HARMLESS_FILTERS = frozenset(
    {"attr", "capitalize", "join", "length", "list", "map", "max", "min", "replace", "sentence", "shown", "urlencode"}
)
"""None of them declares text to be HTML: `safe`, `tojson`, `xmlattr` and `forceescape` would be others."""


def test_escaping_is_switched_on_everywhere_and_nothing_is_declared_to_be_html(watched: RecordingEnvironment) -> None:
    assert watched.environment.autoescape is True
    assert watched.environment.finalize is None
    plain: Environment = routes.template_environment.__wrapped__()
    for name in TEMPLATES:
        source = files("reaper.web.ui").joinpath("templates", name).read_text()
        tree = plain.parse(source)
        used = {node.name for node in tree.find_all(nodes.Filter)}
        assert used <= HARMLESS_FILTERS, f"{name}: {used - HARMLESS_FILTERS}"
        assert not list(tree.find_all((nodes.MarkSafe, nodes.MarkSafeIfAutoescape, nodes.ScopedEvalContextModifier)))
        assert "autoescape" not in source
    ours = {name: plain.filters[name] for name in ("shown", "sentence")}
    assert {name: type(made(HOSTILE)) for name, made in ours.items()} == {"shown": str, "sentence": str}


def test_no_module_declares_text_to_be_html() -> None:
    package = Path(str(files("reaper")))
    for path in package.rglob("*.py"):
        assert not re.search(r"\b(Markup|markupsafe|__html__|mark_safe)\b", path.read_text()), path


def test_values_stand_in_no_script_style_or_handler_and_quoted_in_attributes() -> None:
    """Where escaping is not enough."""
    for name in TEMPLATES:
        source = files("reaper.web.ui").joinpath("templates", name).read_text()
        assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|srcdoc|<iframe|<object|<base", source), name
        assert not re.search(r"<script[^>]*\{\{", source), name
        assert not re.search(r"\s[\w-]+=\{\{", source), f"{name}: an attribute without quotes"
        assert not re.search(r"='[^'\"]*\{\{", source.replace("\n", " ").replace("attribute='name'", "")), name


MAKES_HTML = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|\beval\(|new Function|srcdoc"
)


def test_scripts_of_the_page_make_no_html_of_text() -> None:
    for file in files("reaper.web.ui").joinpath("static").iterdir():
        if file.name.endswith(".js"):
            found = MAKES_HTML.findall(file.read_text())
            assert not found, f"{file.name}: {found}"


# --- from the database to the page ---------------------------------------------------------------------------

EVIDENCE = ("reason", "message", "judged_at", "witness", "action", "operator", "sweep_id", "host")
"""What the page tells of an audit event."""


def daemon_of(protea: Protea) -> process.Daemon:
    """It has all its parts, and does not sweep."""
    settings = load({}, {"REAPER_DATABASE_URL": protea.url, "REAPER_HTTP_PORT": "0", "REAPER_RESTART_GRACE": "0",
                         "REAPER_INTERVAL_SECONDS": "1h"})  # fmt: skip
    made = process.Daemon(settings)
    source = create_source(settings, settings.sources["default"])
    breaker = Breaker.from_settings(settings)
    made.supervisor.add(SourceRunner(source, DowntimeTracker(0), RetrySchedule(3600), breaker, 1000, "host", []))
    made.history.set_sources(["default"])
    made.status.set_sources(["default"], 3600)
    made.service.configure(settings)
    return made


def markup_in(value: object) -> Iterator[object]:
    """What of a view model is declared to be HTML."""
    if isinstance(value, Markup) or hasattr(value, "__html__"):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from markup_in(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for each in (*value.keys(), *value.values()):
            yield from markup_in(each)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from markup_in(each)


EVIL = f"{HOSTILE}\u202e\x1b[2J"
SPELLED = f"{HOSTILE}\\u202e\\x1b[2J"
"""What would turn the writing round, or steer a terminal, is spelled out."""


def checked(template: str, board: object) -> str:
    """The page's text, escaped wherever it is."""
    assert not list(markup_in(board))
    html = routes.render(template, board=board, live=False, can_change=True, read_only_because=HOSTILE).decode()
    assert not re.findall(r".{80}[\u202e\x1b]", html)
    page = PageStructure(html)
    assert all("data-evil" not in names and names != ("b", "onclick") for names in page.seen)
    assert [names for names in page.seen if names[0] == "script"] == [("script", "type", "src")]
    return " ".join(page.values)


def test_whatever_a_database_and_people_say_is_escaped_on_every_page(protea: Protea) -> None:
    protea.connection.execute("ALTER TABLE job ALTER COLUMN status TYPE text")
    gone, evil = "00000000-0000-0000-0000-000000000000", {name: f"{EVIL} {name}" for name in EVIDENCE}
    stale, ended = protea.stale(operation=EVIL), protea.job(age=HOUR, status=EVIL, operation=EVIL)
    protea.event(stale, age=2 * HOUR, event="job.timeout", fields={**evil, "signs": {EVIL: EVIL}})
    protea.event(ended, age=HOUR, event="job.timeout", fields=evil)
    protea.connection.execute("UPDATE job_event SET level = 'error' WHERE event = 'job.timeout'")
    daemon = daemon_of(protea)
    history = daemon.history
    jobs = [ReapedJob((job,), EVIL, EVIL, 9 * HOUR, HOUR, EVIL, EVIL, {}, HOSTILE) for job in (ended, gone)]
    history.attribute("by an operator", EVIL)
    history.reaped("default", "by an operator", jobs)
    signs = [
        LateSign((job,), EVIL, EVIL, HOSTILE, HOUR, EVIL, what, EVIL, HOSTILE, EVIL, EVIL, end)
        for job in (ended, gone)
        for what, end in (("event", False), ("status", True), ("status", False))
    ]
    census = JobCounts(2, 1, 1, None)
    history.swept(SweepReport("default", HOSTILE, Outcome.FAILED, 0.1, census, error=EVIL, late=tuple(signs)))
    daemon.status.swept(SweepReport("default", HOSTILE, Outcome.FAILED, 0.1, error=EVIL))
    history.changed(AuditRecord(EVIL, EVIL, EVIL, EVIL, EVIL, {EVIL: EVIL}))
    shown = checked("board.html", make_overview(daemon.service, JobFilter(None, None, "stuck")))
    for said in (f"is {SPELLED} instead of {SPELLED}", f"last heard from {SPELLED}", f"6 late; {SPELLED}"):
        assert said in shown
    assert checked("board.html", make_overview(daemon.service, JobFilter(None, HOSTILE, "running")))
    assert "There is no source" in checked("board.html", make_overview(daemon.service, JobFilter(EVIL)))
    own = checked("job.html", make_job_page(daemon.service, "default", stale))
    assert all(visible(value) in own for value in evil.values()), "its earlier ending is shown in full"
    own = checked("job.html", make_job_page(daemon.service, "default", ended))
    assert f"Its status is {SPELLED}." in own and all(visible(value) in own for value in evil.values())
    assert f"its status is {SPELLED} instead of {SPELLED}" in own
    left = checked("job.html", make_job_page(daemon.service, "default", gone))
    assert f"its status is {SPELLED} instead of {SPELLED}" in left
