"""A definition is entered: variants, cases and cells, then the items of the batch that asks. Nothing is sent.

The tables hold all that is needed to run, score and show; entering the same definition again changes nothing, a grown
one adds what is new. What a variant asks of a case cannot change under its name: its answers would no longer be its.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from peewee import IntegrityError

from llmsess import batches, crashpoints, routing, sandbox
from llmsess.batches import Row
from llmsess.batches.forming import REPEAT
from llmsess.batches.planning import limits as checked_limits
from llmsess.comparisons import viewing
from llmsess.comparisons.cases import PREFIX, SUFFIX, Case, default_prompt
from llmsess.comparisons.specs import Spec, Variant
from llmsess.db import database
from llmsess.errors import Conflict, InvalidInput
from llmsess.models import (
    BatchJob,
    ComparisonGroup,
    ComparisonVariant,
    dump_json,
    now,
)
from llmsess.rows import insert_row, update_row
from llmsess.texts import one_line

JOB = "compare/{}"  # the name of the batch of a comparison
DEFAULTS = {"on_unknown": "resend"}
PROBLEMS_SHOWN = 5


def enter(spec: Spec, *, project: str | None = None) -> ComparisonGroup:
    """Enter a definition, with its batch, and return the comparison; raises Conflict, InvalidInput, NotFound.

    One of the same name grows by what is new.
    """
    _check(spec)
    with database.atomic():
        group = _group(spec)
        _drop(group, spec)
        _enter_variants(group, spec)
        _enter_cases(group, spec)
        _enter_cells(group)
    crashpoints.reach("comparison.entered")
    return schedule(group, spec.limits, project=project)


# Checks, before anything is entered


def _check(spec: Spec) -> None:
    """Raise InvalidInput where a model cannot be called or a prompt cannot be made, for all at once."""
    checked_limits(spec.limits)
    _check_priced([variant.model for variant in spec.variants], spec.limits)
    for model in {variant.model for variant in spec.variants if variant.model}:
        routing.callable_model(model)
    if spec.judge is not None:
        routing.callable_model(spec.judge)
    problems, bad = [], 0
    for case in spec.cases:
        for variant in spec.variants:
            try:
                row_of(variant, case, 0, lenient=spec.lenient)
            except InvalidInput as error:
                bad += 1
                problems += [f"case {case.line}: {error}"] if bad <= PROBLEMS_SHOWN else []
    if bad:
        more = f"; and {bad - PROBLEMS_SHOWN:,} more" if bad > PROBLEMS_SHOWN else ""
        count = f"{bad:,} of {len(spec.cases) * len(spec.variants):,} prompts cannot be made"
        raise InvalidInput(f"{count}: {'; '.join(dict.fromkeys(problems))}{more}")


# Prompts


def row_of(variant: Variant, case: Case, repeat: int, *, lenient: bool = False) -> dict[str, Any]:
    """Return what a variant asks of a case as a row of a batch; raises InvalidInput."""
    asked = variant.prompt if variant.prompt is not None else default_prompt(case)
    if asked is None:
        have = ", ".join(case.variables) or "no variables"
        hint = "prompt: ... makes one of its variables"
        raise InvalidInput(f"there is no prompt: the case has {have}", hint=hint)
    values = resolved(case.variables) if lenient else dict(case.variables)
    said = _filled(asked, values, lenient) if variant.prompt is not None else asked
    before, after = (_text(str(values.get(name, "")), values, lenient) for name in (PREFIX, SUFFIX))
    row: dict[str, Any] = {"custom_id": key_of(variant.name, case.key, repeat), "model": variant.model}
    if is_messages(said):
        row["messages"] = said
    else:
        row["prompt"] = before + (said if isinstance(said, str) else dump_json(said)) + after
        if not row["prompt"].strip():
            raise InvalidInput("its prompt is empty")
    if variant.system:
        row["system"] = _text(variant.system, values, lenient)
    if variant.parameters:
        row["parameters"] = dict(variant.parameters)
    if repeat:
        row[REPEAT] = repeat
    return row


def is_messages(said: Any) -> bool:
    """Return whether a prompt is a conversation, rather than a text or JSON that is sent as one."""
    return isinstance(said, list) and bool(said) and all(isinstance(one, Mapping) and "role" in one for one in said)


def resolved(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return variables whose own templates are filled with the others, as promptfoo has it; what cannot be, stays."""
    found = dict(variables)
    for name, value in variables.items():
        if isinstance(value, str) and sandbox.is_jinja(value):
            with contextlib.suppress(InvalidInput):
                found[name] = sandbox.render(value, found, nunjucks=True)
    return found


def key_of(variant: str, case_key: str, repeat: int) -> str:
    """Return the key of a cell's item."""
    return f"{case_key}/{repeat}/{variant}"


