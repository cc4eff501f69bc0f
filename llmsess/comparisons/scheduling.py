"""The batch that asks for a comparison: an item for each cell, made, added to, withdrawn, wanted again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from llmsess import batches, crashpoints, routing
from llmsess.batches import Row
from llmsess.batches.planning import limits as checked_limits
from llmsess.comparisons import viewing
from llmsess.comparisons.prompting import row_of
from llmsess.db import database
from llmsess.errors import Conflict, InvalidInput
from llmsess.models import BatchJob, ComparisonGroup, dump_json
from llmsess.rows import update_row
from llmsess.texts import one_line

JOB = "compare/{}"  # the name of the batch of a comparison
DEFAULTS = {"on_unknown": "resend"}
LINKED_AT_ONCE = 5_000
_OTHERS = """
    SELECT s.id, i.id FROM json_each(:keys) j CROSS JOIN comparison_sessions s CROSS JOIN batch_items i
    WHERE s.group_id = :group AND s.variant = j.value ->> 2 AND s.case_key = j.value ->> 0
    AND s.repeat = j.value ->> 1 AND i.job_id = :job AND i.item_key = j.value ->> 3 AND s.item_id IS NOT i.id
"""  # in this order: SQLite would look at every item for every cell
_LINK = """
    UPDATE comparison_sessions SET item_id = j.value ->> 1, session_id = NULL, message_id = NULL, score = NULL,
    passed = NULL FROM json_each(?) j WHERE comparison_sessions.id = j.value ->> 0
"""
_UNSCORE = "DELETE FROM comparison_results WHERE comparison_session_id IN (SELECT value ->> 0 FROM json_each(?))"
Keys = list[tuple[str, int, str, str]]  # of each cell: case, repeat, variant, and the key of its item
_WITHDRAW = """
    UPDATE batch_items SET status = 'cancelled', error_kind = 'withdrawn'
    WHERE job_id = ? AND status = 'todo' AND NOT {}
"""
_WANT_AGAIN = """
    UPDATE batch_items SET status = 'todo', error_kind = NULL
    WHERE job_id = ? AND status = 'cancelled' AND error_kind = 'withdrawn' AND {}
"""
_OF_A_CELL = "EXISTS (SELECT 1 FROM comparison_sessions s WHERE s.group_id = ? AND s.item_id = batch_items.id)"
_OF_THESE_KEYS = "item_key IN (SELECT value FROM json_each(?))"


def schedule(
    group: ComparisonGroup, limits: Mapping[str, Any] | None = None, *, project: str | None = None
) -> ComparisonGroup:  # fmt: skip
    """Make the batch of a comparison, or add to it what is new, and return the comparison."""
    given = {name: value for name, value in (limits or {}).items() if value is not None}
    check_priced([variant.model for variant in viewing.variants_of(group)], given)
    keys: Keys = []
    try:
        job, _ = grown(JOB.format(group.name), lambda: _rows(group, keys), project=project, **given)
    except Conflict as error:
        hint = "give the comparison another name"
        raise Conflict(f'"{group.name}" asked something else before: {error.message}', hint=hint) from error
    crashpoints.reach("comparison.scheduled")
    with database.atomic():
        update_row(ComparisonGroup, group.id, batch_job_id=job.id)
        _link(group, job, keys)
        withdraw(group, job)
    return viewing.get(group.uuid)


def withdraw(group: ComparisonGroup, job: BatchJob) -> None:
    """Take back what is still to be asked and the definition asks no more, and want again what it does."""
    _keep(job, _OF_A_CELL, group.id)


def withdraw_others(job: BatchJob, keys: list[str]) -> None:
    """Take back what is still to be asked beside the items of these keys, and want these again."""
    _keep(job, _OF_THESE_KEYS, dump_json(keys))


def _keep(job: BatchJob, wanted: str, value: Any) -> None:
    for statement in (_WITHDRAW, _WANT_AGAIN):
        database.execute_sql(statement.format(wanted), (job.id, value))


def _link(group: ComparisonGroup, job: BatchJob, keys: Keys) -> None:
    """Give each cell its item; one whose item is another one now has no answer and no scores any more."""
    for start in range(0, len(keys), LINKED_AT_ONCE):
        values = {"keys": dump_json(keys[start : start + LINKED_AT_ONCE]), "job": job.id, "group": group.id}
        changed = dump_json(database.execute_sql(_OTHERS, values).fetchall())
        for statement in (_LINK, _UNSCORE):
            database.execute_sql(statement, (changed,))


def grown(
    name: str, rows: Callable[[], Iterable[Any]], *, project: str | None = None, **limits: Any
) -> tuple[BatchJob, int]:  # fmt: skip
    """Return the batch of that name with an item for each row, made or added to, and how many items are new.

    Another process may be making it. Raises Conflict where a known item asks something else now.
    """
    job = job_named(name)
    if job is None:
        try:
            job = batches.create(name, rows(), project=project, session_type="comparison", **DEFAULTS | limits)
            return job, job.total_items
        except Conflict:
            job = job_named(name)
            if job is None:
                raise
    added = batches.add(batches.edit(job, **limits), rows())
    return batches.get(job.uuid), added.new


def job_named(name: str) -> BatchJob | None:
    """Return the batch of exactly that name, None where there is none."""
    found: BatchJob | None = BatchJob.get_or_none(BatchJob.name == name)
    return found


def check_priced(models: Iterable[str | None], limits: Mapping[str, Any]) -> None:
    """Raise InvalidInput where a budget in USD cannot hold, as nothing is known of a model's price."""
    if not checked_limits(limits).get("budget") or limits.get("allow_unpriced"):
        return
    for model in dict.fromkeys(models):
        if model is not None:
            batches.check_priced(routing.callable_model(model))


def _rows(group: ComparisonGroup, keys: Keys) -> Iterator[Row]:
    """Yield a row for each cell that is asked for, in the order of the cells, and note the keys of their items."""
    keys.clear()
    compared = [variant for variant in viewing.variants_of(group) if variant.model is not None]
    number = 0
    for case in viewing.cases_of(group):
        for repeat in range(group.repeats):
            for variant in compared:
                number += 1
                try:
                    row = row_of(variant, case, repeat, lenient=group.lenient)
                except InvalidInput as error:
                    yield Row(number, None, one_line(error.message, 300))
                    continue
                keys.append((case.key, repeat, variant.name, row["custom_id"]))
                yield Row(number, row)


def job_names(group: ComparisonGroup) -> list[str]:
    """Return the names of the batches that a comparison has: that which asks, and that which asks judges."""
    ids = [one for one in (group.batch_job_id, group.judge_job_id) if one is not None]
    return [row.name for row in BatchJob.select().where(BatchJob.id << ids)]
