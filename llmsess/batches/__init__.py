"""Batches: many prompts, one definition, each answered once; planned, run by any number of processes, resumed.

    job = batches.create("names", ["Name a cat.", "Name a dog."], model="openai/gpt-5-mini", budget_usd=1)
    report = batches.run(job)
    for item in batches.stream_items(job): print(item.key, item.status, item.content)

Exactly one result is recorded for an item; a recorded item is never sent again; every request is committed to the
ledger `calls` before it leaves. What a crash leaves unanswered is `unknown`: held until `resolve()`, or, with
on_unknown="resend", sent again. The parts: `inputs` (rows), `planning` (jobs and items), `forming` (a row as a
request), `claiming`, `limiting`, `storing`, `running` (the engine), `working` (its threads), `verdicts` (what an error
leads to), `estimating`, `viewing`, `results` and `importing` (out and in again), `remote` and `fetching` (providers'
own batch services).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from llmsess import door, prices
from llmsess.batches import claiming, planning, remote
from llmsess.batches.estimating import Estimate, estimate
from llmsess.batches.fetching import Fetched, fetch
from llmsess.batches.importing import Imported, import_results
from llmsess.batches.inputs import FORMATS, Inputs, Row, read, stored
from llmsess.batches.planning import CONCURRENCY, LIMITS, MAX_CONCURRENCY, ON_UNKNOWN, RETRIES, Added
from llmsess.batches.remote import shards, submit
from llmsess.batches.results import FORMATS as RESULT_FORMATS
from llmsess.batches.results import Exported, export, record
from llmsess.batches.running import Ended, OnItem, Run
from llmsess.batches.storing import Settled
from llmsess.batches.viewing import STATES, Item, Page, any_of, count, find, get, item, items, stream_items
from llmsess.db import database
from llmsess.errors import Conflict, InvalidInput, LlmsessError
from llmsess.models import BatchJob, LanguageModel, now, usd
from llmsess.prices import Usage
from llmsess.rows import update_row

__all__ = [
    "CONCURRENCY", "FORMATS", "LIMITS", "MAX_CONCURRENCY", "ON_UNKNOWN", "RESULT_FORMATS", "RETRIES", "STATES",
    "Added", "Estimate", "Exported", "Fetched", "Imported", "Inputs", "Item", "Page", "Row", "RunReport", "Settled",
    "Status", "add", "cancel", "check_priced", "check_same", "count", "create", "delete", "edit", "estimate", "export",
    "fetch", "find", "get", "import_results", "item", "items", "read", "record", "resolve", "retry", "run", "shards",
    "status", "status_of", "stored", "stream_items", "submit", "trial",
]  # fmt: skip


# Jobs


def create(
    name: str, inputs: Inputs, *, model: Any = None, template: str | None = None, system: str | None = None,
    parameters: Mapping[str, Any] | None = None, schema: Any = None, project: str | None = None, key: str | None = None,
    attachments: Iterable[Any] = (), attach: str | None = None, format: str | None = None, session_type: str = "batch",
    **limits: Any,
) -> BatchJob:  # fmt: skip
    """Make a job with an item for each row of the input, and return it; nothing is sent.

    `inputs` is a path (CSV, JSON lines, OpenAI's or Anthropic's batch file, text, a folder, "-"), or texts and
    mappings. `template` is a text with {{ columns }}, a saved template's name or a file; `key` the column that
    identifies a row, else its custom_id or its content; `schema` a JSON Schema that each answer must fit; `attachments`
    are paths and URLs that go with every prompt, `attach` the column of those that go with its own. `limits`:
    concurrency, rpm, tpm, budget_usd, budget_tokens, budget_requests, on_unknown (hold, resend), retries, cache,
    allow_unpriced. Nothing is made where one row is no request. Raises Conflict for a taken name, InvalidInput,
    NotFound.
    """
    fields = planning.definition(model, template, system, parameters, schema, attachments)
    fields |= planning.limits(limits) | {"session_type": door.session_type(session_type, "type of session")}
    return planning.create(name, inputs, project=project, key=key, attach=attach, format=format, fields=fields)


def add(
    job: str | BatchJob, inputs: Inputs, *, key: str | None = None, attach: str | None = None,
    format: str | None = None, **defined: Any,
) -> Added:  # fmt: skip
    """Add an item for each row that the job does not have yet, and say how many those were.

    `defined` (model, template, system, parameters, schema) must be the job's own, where given. Raises Conflict for
    another, and where a known key says something else now, InvalidInput.
    """
    found = check_same(job, **defined)
    return planning.add(found, inputs, key=key, attach=attach, format=format)


def check_same(job: str | BatchJob, **defined: Any) -> BatchJob:
    """Return a job whose model, template, system, parameters and schema are those given; raises Conflict, NotFound."""
    found = get(job)
    planning.check_same(found, planning.definition(**defined))
    return found


@contextlib.contextmanager
def trial(dry: bool = True) -> Iterator[None]:
    """Run a block of which nothing stays, where it is dry: to plan a job, estimate it, and have it gone."""
    if not dry:
        yield
        return
    with database.atomic() as transaction:
        yield
        transaction.rollback()


def edit(job: str | BatchJob, **limits: Any) -> BatchJob:
    """Change a job's limits, also while it runs, and return it; 0 takes one away. Raises NotFound, InvalidInput."""
    with database.atomic():
        found, changed = get(job), planning.limits(limits)
        if changed:
            update_row(BatchJob, found.id, **changed)
        return get(found.uuid)


