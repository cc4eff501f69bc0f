"""What is written of an item: the request before it leaves, the answer after it came. All of it inside a transaction.

An item is a session of type batch: what was said, a reply, a row of the ledger for each attempt. A result is recorded
only where the item is still in that attempt (fencing); the answer to an attempt that was given up is stored as a reply
beside the other one, and its call, and counts as spent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmsess import crashpoints, owners, prices, schemas
from llmsess.batches.claiming import Item
from llmsess.batches.forming import Formed
from llmsess.batches.limiting import Need, Purse
from llmsess.batches.verdicts import is_lost
from llmsess.db import database
from llmsess.errors import Conflict, ProviderError, UnsavedReply, UnusableReply
from llmsess.models import BatchJob, Call, Message, Session, dump_json, now, time_text
from llmsess.prices import Usage
from llmsess.providers import Reply
from llmsess.recording import Came
from llmsess.recovering import interrupt
from llmsess.rows import insert_row, update_owned, update_row
from llmsess.settling import Outcome, call_error, keep_aside, reply_fields, settled, store
from llmsess.texts import clean, one_line, stored
from llmsess.writing import End, message_by_id

ERROR_CHARACTERS = 500
_HOW = ("messages", "system")  # parameters of a verbatim request that are stored as what was said


@dataclass
class Sending:
    """An attempt that is committed and on its way."""

    item: Item
    formed: Formed
    need: Need
    reply: Message
    call_id: int


@dataclass(frozen=True)
class Answer:
    """How an attempt ended: a reply, or an error; `bug` is what no provider may raise."""

    sending: Sending
    latency_ms: int
    reply: Reply | None = None
    error: ProviderError | None = None
    bug: BaseException | None = None


@dataclass(frozen=True)
class Settled:
    """What became of an item: its status, why, and what the attempt cost in nano-USD (None: no price is known).

    `status` is `late` where the answer is that to an attempt that was given up. `progress` has the job's columns:
    counts by state, calls, spent_cost, unpriced.
    """

    key: str
    position: int
    status: str
    error: str | None = None
    error_kind: str | None = None
    cost: int | None = None
    session_id: int | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)


# Before


def send(job: BatchJob, item: Item, formed: Formed, need: Need, sha256: str) -> Sending:
    """Write an attempt of a claimed item ahead and return it."""
    if item.reply is None:
        item.reply = _open(job, item, formed)
    item.attempts += 1
    call_id = insert_row(
        Call, message_id=item.reply.id, attempt=item.attempts, owner=owners.me(), request_sha256=sha256,
        started_at=now(), reserved_cost=need.cost, reserved_tokens=need.tokens,
    )  # fmt: skip
    crashpoints.reach("batch.intending")
    item.result_id = item.reply.id
    return Sending(item, formed, need, item.reply, call_id)


def mark_sent(sendings: Sequence[Sending]) -> None:
    """Write that items are on their way."""
    rows = [[one.item.id, one.item.attempts, one.item.session_id, one.item.result_id] for one in sendings]
    database.execute_sql(_SEND, (dump_json(rows),))


_SEND = """
    UPDATE batch_items SET status = 'sent', attempts = j.value ->> 1, session_id = j.value ->> 2,
    result_id = j.value ->> 3, error = NULL, error_kind = NULL FROM json_each(?) j
    WHERE batch_items.id = j.value ->> 0
"""


def _open(job: BatchJob, item: Item, formed: Formed) -> Message:
    """Write what is said and a pending reply, in the item's session, or beside the reply of an earlier attempt."""
    end = _end(job, item, formed)
    reply = end.add(
        "assistant", "", status="pending", model_id=formed.way.model.id, owner=owners.me(),
        lease_expires_at=owners.lease(),
    )  # fmt: skip
    end.save()
    item.session_id = end.session_id
    return reply


_PROMPT = """
    SELECT p.id, p.position FROM messages m JOIN messages p ON p.id = m.parent_id JOIN sessions s ON s.id = m.session_id
    WHERE m.id = ? AND s.id = ? AND s.status <> 'deleted'
"""


def _end(job: BatchJob, item: Item, formed: Formed) -> End:
    earlier = database.execute_sql(_PROMPT, (item.result_id, item.session_id)).fetchone() if item.result_id else None
    if earlier is not None:
        end = End(item.session_id or 0)
        end.head_id, end.position = earlier
        return end
    end = End.of_new(new_session(job, item, formed))
    for role, content in formed.said:
        end.add(role, content)
    return end


