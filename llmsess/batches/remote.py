"""A job at a provider's own batch service: submitted in shards, fetched later, perhaps days later, by any process.

A shard and its calls are recorded before the service hears of them. What a crash leaves is looked for there by our id:
a shard that the service has is adopted, one that it has not is submitted again, one that nobody can tell about waits.
What was still being gathered is dissolved. An item of a shard is `sent` without a lease until its result is fetched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator
from typing import Any

from llmsess import crashpoints, owners, prices
from llmsess.batches import claiming, planning, storing
from llmsess.batches.claiming import Item
from llmsess.batches.forming import Formed, Former
from llmsess.batches.limiting import Need, need, open_purse
from llmsess.batches.viewing import get
from llmsess.db import database
from llmsess.errors import InvalidInput, LlmsessError, MissingKey, ProviderError
from llmsess.models import BatchJob, BatchShard, Call, dump_json, now, time_text
from llmsess.providers import services
from llmsess.providers.services import BatchService
from llmsess.rows import insert_row, update_row
from llmsess.texts import one_line

GATHERED_AT_ONCE = 500


# Submitting


def submit(job: str | BatchJob) -> list[BatchShard]:
    """Hand what is to do of a job to the provider's batch service, and return the shards that it took.

    Raises ProviderError where there is no such service, or it refuses; nothing is lost then.
    """
    found = get(job)
    claiming.take_over(found)
    former, taken = Former(found), []
    recover(found)
    planning.begin(found)
    try:
        while (shard := _gather(found, former)) is not None:
            with opened(former, found) as service:
                _hand_over(found, former, shard, service)
            taken.append(BatchShard.get_by_id(shard))
    finally:
        planning.close(found)
    return taken


@contextlib.contextmanager
def opened(former: Former, job: BatchJob) -> Iterator[BatchService]:
    """Open the service of a job's model: a shard is of one model, that of its first item."""
    way = former.route(_first_row(job))
    service = services.service(way.provider, way.model.base_url, way.api_key)
    try:
        yield service
    finally:
        service.close()


def _first_row(job: BatchJob) -> dict[str, Any]:
    sql = "SELECT input FROM batch_items WHERE job_id = ? ORDER BY position LIMIT 1"
    row = database.execute_sql(sql, (job.id,)).fetchone()
    return json.loads(row[0]) if row and row[0] else {}


def _gather(job: BatchJob, former: Former) -> int | None:
    """Gather the next items of a job in a shard and return its inner id, None where nothing is to do."""
    with opened(former, job) as service:
        shard = insert_row(
            BatchShard, job_id=job.id, service=service.provider.dialect, owner=owners.me(), created_at=now()
        )
        gathering = _Gathering(job, former, shard, service)
        try:
            while gathering.add():
                pass
        except LlmsessError:
            _dissolve(job, BatchShard.get_by_id(shard))
            raise
    if not gathering.count:
        BatchShard.delete().where(BatchShard.id == shard).execute()
        return None
    return shard


class _Gathering:
    """A shard while it grows, up to what the service takes at once."""

    def __init__(self, job: BatchJob, former: Former, shard: int, service: BatchService) -> None:
        self.job, self.former, self.shard, self.service = job, former, shard, service
        self.count, self.room = 0, service.max_bytes
        self.model = former.route(_first_row(job)).model

    def add(self) -> bool:
        """Add some items; return whether there may be more."""
        with database.atomic():
            items = claiming.claim(self.job.id, min(GATHERED_AT_ONCE, self.service.max_requests - self.count))
        try:
            ready, broken = self.formed(items)
            added, full = _enter(self.job, self.shard, items, ready, broken)
        except BaseException:
            with database.atomic():
                claiming.release(items)
            raise
        self.count += added
        return bool(items) and not full and self.count < self.service.max_requests

    def formed(self, items: list[Item]) -> tuple[list[tuple[Item, Formed]], list[tuple[Item, LlmsessError]]]:
        """Return the items with their requests, as many as there is room for, and those that make none."""
        ready: list[tuple[Item, Formed]] = []
        broken: list[tuple[Item, LlmsessError]] = []
        for item in items:
            try:
                formed = self.former.form(item.row)
            except MissingKey:
                raise
            except LlmsessError as error:
                broken.append((item, error))
                continue
            if formed.way.model.id != self.model.id:
                raise InvalidInput("a batch service takes requests to one model, and these name several")
            size = len(dump_json(self.service.line("x" * 20, self.former.body(formed))))
            if size > self.room:
                break
            self.room -= size
            ready.append((item, formed))
        return ready, broken


def _enter(
    job: BatchJob, shard: int, items: list[Item], ready: list[tuple[Item, Formed]],
    broken: list[tuple[Item, LlmsessError]],
) -> tuple[int, bool]:  # fmt: skip
    """Write ahead that items go with a shard; return how many, and whether the budget let no more."""
    gone, reused = {item.id for item, _ in broken}, 0
    with open_purse(job.id) as purse:
        for item, error in broken:
            storing.fail(item, str(error), "input")
        for item, formed in ready:
            sha256 = formed.sha256()
            found = storing.answered(formed, sha256) if job.use_cache else None
            if found is not None and found[0] == "ok":
                storing.reuse(job, item, formed, found[1])
                gone.add(item.id)
                reused += 1
                continue
            most = need(formed.way, formed.request, share=prices.BATCH_SHARE)
            if purse.over_budget(most) is not None:
                break
            purse.reserve(most, paced=False)
            insert_row(
                Call, message_id=None, attempt=item.attempts + 1, owner=owner_of(shard), started_at=now(),
                request_sha256=sha256, reserved_cost=most.cost, reserved_tokens=most.tokens,
            )  # fmt: skip
            database.execute_sql(_GO, (shard, item.id))
            gone.add(item.id)
        left = [item for item in items if item.id not in gone]
        claiming.release(left)
    return len(gone) - len(broken) - reused, bool(left)


