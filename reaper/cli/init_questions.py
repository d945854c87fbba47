"""The questions of `reaper init` on a terminal: about what rows and names do not show for certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import click

from reaper.common.terminal import clipped, say, shown
from reaper.common.time_zones import zone_name
from reaper.proposal.own_table import OwnTable
from reaper.proposal.propose import Proposal
from reaper.proposal.zones import ZoneOfMoments

_MOST_OF_A_VALUE = 60


def choose(text: str, options: Sequence[str], default: str | None) -> str:
    """One of these texts, by its number: they are other people's, and are shown spelled out and cut."""
    say(text)
    for number, option in enumerate(options, 1):
        say(f"  {number}. {clipped(shown(option), _MOST_OF_A_VALUE)}")
    number = click.prompt(
        "Number",
        type=click.IntRange(1, len(options)),
        default=options.index(default) + 1 if default in options else None,
        err=True,
    )
    return options[number - 1]


def ask_about(table: OwnTable) -> Proposal:
    """The proposal with the answers to its questions."""
    answers = dict[str, str]()
    proposal = table.propose(answers)
    while open_questions := [one for one in proposal.questions if one.name not in answers and one.options]:
        first = open_questions[0]
        answers[first.name] = choose(first.text, first.options, first.default)
        proposal = table.propose(answers)
    return proposal


def ask_zone(zone: ZoneOfMoments | None, what: str) -> ZoneOfMoments | None:
    """The same, with the zone that was named. Enter leaves it open."""
    if zone is None or zone.certain:
        return zone
    columns = ", ".join(f"{table}.{column}" for table, column in zone.columns)
    say(f"{what}: in which zone are moments without one ({columns})? Enter: not known; they are read as UTC.")
    said = click.prompt("Zone", default="", show_default=False, value_proc=_zone, err=True)
    return replace(zone, said=said) if said else zone


def _zone(text: str) -> str:
    try:
        return zone_name(text.strip()) if text.strip() else ""
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
