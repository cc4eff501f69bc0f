"""Results of a batch that ran elsewhere, read back: OpenAI's output and error files, Anthropic's results.

Results are told from requests by their shape, so that the files may be given in any order; requests make the items that
results answer. What is answered already is left alone, so that the same file again changes nothing.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from llmsess import crashpoints, door
from llmsess.batches import claiming, planning, resultlines, storing
from llmsess.batches.claiming import Item
from llmsess.batches.forming import Formed, Former
from llmsess.batches.inputs import Row, read
from llmsess.batches.limiting import Need, Purse, open_purse
from llmsess.batches.resultlines import Result
from llmsess.batches.viewing import get
from llmsess.db import database
from llmsess.errors import InvalidInput, LlmsessError, NotFound
from llmsess.models import BatchJob
from llmsess.settings import expanded

ENTERED_AT_ONCE = 200
PROBLEMS_KEPT = 20
NOTHING = Need(0, 0, 0)  # was reserved for what ran elsewhere


@dataclass
class Imported:
    """What came of the files: items made, answers and failures stored, and results that changed nothing.

    `known` are answered already, `unmatched` no item has, `bad` lines are neither, with some of their problems.
    """

    job: BatchJob
    requests: int = 0
    answered: int = 0
    failed: int = 0
    known: int = 0
    unmatched: int = 0
    bad: int = 0
    problems: list[str] = field(default_factory=list)


def import_results(name: str, paths: Sequence[str]) -> Imported:
    """Store the results of files as those of the job of that name, made if new, and return what came of them.

    Raises InvalidInput, Conflict where a request says something else than the item of its key.
    """
    for path in paths:
        if not expanded(door.text(path, "a path")).is_file():
            raise InvalidInput(f"there is no file {path}")
    requests = (row for row in _rows(paths) if row.value is not None and not resultlines.is_result(row.value))
    job, made = _job(name, requests)
    found, blank = Imported(job, made), not job.total_items
    former, results = Former(job, keyless=True), _results(paths, found)
    alone = database.execute_sql(_ASKED, (job.id,)).fetchone() is None  # results make the items
    while some := list(islice(results, ENTERED_AT_ONCE)):
        with open_purse(job.id) as purse:
            for result in some:
                _enter(former, result, found, purse, alone=alone)
            crashpoints.reach("batch.importing")
    planning.close(job)
    found.job = get(job.uuid)
    if blank and not found.job.total_items:
        job.delete_instance()
        raise InvalidInput(_nothing(found), hint="result files of OpenAI's or Anthropic's batch service")
    return found


def _nothing(found: Imported) -> str:
    """Return what to say where the files have neither requests nor results."""
    return "; ".join(["the files have no results", *found.problems[:3]])


_ASKED = "SELECT 1 FROM batch_items WHERE job_id = ? AND input IS NOT NULL LIMIT 1"


def _rows(paths: Sequence[str]) -> Iterator[Row]:
    for path in paths:
        yield from read(path, "jsonl")


def _job(name: str, requests: Iterator[Row]) -> tuple[BatchJob, int]:
    """Return the job, made if new, and how many items the requests added to it."""
    first = list(islice(requests, 1))  # they are read as they are entered, and may be none
    rows = itertools.chain(first, requests)
    try:
        job = get(name)
    except NotFound:
        if not first:
            return planning.blank(name), 0
        job = planning.create(name, rows, fields={})
        return job, job.total_items
    return job, planning.add(job, rows).new if first else 0


def _results(paths: Sequence[str], found: Imported) -> Iterator[Result]:
    """Yield the results of the files; lines that are nothing are counted."""
    for path in paths:
        for row in read(path, "jsonl"):
            if row.value is None:
                found.bad += 1
                if len(found.problems) < PROBLEMS_KEPT:
                    found.problems.append(f"{path}, line {row.line}: {row.problem}")
            elif resultlines.is_result(row.value):
                yield resultlines.read(row.value)


_ITEM = f"""
    SELECT {claiming.COLUMNS}, status FROM batch_items
    WHERE job_id = ? AND item_key = ?
"""
_NEW = """
    INSERT INTO batch_items (job_id, item_key, position, status, attempts)
    VALUES (:job, :key, (SELECT coalesce(max(position) + 1, 0) FROM batch_items WHERE job_id = :job), 'todo', 0)
"""


def _enter(former: Former, result: Result, found: Imported, purse: Purse, *, alone: bool) -> None:
    """Store one result, inside a transaction."""
    row = database.execute_sql(_ITEM, (found.job.id, result.key)).fetchone()
    if row is None and alone:
        database.execute_sql(_NEW, {"job": found.job.id, "key": result.key})
        row = database.execute_sql(_ITEM, (found.job.id, result.key)).fetchone()
    if row is None:
        found.unmatched += 1
        return
    if row[7] not in ("todo", "failed", "unknown", "cancelled", "skipped"):
        found.known += 1
        return
    item = claiming.item_of(row)
    if result.reply is None and (result.status != "failed" or (row[7] == "unknown" and result.http_status is None)):
        found.known += 1  # it says nothing of how a request ended
        if row[7] == "todo" and result.status in ("unknown", "skipped"):
            storing.settle_elsewhere(item, result.status, result.error, None)
        return
    if result.reply is None:
        found.failed += row[7] != "failed"
        found.known += row[7] == "failed"
        storing.settle_elsewhere(item, "failed", result.error, result.kind)
        return
    storing.record_result(found.job, item, formed(former, item, result), result.reply, purse, NOTHING)
    found.answered += 1


def formed(former: Former, item: Item, result: Result) -> Formed:
    """Return the request that a result answers, or, where its input does not say, only the model."""
    with contextlib.suppress(LlmsessError):  # it ran elsewhere: its answer is kept, whatever we would say of it
        if item.row:
            return former.form(item.row)
    return former.blank(result.model)
