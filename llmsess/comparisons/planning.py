"""A definition is entered: variants, cases and cells, then the items of the batch that asks. Nothing is sent.

The tables hold all that is needed to run, score and show. What counts is what the definition says: the same one again
changes nothing, a changed one asks what is new and lets go of the cells that it has no more. Nothing is entered of one
that is refused.
"""

from __future__ import annotations

from typing import Any

from peewee import IntegrityError

from llmsess import crashpoints, routing
from llmsess.batches.planning import limits as checked_limits
from llmsess.comparisons import scheduling
from llmsess.comparisons.cases import Case
from llmsess.comparisons.prompting import row_of
from llmsess.comparisons.specs import Spec, Variant
from llmsess.db import database
from llmsess.errors import Conflict, InvalidInput
from llmsess.models import (
    ComparisonGroup,
    dump_json,
    now,
)
from llmsess.rows import insert_row, update_row

PROBLEMS_SHOWN = 5


def enter(spec: Spec, *, project: str | None = None) -> ComparisonGroup:
    """Enter a definition, with its batch, and return the comparison; raises Conflict, InvalidInput, NotFound.

    One of the same name is then what its definition says now: answers to what it has no more are kept with the batch.
    """
    _check(spec)
    with database.atomic():
        group = _group(spec)
        _drop(group, spec)
        for position, variant in enumerate(spec.variants):
            enter_variant(group, variant, position)
        _enter_cases(group, spec)
        _enter_cells(group)
    crashpoints.reach("comparison.entered")
    return scheduling.schedule(group, spec.limits, project=project)


# Checks, before anything is entered


def _check(spec: Spec) -> None:
    """Raise InvalidInput where a model cannot be called or a prompt cannot be made, for all at once."""
    checked_limits(spec.limits)
    scheduling.check_priced([variant.model for variant in spec.variants], spec.limits)
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


_VARIANT = """
    INSERT INTO comparison_variants (group_id, position, name, model, prompt, system_prompt, parameters)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (group_id, name) DO UPDATE SET position = excluded.position, model = excluded.model,
    prompt = excluded.prompt, system_prompt = excluded.system_prompt, parameters = excluded.parameters
"""


def enter_variant(group: ComparisonGroup, variant: Variant, position: int) -> None:
    """Enter a variant, or what it is now."""
    prompt = None if variant.prompt is None else dump_json(variant.prompt)
    parameters = dump_json(dict(variant.parameters)) if variant.parameters else None
    values = (group.id, position, variant.name, variant.model, prompt, variant.system, parameters)
    database.execute_sql(_VARIANT, values)


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
    ON CONFLICT (group_id, case_key) DO UPDATE SET position = excluded.position, variables = excluded.variables,
    assertions = excluded.assertions, description = excluded.description, threshold = excluded.threshold,
    metadata = excluded.metadata
"""


def _enter_cases(group: ComparisonGroup, spec: Spec) -> None:
    for position, case in enumerate(spec.cases):
        _enter_case(group, case, position)


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
