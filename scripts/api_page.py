"""Writes docs/reference/api.md from the API's own description.

api_page.py           write the page
api_page.py --check   fail when the page is not current
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from pages import REFERENCE, write_or_check

from reaper.observers.history import History
from reaper.observers.metrics import Metrics
from reaper.observers.status import Status
from reaper.scheduling.scheduler import Supervisor
from reaper.web import AdminService
from reaper.web.app import make_app

PAGE = REFERENCE / "api.md"
_ADDRESS = "http://127.0.0.1:9469"
_HEAD = """\
# HTTP API

<!-- Made by scripts/api_page.py from the API's own description: change that, and run the script again. -->

A running daemon serves this description at `/api/openapi.json`.

Everyone who reaches the port may read, and may ask for a dry run. A request that changes something needs a token. The
file that `REAPER_HTTP_TOKEN_FILE` names holds the tokens; the examples below expect a token in `$TOKEN`. Durations are
seconds.
Points in time are ISO 8601, by the database's clock. An error is `{"detail": "one clear sentence"}`, with one of these
statuses:

"""

_TOKEN = ("", " (with a token)", " (with a token, unless it is a dry run)")
"""How an operation speaks of the token, by the number of its alternatives."""

Document = Mapping[str, Any]


class Page:
    """The description as Markdown."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def text(self) -> str:
        return "\n".join([*self._lines()]).rstrip() + "\n"

    def _lines(self) -> Iterator[str]:
        yield _HEAD + self._common()
        operations = [
            (method, path, operation)
            for path, methods in self._document["paths"].items()
            for method, operation in methods.items()
        ]
        for tag in self._document["tags"]:
            yield f"\n## {tag['name'].capitalize()}\n\n{tag['description']}"
            for method, path, operation in operations:
                if tag["name"] in operation["tags"]:
                    yield from self._operation(method, path, operation)
        yield "\n## Answers"
        for name, schema in sorted(self._document["components"]["schemas"].items()):
            yield from self._schema(name, schema)

    def _common(self) -> str:
        """A table of the responses that all endpoints share."""
        paths = self._document["paths"].values()
        common = {
            code: self._resolved(answer)["description"]
            for methods in paths
            for operation in methods.values()
            for code, answer in operation["responses"].items()
            if "$ref" in answer
        }
        return "\n".join(
            [
                "| status | meaning |",
                "|---|---|",
                *(f"| {code} | {description} |" for code, description in sorted(common.items())),
            ]
        )

    def _operation(self, method: str, path: str, operation: Document) -> Iterator[str]:
        token = _TOKEN[len(operation.get("security", ()))]
        yield f"\n### {operation['summary']}\n\n`{method.upper()} {path}`{token}"
        yield f"\n{_one_line(operation['description'])}"
        body = operation.get("requestBody")
        rows = [
            (
                parameter["name"],
                parameter["in"],
                parameter["schema"],
                parameter.get("required", False),
                parameter.get("description", ""),
            )
            for parameter in operation.get("parameters", ())
        ]
        if body:
            schema = self._resolved(body["content"]["application/json"]["schema"])
            required = schema.get("required", ())
            rows += [
                (name, "body", member, name in required, member.get("description", ""))
                for name, member in schema["properties"].items()
            ]
        if rows:
            yield "\n| parameter | in | value | meaning |\n|---|---|---|---|"
            for name, where, schema, needed, description in rows:
                yield f"| `{name}` | {where} | {self._kind(schema, needed=needed)} | {_cell(description)} |"
        yield f"\n```bash\n{self._curl(method, path, operation)}\n```\n"
        for code, answer in operation["responses"].items():
            if "$ref" not in answer:
                yield f"- **{code}**: {self._answer(answer)}"

    def _answer(self, answer: Document) -> str:
        kinds = [self._kind(kind.get("schema", {})) for kind in answer.get("content", {}).values()]
        description = answer["description"]
        prefix = "" if description == "Successful Response" else f"{description} "
        return f"{prefix}{', '.join(kinds)}".strip()

    def _curl(self, method: str, path: str, operation: Document) -> str:
        query = dict[str, object]()
        for parameter in operation.get("parameters", ()):
            example = _example(parameter)
            if parameter["in"] == "path":
                path = path.replace(f"{{{parameter['name']}}}", str(example))
            elif parameter.get("required"):
                query[parameter["name"]] = example
        words = ["curl -sS"]
        if operation.get("security"):
            words.append('-H "Authorization: Bearer $TOKEN"')
        if method != "get":
            words.append(f"-X {method.upper()}")
        if body := operation.get("requestBody"):
            schema = self._resolved(body["content"]["application/json"]["schema"])
            members = {
                name: _example(member) for name, member in schema["properties"].items() if _in_example(name, schema)
            }
            words.append(f"-H 'Content-Type: application/json' \\\n  -d '{json.dumps(members)}'")
        return f"{' '.join(words)} {_ADDRESS}{path}{f'?{urlencode(query)}' if query else ''}"

    def _schema(self, name: str, schema: Document) -> Iterator[str]:
        if "enum" in schema:
            yield f"\n### {name}\n\n{_one_line(schema.get('description', ''))} One of {_choices(schema['enum'])}."
            return
        yield f"\n### {name}\n\n{_one_line(schema.get('description', ''))}\n"
        yield "| member | value | meaning |\n|---|---|---|"
        for name, member in schema.get("properties", {}).items():
            yield f"| `{name}` | {self._kind(member)} | {_cell(member.get('description', ''))} |"

    def _kind(self, schema: Document, *, needed: bool = True) -> str:
        """A type in words, with its bounds and its default."""
        kind = self._bare(schema)
        bounds = [f"from {schema['minimum']:.0f}" if "minimum" in schema else "", _most(schema)]
        default = f"default `{json.dumps(schema['default'])}`" if schema.get("default") is not None else ""
        optional = "" if needed or default else "optional"
        return ", ".join(part for part in (kind, " ".join(filter(None, bounds)), default, optional) if part)

    def _bare(self, schema: Document) -> str:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        if "anyOf" in schema:
            return " or ".join(self._bare(choice) for choice in schema["anyOf"])
        if "enum" in schema or "const" in schema:
            return _choices(schema.get("enum") or [schema["const"]])
        if schema.get("type") == "array":
            return f"list of {self._bare(schema['items'])}"
        if schema.get("type") == "object" and isinstance(inner := schema.get("additionalProperties"), Mapping):
            return f"{self._bare(inner)} by name"
        kind = str(schema.get("type", "anything"))
        return {"string": "text", "integer": "whole number", "object": "anything by name"}.get(kind, kind)

    def _resolved(self, schema: Document) -> Document:
        if "$ref" not in schema:
            return schema
        target: Any = self._document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return dict(target)


def _in_example(name: str, schema: Document) -> bool:
    """Whether a member is part of an example: it is required or has a default."""
    member = schema["properties"][name]
    return name in schema.get("required", ()) or member.get("default") is not None


def _example(schema: Document) -> object:
    """The first example there is, or the default."""
    inner = schema.get("schema", {})
    for place in (schema, inner, *schema.get("anyOf", ())):
        if examples := place.get("examples"):
            return examples[0]
    return schema.get("default", inner.get("default"))


def _most(schema: Document) -> str:
    if "exclusiveMinimum" in schema:
        return f"above {schema['exclusiveMinimum']:g}, up to {schema['maximum']:g}"
    return f"to {schema['maximum']:.0f}" if "maximum" in schema else ""


def _choices(values: list[object]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


def page() -> str:
    """The whole document."""
    app = make_app(AdminService(Supervisor(), Status(), History()), Metrics().registry)
    return Page(app.openapi()).text()


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, page(), "api_page.py"))