def new_session(job: BatchJob, item: Item, formed: Formed, **more: Any) -> int:
    """Make the session of an item and return its inner id."""
    request = formed.request
    parameters = {name: value for name, value in request.parameters.items() if name not in _HOW}
    return insert_row(
        Session,
        session_type=job.session_type,
        project_id=job.project_id,
        model_id=formed.way.model.id,
        system_prompt=request.system,
        temperature=request.temperature,
        max_tokens=request.max_tokens,
        parameters=parameters or None,
        metadata={"batch": job.name, "item": item.key},
        **more,
    )


# After


class Settling:
    """The ends of a round's attempts: each answer is stored, then all calls and all items by one statement each.

    (Each statement lets go of Python's lock, and waits for it among the workers: fewer are faster.)
    """

    def __init__(self, purse: Purse) -> None:
        self.purse = purse
        self.calls: list[list[Any]] = []
        self.items: list[list[Any]] = []
        self.settled: list[tuple[int, Settled]] = []

    def record(self, answer: Answer, status: str) -> None:
        """Store how an attempt ended; `status` is what becomes of the item where it is still in this attempt.

        An answer that does not fit the job's schema is stored, and the item failed.
        """
        sending, item, reply, error = answer.sending, answer.sending.item, answer.reply, answer.error
        kind, why = (error.error_kind, one_line(error.message, ERROR_CHARACTERS)) if error else (None, None)
        outcome = Outcome("complete", "ok", reply) if reply else Outcome("failed", _call_outcome(error), error=error)
        message, call = settled(outcome, Came(answer.latency_ms), sending.formed.way.model)
        if reply is not None:
            self.purse.settle(sending.need, _usage(reply), message["cost"])
            problem = misfit(sending.formed, reply)
            if problem is not None:
                status, kind, why = "failed", "schema", problem
        elif is_lost(error):
            message["status"] = "interrupted"
        else:
            self.purse.release(sending.need)
        try:
            self.store(sending, message, call, first=reply is not None and item.attempts == 1)
        except Conflict as trouble:  # its session was deleted meanwhile
            status, kind = "unknown", "unsaved"
            aside = f"; its answer is in {keep_aside(sending.reply.uuid, message)}" if reply else ""
            why = f"{trouble.message}{aside}"
            update_row(Call, sending.call_id, **call)
        item.reply = None
        self.items.append([item.id, item.attempts, status, why and clean(why), kind])
        cost = message.get("cost")
        self.settled.append((item.id, Settled(item.key, item.position, status, why, kind, cost, item.session_id)))

    def store(self, sending: Sending, message: dict[str, Any], call: dict[str, Any], *, first: bool) -> None:
        """Store a reply; that to a first attempt, whose session is as it should be, by a statement of its own."""
        if not first or not update_owned(sending.reply, **stored(message)):
            store(sending.reply, sending.call_id, message, call)
            return
        ended = [time_text(call["ended_at"]), call["http_status"], call["provider_request_id"]]
        self.calls.append([sending.call_id, *ended])

    def write(self) -> list[Settled]:
        """Write the calls and the items, and return what became of these."""
        if not self.items:
            return []
        database.execute_sql(_ANSWERED_CALLS, (dump_json(self.calls),))
        rows = database.execute_sql(_SETTLE, (dump_json(self.items), owners.me())).fetchall()
        ours = {row[0] for row in rows}
        return [one if item_id in ours else replace(one, status="late") for item_id, one in self.settled]


_ANSWERED_CALLS = """
    UPDATE calls SET outcome = 'ok', ended_at = j.value ->> 1, http_status = j.value ->> 2,
    provider_request_id = j.value ->> 3 FROM json_each(?) j WHERE calls.id = j.value ->> 0
"""
_SETTLE = """
    UPDATE batch_items SET status = j.value ->> 2, error = j.value ->> 3, error_kind = j.value ->> 4,
    lease_owner = NULL, lease_expires_at = NULL FROM json_each(?) j
    WHERE batch_items.id = j.value ->> 0 AND batch_items.attempts = j.value ->> 1
    AND ((batch_items.status = 'sent' AND batch_items.lease_owner = ?) OR batch_items.status = 'unknown')
    RETURNING batch_items.id
"""


def refuse(job: BatchJob, answer: Answer, purse: Purse) -> None:
    """Write that an attempt was not taken, or lost, and that the item waits for its next one in this process."""
    error, sending = answer.error, answer.sending
    assert error is not None
    update_row(Call, sending.call_id, **call_error(error), outcome=_call_outcome(error), ended_at=now())
    if not is_lost(error):
        purse.release(sending.need)
    until = time_text(owners.lease())
    database.execute_sql(_WAIT, (until, sending.item.id, sending.item.attempts, owners.me()))


