"""A comparison is run: its batch, then the scores; the same call goes on after whatever stopped it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from llmsess import batches, crashpoints
from llmsess.batches import Status
from llmsess.comparisons import planning, scheduling, scoring, specs, viewing
from llmsess.comparisons.scoring import OnItem, Scored
from llmsess.db import database
from llmsess.errors import InvalidInput
from llmsess.models import BatchJob, ComparisonGroup
from llmsess.rows import get_row, update_row
from llmsess.settings import expanded

Source = str | os.PathLike[str] | Mapping[str, Any] | ComparisonGroup
SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class RunReport:
    """How a run ended: `status` is done, some_failed, paused or interrupted; `batch` says more of the answers.

    `scored` says what scoring came to, None where the run was interrupted before.
    """

    status: str
    group: ComparisonGroup
    batch: batches.RunReport
    scored: Scored | None


def is_file(source: Any) -> bool:
    """Return whether a source names a file with a definition, rather than a comparison that is stored."""
    if isinstance(source, os.PathLike):
        return True
    if not isinstance(source, str) or "\n" in source:
        return False
    path = expanded(source)
    named = path.suffix in SUFFIXES and not any(sign.isspace() for sign in source)
    return named or (path.suffix != "" and path.is_file())


def plan(source: Source, *, project: str | None = None, limits: Mapping[str, Any] | None = None, **changed: Any) -> (
    ComparisonGroup
):  # fmt: skip
    """Return the comparison of a definition, entered or grown, or of one that is stored; nothing is sent.

    `source` is a definition (a mapping, YAML, a path) or a reference to a stored comparison; `changed` replaces parts
    of a definition, as `specs.read()` has it; `limits` are those of a batch. Raises InvalidInput, NotFound, Conflict.
    """
    given = {name: value for name, value in (limits or {}).items() if value is not None}
    stored = isinstance(source, ComparisonGroup) or (
        isinstance(source, str) and "\n" not in source and not source.lstrip().startswith("{") and not is_file(source)
    )
    if stored:
        assert isinstance(source, (str, ComparisonGroup))
        group = viewing.get(source)
        if changed:
            words = ", ".join(sorted(changed))
            hint = "run the definition with them; compare score takes other scorers and judges"
            raise InvalidInput(f'"{group.name}" is stored: {words} cannot be changed in passing', hint=hint)
        return scheduling.schedule(group, given) if _asks(group) else group
    assert not isinstance(source, ComparisonGroup)
    spec = specs.read(source, **changed)
    return planning.enter(replace(spec, limits={**spec.limits, **given}), project=project)


def _asks(group: ComparisonGroup) -> bool:
    """Return whether any variant is asked, rather than made of linked sessions."""
    return any(variant.model is not None for variant in viewing.variants_of(group)) and group.spec is not None


def job_of(group: ComparisonGroup) -> BatchJob | None:
    """Return the batch that asks for a comparison, None where its sessions were linked."""
    return get_row(BatchJob, group.batch_job_id) if group.batch_job_id else None


def run(
    source: Source, on_item: OnItem | None = None, *, project: str | None = None,
    limits: Mapping[str, Any] | None = None, python: bool = False, retry: bool = False,
    callbacks: Mapping[str, Any] | None = None, **changed: Any,
) -> RunReport:  # fmt: skip
    """Ask for every answer that is not there yet, score them all, and return how that ended.

    `retry` asks again for what has failed; `python` lets a person's own scorers run; `on_item` and `callbacks`
    (on_interrupt, on_wait) are those of `batches.run()`. Raises as `plan()` and `batches.run()` do.
    """
    group = plan(source, project=project, limits=limits, **changed)
    return ask(group, on_item, python=python, retry=retry, callbacks=callbacks)


def ask(
    group: ComparisonGroup, on_item: OnItem | None = None, *, python: bool = False, retry: bool = False,
    callbacks: Mapping[str, Any] | None = None,
) -> RunReport:  # fmt: skip
    """Do what `run()` does for a comparison just planned; raises as `batches.run()` does."""
    job = job_of(group)
    if job is None:
        scored = scoring.score(group, python=python, retry=retry, on_item=on_item, **(callbacks or {}))
        update_row(ComparisonGroup, group.id, status="done")
        nothing = Status("", group.name, "done", 0, {}, 0, 0, 0, None, 0, 0, None)
        return RunReport("done", viewing.get(group.uuid), batches.RunReport("done", nothing, 0), scored)
    if retry:
        put_back(group)
    update_row(ComparisonGroup, group.id, status="running")
    try:
        report = batches.run(job, on_item, **(callbacks or {}))
    finally:
        settle(group)
    crashpoints.reach("comparison.asked")
    if report.status == "interrupted":
        return RunReport("interrupted", viewing.get(group.uuid), report, None)
    scored = scoring.score(group, python=python, retry=retry, **(callbacks or {}))
    status = report.status
    if scored.judging is not None and scored.judging.status in ("interrupted", "paused"):
        status = scored.judging.status
        update_row(ComparisonGroup, group.id, status="paused")
    return RunReport(status, viewing.get(group.uuid), report, scored)


_LOST = """
    UPDATE batch_items SET status = 'todo', session_id = NULL, result_id = NULL
    WHERE job_id = ? AND status = 'done' AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.id = batch_items.result_id)
"""  # answers that were deleted since


def put_back(group: ComparisonGroup) -> None:
    """Put back what has failed or was deleted of the answers that the definition asks for; nothing is sent."""
    job = job_of(group)
    if job is not None:
        batches.retry(job)
        with database.atomic():
            database.execute_sql(_LOST, (job.id,))
            scheduling.withdraw(group, job)


_SETTLE = """
    UPDATE comparison_sessions SET session_id = i.session_id,
        message_id = CASE WHEN i.status = 'done' THEN i.result_id END
    FROM batch_items i WHERE comparison_sessions.group_id = ? AND i.id = comparison_sessions.item_id
    AND (comparison_sessions.session_id IS NOT i.session_id
        OR comparison_sessions.message_id IS NOT CASE WHEN i.status = 'done' THEN i.result_id END)
"""
_STATUS = {"done": "done", "failed": "failed", "cancelled": "cancelled", "running": "running"}


def settle(group: ComparisonGroup) -> None:
    """Write the answers that the batch has to the cells, and how the comparison stands."""
    job = job_of(group)
    with database.atomic():
        database.execute_sql(_SETTLE, (group.id,))
        if job is not None:
            state = batches.status_of(get_row(BatchJob, job.id) or job)
            update_row(ComparisonGroup, group.id, status=_STATUS.get(state.status, "paused"))
