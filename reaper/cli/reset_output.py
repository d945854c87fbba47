"""What `reaper reset` prints: what it would end, what it asks, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from reaper.cli.console import make_table, print_table, text_cell
from reaper.common import messages
from reaper.common.terminal import shown
from reaper.database.dump_command import dump_command
from reaper.liveness import TaskRemoval
from reaper.memory import HaltRecord
from reaper.operations.end_in_batches import BulkResult, bulk_summary
from reaper.operations.fail import ManualEnd
from reaper.operations.guards import describe_halt, halt_members
from reaper.operations.reset import ResetPlan, ResetResult
from reaper.source import Source
from reaper.sweep.summary import kept_lines

# --- before ----------------------------------------------------------------------------------------------------------


def print_overview(console: Console, plan: ResetPlan, *, dry_run: bool) -> None:
    source, first = plan.source, plan.first
    oldest = f", the oldest since {first[0].started or 'an unknown time'}" if first else ""
    console.print(shown(f"Source {source.name}: {plan.running} running job(s){oldest}."), style="bold", soft_wrap=True)
    for line in kept_lines(plan.kept, plan.kept_total):
        console.print(shown(line), soft_wrap=True)
    if not first:
        return
    kinds = make_table(["kind", "jobs"], right_aligned=["jobs"])
    for kind, jobs in plan.kinds:
        kinds.add_row(text_cell(kind or "none"), str(jobs))
    print_table(console, kinds)
    table = make_table(["job", "kind", "verdict", "why"], unfolded=["job", "verdict"])
    for job in first:
        table.add_row(
            text_cell(messages.format_key(job.key)),
            text_cell(job.kind),
            text_cell(job.verdict),
            text_cell(messages.describe_verdict(job)),
        )
    print_table(console, table)
    lines = [f"... and {plan.running - len(first)} more."] if plan.running > len(first) else []
    lines += [*_task_lines(plan.tasks, looked=True), *_without_task_lines(plan)]
    lines.append(f"To keep a copy first: {copy_command(source)}")
    if dry_run:
        lines.append("All of them would be ended, including live ones. Nothing was changed.")
    for line in lines:
        console.print(shown(line), soft_wrap=True)


def question(plans: Sequence[ResetPlan], named: str | None) -> tuple[str, str]:
    """The question, and the only answer to it that means yes."""
    if named is not None:
        return f"Type {named} to end all of them", named
    total = sum(plan.running for plan in plans)
    counts = " and ".join(f"{plan.running} job(s) of {plan.source.name}" for plan in plans if plan.running)
    return f"Type {total} to end {counts}", str(total)


def copy_command(source: Source) -> str:
    """A command that keeps a copy of the tables that a reset changes."""
    steps = source.profile.actions["fail"].also
    tables = dict.fromkeys([source.profile.jobs.table, *(step.table for step in steps)])
    return dump_command(source.engine.url, tables, f"before-reset-{source.name}.sql")


# --- after -----------------------------------------------------------------------------------------------------------


def result_lines(plan: ResetPlan, result: ResetResult | None, halt: HaltRecord | None) -> Iterator[str]:
    """What became of one source. None: it was not begun."""
    if result is None or not plan.running:
        return
    yield f"Ended {result.ended.reaped} job(s) in source {plan.source.name}."
    if result.ended.stopped and halt is not None:
        yield f"The reaper was {describe_halt(halt)} meanwhile."
    yield from bulk_summary(result.ended)
    if result.ended.reaped:
        yield from _task_lines(result.tasks, looked=False)
        yield from _without_task_lines(plan)


def document(
    plan: ResetPlan, decision: ManualEnd, result: ResetResult | None, halt: HaltRecord | None, *, dry_run: bool
) -> dict[str, object]:
    """`halt` is the one that has stopped the reset, where one has."""
    ended = result.ended if result else BulkResult()
    return {
        "source": plan.source.name,
        "dry_run": dry_run,
        "running": plan.running,
        "kinds": [{"kind": kind, "jobs": jobs} for kind, jobs in plan.kinds],
        "oldest": plan.first[0].started if plan.first else None,
        "first": plan.first,
        "ended": ended.reaped,
        "lost": ended.lost,
        "locked": [messages.format_key(key) for key in ended.locked],
        "kept": [*plan.kept, *ended.kept],
        "failures": ended.failures,
        "stopped": ended.stopped,
        "halted": halt_members(halt if ended.stopped else None),
        "operator": decision.operator,
        "message": decision.message,
        "tasks": plan.tasks if dry_run else result.tasks if result else None,
        "copy_command": copy_command(plan.source),
    }


# --- Celery tasks ----------------------------------------------------------------------------------------------------


def _task_lines(tasks: TaskRemoval | None, *, looked: bool) -> Iterator[str]:
    """What became of the Celery tasks of the jobs; when they were only `looked` at, what would."""
    if tasks is None:
        return
    if tasks.trouble is not None:
        yield f"{tasks.trouble}. Tasks that workers execute go on, and messages stay in their queues."
        return
    yield from _count_lines(tasks, looked=looked)
    yield from _left_lines(tasks)


def _without_task_lines(plan: ResetPlan) -> Iterator[str]:
    if plan.without_task:
        yield (
            f"{plan.without_task} of the jobs have no Celery task in their row. If they have a message all the same, "
            "it stays in its queue."
        )


def _count_lines(tasks: TaskRemoval, *, looked: bool) -> Iterator[str]:
    terminated, taken = ("would be terminated", "would be") if looked else ("terminated", "were")
    yield (
        f"Celery ({tasks.workers} worker(s) answered): {tasks.executing - tasks.still_executing} task(s) {terminated}, "
        f"{tasks.held} reserved or scheduled one(s) revoked, {tasks.messages} message(s) taken out of "
        f"{_queues(tasks.removed)}."
    )
    if tasks.unacknowledged:
        yield f"{tasks.unacknowledged} message(s) that workers left unacknowledged {taken} taken out, too."
    if tasks.still_executing:
        yield (
            f"{tasks.still_executing} task(s) are still being executed although they were terminated: a solo pool ends "
            "them only when they are over. Stop their workers."
        )


def _left_lines(tasks: TaskRemoval) -> Iterator[str]:
    """What workers may run all the same."""
    if tasks.revoked_only:
        yield (
            f"{tasks.revoked_only} revoked task(s) are kept from running by the memory of their worker only. If it is "
            "restarted, the broker delivers them again. Stop the workers first, and reset then."
        )
    for queue, reason in tasks.left.items():
        yield (
            f"Queue {queue} was not searched: {reason}. "
            + (
                "Workers that run now throw these tasks away; workers that are started later run them."
                if tasks.workers
                else "Workers that are started run these tasks: no worker that runs now has noted the revocation."
            )
            + f" `celery -A APP purge -Q {queue}` empties the queue, with the messages of other jobs."
        )
    if tasks.not_found:
        queues = ", ".join(tasks.searched) or "none"
        yield (
            f"{tasks.not_found} task(s) are with no worker that answered, and in no queue that was searched "
            f"({queues}). The broker names no others. If they wait in another queue, workers that are started run "
            "them: name it in the setting queues before the reset."
        )
    if not tasks.workers and not tasks.left:
        yield (
            "No worker answered. Workers that are started run what is left in the queues: the messages of jobs that "
            "were not ended."
        )


def _queues(removed: Mapping[str, int]) -> str:
    return ", ".join(f"{queue} ({count})" for queue, count in removed.items()) or "the queues"