_WAIT = """
    UPDATE batch_items SET status = 'claimed', lease_expires_at = ? WHERE id = ? AND attempts = ? AND lease_owner = ?
"""
_FAIL = """
    UPDATE batch_items SET status = 'failed', error = ?, error_kind = ?, lease_owner = NULL, lease_expires_at = NULL
    WHERE id = ? AND status = 'claimed' AND lease_owner = ?
"""


def fail(item: Item, why: str, kind: str) -> Settled:
    """Write that an item cannot be sent."""
    why = one_line(why, ERROR_CHARACTERS)
    database.execute_sql(_FAIL, (clean(why), kind, item.id, owners.me()))
    return Settled(item.key, item.position, "failed", why, kind)


def _call_outcome(error: ProviderError | None) -> str:
    return "unknown" if is_lost(error) else "error"


def _usage(reply: Reply) -> Usage:
    return Usage(reply.input_tokens, output_tokens=reply.output_tokens)


def misfit(formed: Formed, reply: Reply) -> str | None:
    """Return why a reply does not fit the schema that was asked for, None where it does."""
    schema = formed.request.schema
    if schema is None:
        return None
    try:
        schemas.value(reply.content, schema)
    except UnusableReply as error:
        return error.message
    return None


def close_reply(item: Item) -> None:
    """Settle the reply of an item that gets no further attempt in this run."""
    if item.reply is not None:
        interrupt(item.reply.id, owners.me())


def kept_aside(answers: Sequence[Answer], trouble: Exception) -> Exception:
    """Keep the replies that the database cannot take in files, and return the error that says so."""
    paths = []
    for answer in answers:
        if answer.reply is not None:
            outcome, model = Outcome("complete", "ok", answer.reply), answer.sending.formed.way.model
            message, _ = settled(outcome, Came(answer.latency_ms), model)
            paths.append(str(keep_aside(answer.sending.reply.uuid, message)))
    return UnsavedReply(" ".join(paths), str(trouble)) if paths else trouble


# What ran elsewhere


def record_result(job: BatchJob, item: Item, formed: Formed, reply: Reply, purse: Purse, need: Need) -> str:
    """Write the reply of a batch service, at its price, with what was said before it; return the item's status."""
    moment = now()
    end, fields = _end(job, item, formed), reply_fields(reply, formed.way.model, moment, prices.BATCH_SHARE)
    stored_reply = end.enter("assistant", fields | {"model_id": formed.way.model.id, "created_at": moment})
    end.save()
    item.session_id, item.result_id = end.session_id, stored_reply.id
    purse.settle(need, _usage(reply), fields["cost"])
    problem = misfit(formed, reply)
    status, kind = ("done", None) if problem is None else ("failed", "schema")
    settle_elsewhere(item, status, problem, kind)
    return status


def settle_elsewhere(item: Item, status: str, why: str | None = None, kind: str | None = None) -> None:
    """Write what became of an item for which no request is on its way, with its session and its reply."""
    values = (status, why and clean(why), kind, item.session_id, item.result_id, item.id)
    database.execute_sql(_ELSEWHERE, values)


_ELSEWHERE = """
    UPDATE batch_items SET status = ?, error = ?, error_kind = ?, session_id = ?, result_id = ?, lease_owner = NULL,
    lease_expires_at = NULL, shard_id = NULL WHERE id = ?
"""

# An answer that is there already

_ANSWERED = """
    SELECT c.outcome, m.id FROM calls c JOIN messages m ON m.id = c.message_id JOIN sessions s ON s.id = m.session_id
    LEFT JOIN batch_items i ON i.result_id = m.id
    WHERE c.request_sha256 = ? AND m.model_id = ? AND s.status <> 'deleted'
    AND ((c.outcome = 'ok' AND m.status = 'complete') OR (c.outcome = 'sent' AND i.status = 'sent'))
    ORDER BY c.outcome LIMIT 1
"""


def answered(formed: Formed, sha256: str) -> tuple[str, int] | None:
    """Return ("ok", the id of the reply) of an equal request, ("sent", ...) while it is on its way, else None."""
    row = database.execute_sql(_ANSWERED, (sha256, formed.way.model.id)).fetchone()
    return (row[0], row[1]) if row else None


def reuse(job: BatchJob, item: Item, formed: Formed, reply_id: int) -> Settled:
    """Give a claimed item the reply of an equal request; its session is a branch that ends there."""
    reply = message_by_id(reply_id)
    item.session_id = new_session(
        job, item, formed, head_id=reply_id, parent_session_id=reply.session_id, relation="fork",
        title=one_line(str(formed.request.turns[-1].content), 80) or None,
    )  # fmt: skip
    item.result_id = reply_id
    settle_elsewhere(item, "done")
    return Settled(item.key, item.position, "done", cost=0, session_id=item.session_id)