@dataclass(frozen=True)
class Status:
    """Where a job is: counts by state that add up to `total`, requests sent, nano-USD of answers, and of the budget.

    `reserved` is what may still be billed: requests on their way, and unknown ones. `error` says why it is paused.
    """

    id: str
    name: str
    status: str
    total: int
    counts: Mapping[str, int]
    calls: int
    cost: int
    unpriced: int
    budget: int | None
    reserved: int
    tokens: int
    error: str | None

    @property
    def cost_usd(self) -> Decimal | None:
        """Return what the answers cost, None where no price is known."""
        return usd(self.cost, self.unpriced)


def status(job: str | BatchJob) -> Status:
    """Return where a job is, after what lost processes held was freed; raises NotFound."""
    found = get(job)
    claiming.take_over(found)
    return status_of(get(found.uuid))


def status_of(job: BatchJob) -> Status:
    """Return where a job is by its row alone; nothing is written."""
    counts = {state: int(getattr(job, state)) for state in STATES}
    shown = "paused" if job.status == "running" and not counts["claimed"] + counts["sent"] else job.status
    return Status(
        job.uuid, job.name, shown, job.total_items, counts, job.calls, job.spent_cost, job.unpriced, job.budget,
        job.reserved_cost, job.spent_tokens, job.error,
    )  # fmt: skip


# Running


@dataclass(frozen=True)
class RunReport:
    """How a run ended: `status` is done, some_failed, paused or interrupted; `answered` items got an end in it.

    `reason` says why it is paused, `error` is what stopped it, where something did.
    """

    status: str
    job: Status
    answered: int
    reason: str | None = None
    error: LlmsessError | None = field(default=None, compare=False)


_active: set[str] = set()
_lock = threading.Lock()


def run(
    job: str | BatchJob, on_item: OnItem | None = None, *,
    on_interrupt: Callable[[int], object] | None = None,
    on_wait: Callable[[float], object] | None = None,
) -> RunReport:  # fmt: skip
    """Send what is to do of a job, and return how that ended; the same call resumes after whatever stopped it.

    Several processes may run one job. `on_item` is told of each item that got an end. What every request would meet (a
    wrong key, an unknown model, no server), and a budget that is used up, pauses the job. In the main thread Ctrl-C
    stops it: once after the requests on their way, of whose number `on_interrupt` is told, twice now. `on_wait` is
    told of a long time, in seconds, in which a server or a limit lets no request leave. Raises NotFound, InvalidInput
    where a budget in USD is set and the model has no price, UnsavedReply where the database could not take an answer;
    what a callback raises, after what is on its way has come back.
    """
    for callback in (on_item, on_interrupt, on_wait):
        if callback is not None and not callable(callback):
            raise InvalidInput(f"a callback is a function, not {type(callback).__name__}")
    found = get(job)
    _check_priced(found)
    if found.status == "cancelled":
        raise planning.cancelled(found)
    with _lock:
        alone = found.uuid not in _active
        _active.add(found.uuid)
    try:
        claiming.take_over(found, mine=alone)
        if found.on_unknown == "resend":
            _move(found, "unknown", "todo", any_of("error_kind", LOST))
        planning.begin(found)
        ended = Run(get(found.uuid), on_item, on_interrupt, on_wait).go()
    finally:
        if alone:
            _active.discard(found.uuid)
        planning.close(found)
    return _report(found, ended)


def _report(job: BatchJob, ended: Ended) -> RunReport:
    """Return how a run ended, by where the job is now, and keep why it is paused."""
    state = status_of(get(job.uuid))
    away = state.counts["sent"]
    reason = ended.reason or (AWAY.format(away) if away else None)
    if reason is not None:
        update_row(BatchJob, job.id, error=reason)
    if ended.interrupted:
        word = "interrupted"
    elif reason is not None or state.counts["todo"]:
        word = "paused"
    else:
        word = "some_failed" if state.counts["failed"] or state.counts["unknown"] else "done"
    return RunReport(word, replace(state, error=reason or state.error), ended.answered, reason, ended.error)