def _filled(value: Any, values: Mapping[str, Any], lenient: bool) -> Any:
    if isinstance(value, str):
        return _text(value, values, lenient)
    if isinstance(value, list):
        return [_filled(item, values, lenient) for item in value]
    if isinstance(value, Mapping):
        return {key: _filled(item, values, lenient) for key, item in value.items()}
    return value


def _text(text: str, values: Mapping[str, Any], lenient: bool) -> str:
    """Return a template filled; where lenient, what is missing is empty."""
    if not sandbox.is_jinja(text):
        return text
    if lenient:
        return sandbox.render(text, values, nunjucks=True)
    missing = sandbox.names(text) - values.keys()
    if missing:
        have = ", ".join(name for name in values if not name.startswith("_")) or "none"
        raise InvalidInput(f"the prompt needs {', '.join(sorted(missing))}, the case has {have}")
    return sandbox.render(text, values)


# Entering


def _group(spec: Spec) -> ComparisonGroup:
    """Return the row of a definition: a new one, or that of its name, with what is said now of how it is scored."""
    fields: dict[str, Any] = {
        "spec": spec.text, "spec_sha256": spec.sha256, "repeats": spec.repeats, "cluster": spec.cluster,
        "assertions": [one.as_json() for one in spec.assertions] or None, "notes": list(spec.notes) or None,
        "derived": [dict(one) for one in spec.derived] or None, "judge": spec.judge, "baseline": spec.baseline,
        "lenient": spec.lenient,
    }  # fmt: skip
    known = ComparisonGroup.get_or_none(ComparisonGroup.name == spec.name)
    if known is None:
        return _by_id(new_group(spec.name, **fields))
    update_row(ComparisonGroup, known.id, **fields)
    return _by_id(known.id)


def new_group(name: str, **fields: Any) -> int:
    """Make a comparison and return its inner id; raises Conflict."""
    try:
        return insert_row(ComparisonGroup, name=name, created_at=now(), **fields)
    except IntegrityError as error:
        raise Conflict(f'there is a comparison "{name}" already') from error


def _by_id(group_id: int) -> ComparisonGroup:
    found: ComparisonGroup = ComparisonGroup.get_by_id(group_id)
    return found


def _enter_variants(group: ComparisonGroup, spec: Spec) -> None:
    known = {variant.name: variant for variant in viewing.variants_of(group)}
    for variant in spec.variants:
        if variant.name not in known:
            enter_variant(group, variant, len(known))
            known[variant.name] = variant
        elif known[variant.name] != variant:
            hint = "give the variant, or the comparison, another name"
            raise Conflict(f'the variant "{variant.name}" of "{group.name}" was another one', hint=hint)


def enter_variant(group: ComparisonGroup, variant: Variant, position: int) -> None:
    """Enter a variant."""
    insert_row(
        ComparisonVariant, group_id=group.id, position=position, name=variant.name, model=variant.model,
        prompt=variant.prompt, system_prompt=variant.system, parameters=dict(variant.parameters) or None,
    )  # fmt: skip


_DROP = (
    """
    DELETE FROM comparison_sessions WHERE group_id = :group AND variant IN (
        SELECT name FROM comparison_variants WHERE group_id = :group AND model IS NOT NULL
    ) AND (repeat >= :repeats OR variant NOT IN (SELECT value FROM json_each(:names))
        OR case_key NOT IN (SELECT value FROM json_each(:keys)))
    """,
    """
    DELETE FROM comparison_variants WHERE group_id = :group AND model IS NOT NULL
    AND name NOT IN (SELECT value FROM json_each(:names))
    """,
    """
    DELETE FROM comparison_cases WHERE group_id = :group AND case_key NOT IN (SELECT value FROM json_each(:keys))
    AND case_key NOT IN (SELECT case_key FROM comparison_sessions WHERE group_id = :group)
    """,
)


def _drop(group: ComparisonGroup, spec: Spec) -> None:
    """Take away what the definition does not have any more; answers stay with the batch, and count again with it."""
    kept: dict[str, Any] = {
        "group": group.id, "repeats": spec.repeats, "names": dump_json([variant.name for variant in spec.variants]),
        "keys": dump_json([case.key for case in spec.cases]),
    }  # fmt: skip
    for statement in _DROP:
        used = {name: value for name, value in kept.items() if f":{name}" in statement}
        database.execute_sql(statement, used)


_CASE = """
    INSERT INTO comparison_cases
    (group_id, position, case_key, variables, messages, assertions, description, threshold, metadata)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (group_id, case_key) DO UPDATE SET variables = excluded.variables, assertions = excluded.assertions,
    description = excluded.description, threshold = excluded.threshold, metadata = excluded.metadata
"""


def _enter_cases(group: ComparisonGroup, spec: Spec) -> None:
    first = _next_position(group)
    keys = database.execute_sql("SELECT case_key FROM comparison_cases WHERE group_id = ?", (group.id,)).fetchall()
    known = {key for (key,) in keys}
    for case in spec.cases:
        _enter_case(group, case, first)
        first += case.key not in known


