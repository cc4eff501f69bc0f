"""What a provider's batch service has answered, stored; the same again changes nothing.

Both files of results are read, in any order. An item without a result is settled by how the service ended: failed where
it was not processed, unknown where it may have been.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from llmsess import crashpoints
from llmsess.batches import claiming, planning, remote, resultlines, storing
from llmsess.batches.forming import Former
from llmsess.batches.importing import formed as formed_for
from llmsess.batches.limiting import Need, open_purse
from llmsess.batches.remote import opened, owner_of, reserved_by
from llmsess.batches.resultlines import Result
from llmsess.batches.storing import ERROR_CHARACTERS
from llmsess.batches.viewing import get
from llmsess.db import database
from llmsess.errors import Conflict
from llmsess.models import BatchJob, BatchShard, Call, now, time_text
from llmsess.providers import services
from llmsess.providers.services import BatchService, Work
from llmsess.rows import update_row
from llmsess.texts import one_line

STORED_AT_ONCE = 200


@dataclass
class Fetched:
    """What came back: shards that are through, and that are not; answers, failures, items without a result.

    `odd` tells of shards whose counts are not what came.
    """

    ended: int = 0
    waiting: int = 0
    answered: int = 0
    failed: int = 0
    missing: int = 0
    odd: tuple[str, ...] = ()


def fetch(job: str | BatchJob) -> Fetched:
    """Ask the service how it stands with a job's shards, store what has ended, and return what came.

    Raises ProviderError; what was stored before stays, and the rest comes with the next call.
    """
    found = get(job)
    if not remote.shards(found):
        raise Conflict(f'nothing of the batch "{found.name}" was submitted', hint=f"llmsess batch submit {found.name}")
    remote.recover(found)
    former, shards = Former(found), remote.shards(found)
    came = Fetched(waiting=sum(shard.status == "planned" for shard in shards))
    out = [shard for shard in shards if shard.status in ("created", "ended")]
    if out:
        with opened(former, found) as service:
            for shard in out:
                _fetch(found, former, shard, service, came)
    planning.close(found)
    return came


def _fetch(job: BatchJob, former: Former, shard: BatchShard, service: BatchService, came: Fetched) -> None:
    work = service.look(shard.remote_id or "")
    update_row(BatchShard, shard.id, counts=dict(work.counts), error=work.error)
    if not work.ended:
        came.waiting += 1
        return
    update_row(BatchShard, shard.id, status="ended", ended_at=shard.ended_at or now())
    lines, read = service.stream_results(shard.remote_id or ""), 0
    while some := list(islice(lines, STORED_AT_ONCE)):
        results = [resultlines.read(line) for line in some if isinstance(line, dict)]
        read += len(results)
        _store(job, former, shard, results, came)
        crashpoints.reach("batch.fetching")
    _finish(job, shard, work, came)
    if work.total is not None and work.total != read and work.status in ("completed", "ended"):
        said = f"{shard.remote_id}: {work.total:,} requests, {read:,} results"
        came.odd = (*came.odd, said)
    came.ended += 1


_ITEM = f"""
    SELECT {claiming.COLUMNS} FROM batch_items
    WHERE job_id = ? AND position = ? AND shard_id = ? AND status = 'sent'
"""
_CALL = """
    SELECT id, reserved_tokens, reserved_cost FROM calls
    WHERE request_sha256 = ? AND owner = ? AND outcome = 'sent' LIMIT 1
"""


def _store(job: BatchJob, former: Former, shard: BatchShard, results: list[Result], came: Fetched) -> None:
    """Store some results in one transaction; those that are stored already change nothing."""
    start = services.mark(shard.uuid)
    with open_purse(job.id) as purse:
        for result in results:
            place = result.key.removeprefix(start)
            if place == result.key or not place.isdecimal():
                continue
            row = database.execute_sql(_ITEM, (job.id, int(place), shard.id)).fetchone()
            if row is None:
                continue
            item = claiming.item_of(row)
            formed = formed_for(former, item, result)
            call = database.execute_sql(_CALL, (formed.sha256(), owner_of(shard.id))).fetchone()
            reserved = Need(call[1] or 0, 0, call[2]) if call else Need(0, 0, 0)
            if result.reply is not None:
                status = storing.record_result(job, item, formed, result.reply, purse, reserved)
                came.answered += status == "done"
                came.failed += status != "done"
            else:
                purse.release(reserved)
                storing.settle_elsewhere(item, "failed", result.error, result.kind)
                came.failed += 1
            if call is not None:
                ended = {"outcome": "ok" if result.reply else "error", "ended_at": now(), "error_kind": result.kind,
                         "http_status": result.http_status, "provider_request_id": result.request_id}  # fmt: skip
                update_row(Call, call[0], message_id=item.result_id if result.reply else None, **ended)


_LEFT = """
    UPDATE batch_items SET status = ?, error = ?, error_kind = ?, shard_id = NULL WHERE shard_id = ? AND status = 'sent'
"""


def _finish(job: BatchJob, shard: BatchShard, work: Work, came: Fetched) -> None:
    """Settle the items for which no result came, by how the service ended; what it has answered may be billed."""
    kind = {"expired": "expired", "cancelled": "cancelled", "failed": "bad_request"}.get(work.status)
    why = work.error or f"the service has no result of it ({work.status})"
    status = "unknown" if kind is None else "failed"
    with open_purse(job.id) as purse:
        if kind is not None:  # what the service gave up is not billed
            purse.release(reserved_by(shard.id))
        values = (status, one_line(why, ERROR_CHARACTERS), kind or "missing", shard.id)
        left = int(database.execute_sql(_LEFT, values).rowcount)
        database.execute_sql(
            "UPDATE calls SET outcome = ?, ended_at = ?, error_kind = ? WHERE owner = ? AND outcome = 'sent'",
            ("unknown" if kind is None else "error", time_text(now()), kind or "missing", owner_of(shard.id)),
        )
        update_row(BatchShard, shard.id, status="fetched", fetched_at=now())
    came.missing += left