LOST = ("lost", "connection", "timeout")  # kinds of unknown items that a policy of resend takes up
AWAY = "{:,} items are at the provider's batch service"


def _check_priced(job: BatchJob) -> None:
    """Raise InvalidInput where a budget in USD cannot hold, as nothing is known of the model's price."""
    if job.budget is not None and not job.allow_unpriced and job.model is not None:
        check_priced(job.model)


def check_priced(model: LanguageModel) -> None:
    """Raise InvalidInput where nothing is known of a model's price, so that a budget in USD cannot hold."""
    if prices.price(model, Usage(1, output_tokens=1)).cost is None:
        ways = f"llmsess model edit {model.reference} sets a price, --allow-unpriced goes without"
        raise InvalidInput(f"{model.reference} has no price, so that a budget in USD cannot hold", hint=ways)


# Afterwards


def retry(job: str | BatchJob, *, kinds: Iterable[str] = (), keys: Iterable[str] = (), status: str = "failed") -> int:
    """Put failed items (of these kinds of error, of these keys) back to be sent again; return how many.

    `status` is failed, cancelled or skipped. Raises NotFound, InvalidInput.
    """
    if status not in ("failed", "cancelled", "skipped"):
        raise InvalidInput(f'items that are "{status}" are not retried', hint="failed, cancelled or skipped")
    found = get(job)
    with database.atomic():
        count = _move(found, status, "todo", any_of("error_kind", kinds), any_of("item_key", keys))
        if count or found.status == "cancelled":
            update_row(BatchJob, found.id, status="paused", ended_at=None)
    return count


def resolve(job: str | BatchJob, how: str, *, keys: Iterable[str] = ()) -> int:
    """Decide what becomes of unknown items, whose answers are lost: resend or skip them; return how many.

    An item that is sent again may be billed twice. Raises NotFound, InvalidInput.
    """
    if how not in ("resend", "skip"):
        raise InvalidInput(f'"{how}" is no way to resolve items', hint="resend or skip")
    found = get(job)
    claiming.take_over(found)
    with database.atomic():
        count = _move(found, "unknown", "todo" if how == "resend" else "skipped", any_of("item_key", keys))
        planning.close(found)
    return count


def cancel(job: str | BatchJob) -> int:
    """Cancel what is not sent yet; return how many items. A run of it stops after what is on its way.

    A batch service is asked to stop too: what it has answered, `fetch()` brings.
    """
    found = get(job)
    claiming.take_over(found)
    remote.cancel(found)
    with database.atomic():
        count = _move(found, "todo", "cancelled") + _move(found, "claimed", "cancelled")
        if count or get(found.uuid).sent:
            update_row(BatchJob, found.id, status="cancelled", ended_at=now())
    return count


def _move(job: BatchJob, before: str, after: str, *conditions: tuple[str, list[str]]) -> int:
    wheres = "".join(f" AND {sql}" for sql, _ in conditions)
    values = [value for _, chosen in conditions for value in chosen]
    moved = "UPDATE batch_items SET status = ?, lease_owner = NULL, lease_expires_at = NULL"
    moved += ", error = NULL, error_kind = NULL" if after == "todo" else ""
    sql = f"{moved} WHERE job_id = ? AND status = ?{wheres}"
    return int(database.execute_sql(sql, (after, job.id, before, *values)).rowcount)


_COMPARISON = "SELECT name FROM comparison_groups WHERE batch_job_id = ? OR judge_job_id = ?"


def delete(job: str | BatchJob) -> int:
    """Delete a job with its items and return how many; their sessions stay. Raises NotFound, Conflict while it runs."""
    found = get(job)
    claiming.take_over(found)
    with database.atomic():
        current = get(found.uuid)
        if current.sent and not claiming.is_held(current.id):
            hint = f"llmsess batch fetch {current.name}, which settles them at the latest when the service gives up"
            raise Conflict(f'the batch "{current.name}" has items at the provider\'s batch service', hint=hint)
        if current.claimed + current.sent:
            raise Conflict(f'the batch "{current.name}" is running', hint=f"llmsess batch cancel {current.name}")
        owner = database.execute_sql(_COMPARISON, (current.id, current.id)).fetchone()
        if owner is not None:
            raise Conflict(f'"{current.name}" asks for the comparison "{owner[0]}"', hint="llmsess compare delete")
        current.delete_instance()
    return current.total_items