def _next_position(group: ComparisonGroup) -> int:
    sql = "SELECT coalesce(max(position) + 1, 0) FROM comparison_cases WHERE group_id = ?"
    return int(database.execute_sql(sql, (group.id,)).fetchone()[0])


def add_case(group: ComparisonGroup, case: Case) -> None:
    """Enter a case after those that are there."""
    _enter_case(group, case, _next_position(group))


def _enter_case(group: ComparisonGroup, case: Case, position: int) -> None:
    """Enter a case, or what is said now of a known one beside what it asks."""
    dumped = [
        dump_json(value) if value else None
        for value in (
            dict(case.variables), case.messages, [one.as_json() for one in case.assertions],
        )
    ]  # fmt: skip
    metadata = dump_json(dict(case.metadata)) if case.metadata else None
    values = (group.id, position, case.key, *dumped, case.description, case.threshold, metadata)
    database.execute_sql(_CASE, values)


_CELLS = """
    INSERT INTO comparison_sessions (group_id, variant, case_key, repeat)
    SELECT ?1, v.name, c.case_key, r.value FROM comparison_cases c, json_each(?2) r, comparison_variants v
    WHERE c.group_id = ?1 AND v.group_id = ?1 AND v.model IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM comparison_sessions s
        WHERE s.group_id = ?1 AND s.variant = v.name AND s.case_key = c.case_key AND s.repeat = r.value
    ) ORDER BY c.position, r.value, v.position
"""  # by case first, so that what is there of an unfinished run can be compared


def _enter_cells(group: ComparisonGroup) -> None:
    database.execute_sql(_CELLS, (group.id, dump_json(list(range(group.repeats)))))


# The batch


_LINK = """
    UPDATE comparison_sessions SET item_id = i.id FROM batch_items i
    WHERE comparison_sessions.group_id = ? AND comparison_sessions.item_id IS NULL AND i.job_id = ?
    AND i.item_key = comparison_sessions.case_key || '/' || comparison_sessions.repeat || '/' ||
        comparison_sessions.variant
"""


_WITHDRAW = """
    UPDATE batch_items SET status = 'cancelled', error_kind = 'withdrawn'
    WHERE job_id = ? AND status = 'todo' AND NOT EXISTS (
        SELECT 1 FROM comparison_sessions s WHERE s.group_id = ? AND s.item_id = batch_items.id
    )
"""  # what the definition asks no more
_WANT_AGAIN = """
    UPDATE batch_items SET status = 'todo', error_kind = NULL
    WHERE job_id = ? AND status = 'cancelled' AND error_kind = 'withdrawn' AND EXISTS (
        SELECT 1 FROM comparison_sessions s WHERE s.group_id = ? AND s.item_id = batch_items.id
    )
"""


def schedule(
    group: ComparisonGroup, limits: Mapping[str, Any] | None = None, *, project: str | None = None
) -> ComparisonGroup:  # fmt: skip
    """Make the batch of a comparison, or add to it what is new, and return the comparison."""
    given = {name: value for name, value in (limits or {}).items() if value is not None}
    _check_priced([variant.model for variant in viewing.variants_of(group)], given)
    try:
        job, _ = grown(JOB.format(group.name), lambda: _rows(group), project=project, **given)
    except Conflict as error:
        hint = "give the comparison another name"
        raise Conflict(f'"{group.name}" asked something else before: {error.message}', hint=hint) from error
    crashpoints.reach("comparison.scheduled")
    with database.atomic():
        update_row(ComparisonGroup, group.id, batch_job_id=job.id)
        database.execute_sql(_LINK, (group.id, job.id))
        for statement in (_WITHDRAW, _WANT_AGAIN):
            database.execute_sql(statement, (job.id, group.id))
    return _by_id(group.id)


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


def _check_priced(models: Iterable[str | None], limits: Mapping[str, Any]) -> None:
    """Raise InvalidInput where a budget in USD cannot hold, as nothing is known of a model's price."""
    if not checked_limits(limits).get("budget") or limits.get("allow_unpriced"):
        return
    for model in dict.fromkeys(models):
        if model is not None:
            batches.check_priced(routing.callable_model(model))


def _rows(group: ComparisonGroup) -> Iterator[Row]:
    """Yield a row for each cell that is asked for, in the order of the cells."""
    compared = [variant for variant in viewing.variants_of(group) if variant.model is not None]
    number = 0
    for case in viewing.cases_of(group):
        for repeat in range(group.repeats):
            for variant in compared:
                number += 1
                try:
                    yield Row(number, row_of(variant, case, repeat, lenient=group.lenient))
                except InvalidInput as error:
                    yield Row(number, None, one_line(error.message, 300))


def job_names(group: ComparisonGroup) -> list[str]:
    """Return the names of the batches that a comparison has: that which asks, and that which asks judges."""
    ids = [one for one in (group.batch_job_id, group.judge_job_id) if one is not None]
    return [row.name for row in BatchJob.select().where(BatchJob.id << ids)]
