"""The table of results of `scripts/test.sh --systems`."""

from __future__ import annotations

import pytest

COLUMNS = (
    "system",
    "version",
    "killed worker found after",
    "live one spared by",
    "state by its own API",
    "requeued job ran",
    "late finish",
)
_results = pytest.StashKey[dict[str, dict[str, str]]]()


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> dict[str, dict[str, str]]:
    """What was found of each system, by column."""
    return request.config.stash.setdefault(_results, {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table as Markdown, as it stands in docs/systems/index.md."""
    found = config.stash.get(_results, {})
    if not found:
        return
    terminalreporter.section("public job systems")
    terminalreporter.write_line(f"| {' | '.join(COLUMNS)} |")
    terminalreporter.write_line(f"|{'---|' * len(COLUMNS)}")
    for name, row in sorted(found.items()):
        cells = [{"system": name, **row}.get(column, "not shown") for column in COLUMNS]
        terminalreporter.write_line(f"| {' | '.join(cells)} |")