_GO = """
    UPDATE batch_items SET status = 'sent', attempts = attempts + 1, shard_id = ?, lease_owner = NULL,
    lease_expires_at = NULL, error = NULL, error_kind = NULL WHERE id = ?
"""


def owner_of(shard_id: int) -> str:
    """Return who holds the calls of a shard: no process."""
    return f"shard {shard_id}"


def _hand_over(job: BatchJob, former: Former, shard_id: int, service: BatchService) -> None:
    """Write a shard's requests into a file, hand it to the service, and record that it has them.

    Where the service surely has nothing, the shard is dissolved; where that is not known, it waits for `recover()`.
    """
    shard = BatchShard.get_by_id(shard_id)
    with tempfile.TemporaryFile(prefix="llmsess-") as file:
        digest, count = hashlib.sha256(), 0
        for item, formed in _items(former, shard_id):
            line = f"{dump_json(service.line(key_of(shard, item), former.body(formed)))}\n".encode()
            digest.update(line)
            file.write(line)
            count += 1
        file.seek(0)
        update_row(BatchShard, shard_id, status="planned", sha256=digest.hexdigest(), items=count, owner=owners.me())
        crashpoints.reach("batch.sharded")

        def uploaded(remote_file: str) -> None:
            update_row(BatchShard, shard_id, remote_file=remote_file)
            crashpoints.reach("batch.uploaded")

        try:
            remote_id = service.submit(file, shard.uuid, shard.remote_file, uploaded)
        except ProviderError as error:
            if error.billed:
                update_row(BatchShard, shard_id, owner=None, error=one_line(error.message, storing.ERROR_CHARACTERS))
            else:
                _dissolve(job, shard)
            raise
    crashpoints.reach("batch.submitted")
    _adopt(shard_id, remote_id)


def _adopt(shard_id: int, remote_id: str) -> None:
    update_row(BatchShard, shard_id, status="created", remote_id=remote_id, submitted_at=now(), owner=None, error=None)


def key_of(shard: BatchShard, item: Item) -> str:
    """Return what an item is called at a service: its own key may be anything."""
    return f"{services.mark(shard.uuid)}{item.position}"


_ITEMS = f"""
    SELECT {claiming.COLUMNS} FROM batch_items
    WHERE shard_id = ? AND status = 'sent' AND position > ? ORDER BY position LIMIT ?
"""


def _items(former: Former, shard_id: int) -> Iterator[tuple[Item, Formed]]:
    """Yield the items of a shard that have no result, with their requests."""
    after = -1
    while rows := database.execute_sql(_ITEMS, (shard_id, after, GATHERED_AT_ONCE)).fetchall():
        for row in rows:
            item = claiming.item_of(row)
            yield item, former.form(item.row)
        after = rows[-1][2]


def reserved_by(shard_id: int) -> Need:
    """Return what is reserved for the requests of a shard that have no result."""
    sums = "coalesce(sum(reserved_tokens), 0), coalesce(sum(reserved_cost), 0)"
    sql = f"SELECT {sums} FROM calls WHERE owner = ? AND outcome = 'sent'"
    tokens, cost = database.execute_sql(sql, (owner_of(shard_id),)).fetchone()
    return Need(tokens, 0, cost)


def _dissolve(job: BatchJob, shard: BatchShard) -> None:
    """Take a shard back that the service never had: its items are to do, its calls cost nothing."""
    owner = owner_of(shard.id)
    with open_purse(job.id) as purse:
        purse.release(reserved_by(shard.id))
        database.execute_sql(
            "UPDATE calls SET outcome = 'cancelled', ended_at = ? WHERE owner = ? AND outcome = 'sent'",
            (time_text(now()), owner),
        )
        database.execute_sql(
            "UPDATE batch_items SET status = 'todo', shard_id = NULL WHERE shard_id = ? AND status = 'sent'",
            (shard.id,),
        )
        BatchShard.delete().where(BatchShard.id == shard.id).execute()


# After a crash


def recover(job: BatchJob) -> None:
    """Settle what became of shards whose process is gone before it knew: adopt, submit again, dissolve, or wait."""
    for shard in shards(job):
        if shard.status not in ("planning", "planned"):
            continue
        if shard.owner is not None and shard.owner != owners.me() and not owners.is_gone(shard.owner, None):
            continue
        if shard.status == "planning":
            _dissolve(job, shard)
            continue
        former = Former(job)
        with opened(former, job) as service:
            remote_id, certain = service.find(shard.uuid, shard.created_at, _known())
            if remote_id is not None:
                _adopt(shard.id, remote_id)
            elif certain:
                _hand_over(job, former, shard.id, service)


def _known() -> set[str]:
    rows = BatchShard.select(BatchShard.remote_id).where(BatchShard.remote_id.is_null(False))
    return {str(row.remote_id) for row in rows}


def shards(job: str | BatchJob) -> list[BatchShard]:
    """Return the shards of a job, in their order."""
    return list(BatchShard.select().where(BatchShard.job == get(job).id).order_by(BatchShard.id))


def cancel(job: BatchJob) -> int:
    """Ask the service to stop with a job's shards, and return how many that were."""
    out = [shard for shard in shards(job) if shard.status == "created" and shard.remote_id]
    if out:
        with opened(Former(job), job) as service:
            for shard in out:
                service.cancel(shard.remote_id or "")
    return len(out)
