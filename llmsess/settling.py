"""The end of a turn: what is written of it in one transaction, and where a reply goes that the database cannot take."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from llmsess import crashpoints, door, parts, prices, sessions, texts
from llmsess.db import database
from llmsess.errors import Conflict, InvalidInput, LostReply, NotFound, ProviderError
from llmsess.models import Call, LanguageModel, Message, dump_json, now, time_text
from llmsess.prices import Usage
from llmsess.providers import Reply
from llmsess.recording import Came
from llmsess.rows import update_row
from llmsess.writing import message_by_id


@dataclass
class Outcome:
    """How a turn ended: the message's status, the call's outcome, and the reply or what went wrong."""

    status: str
    call: str
    reply: Reply | None = None
    error: ProviderError | None = None
    note: str | None = None


def settled(outcome: Outcome, came: Came, model: LanguageModel) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the final fields of the message and of its call, from how a turn ended and what came of the reply."""
    moment = now()
    message: dict[str, Any] = {
        "status": outcome.status,
        "owner": None,
        "lease_expires_at": None,
        "completed_at": moment,
        "latency_ms": came.latency_ms,
        "ttft_ms": came.ttft_ms,
        "error": outcome.note,
    }
    call: dict[str, Any] = {
        "outcome": outcome.call, "ended_at": moment, "first_token_at": came.first_token_at, "error_kind": None,
    }  # fmt: skip
    reply, error = outcome.reply, outcome.error
    if reply is not None:
        message |= reply_fields(reply, model, moment)
        call |= {"http_status": reply.http_status, "provider_request_id": reply.request_id}
    else:
        message |= {"content": came.text, "reasoning": came.reasoning or None}
    if error is not None:
        message["error"] = texts.clean(error.message)
        call |= call_error(error)
    return message, call


def call_error(error: ProviderError) -> dict[str, Any]:
    """Return how a call failed, as columns of the ledger."""
    return {"http_status": error.http_status, "error_kind": error.error_kind, "provider_request_id": error.request_id}


def reply_fields(reply: Reply, model: LanguageModel, at: datetime, share: float = 1) -> dict[str, Any]:
    """Return a reply as columns of its message; `share` is the part of the model's price that it cost."""
    usage = Usage(
        reply.input_tokens, reply.cached_input_tokens, reply.cache_write_tokens, reply.output_tokens,
        reply.reasoning_tokens,
    )  # fmt: skip
    price = prices.price(model, usage, at=at, reported_usd=reply.cost_usd, share=share)
    fields: dict[str, Any] = {
        "content": texts.clean(reply.content),
        "reasoning": texts.clean(reply.reasoning or "") or None,
    }
    if reply.tool_calls:
        thinking = [{"type": "thinking", "thinking": reply.reasoning}] if reply.reasoning else []
        said = [{"type": "text", "text": reply.content}] if reply.content else []
        fields = parts.pack([*thinking, *said, *reply.tool_calls]).fields()
    other = {"model": reply.model} if reply.model and reply.model != model.model_name else None
    return fields | usage.fields() | {
        "usage": reply.usage if isinstance(reply.usage, dict) else None,
        "cost": price.cost,
        "cost_source": price.source,
        "finish_reason": reply.finish_reason,
        "metadata": other,
    }  # fmt: skip


_ANSWERED = """
    UPDATE sessions SET model_id = ?, status = iif(status IN ('interrupted', 'failed'), 'active', status)
    WHERE id = ? AND head_id = ? AND (model_id IS NOT ? OR status IN ('interrupted', 'failed'))
"""  # where the session went another way meanwhile, it goes on with what it has there
_OPEN = "SELECT owner, status FROM messages WHERE id = ? AND uuid = ?"  # an id may be another message's by now


def store(reply: Message, call_id: int | None, message: dict[str, Any], call: dict[str, Any]) -> None:
    """Commit the end of a turn in one transaction; the session goes on with the model that answered.

    A reply that was given up for dead meanwhile is stored all the same; raises Conflict for a settled or deleted one.
    """
    with database.atomic():
        row = database.execute_sql(_OPEN, (reply.id, reply.uuid)).fetchone()
        if row is None or (row[1] != "interrupted" and (row[0] is None or row[0] != reply.owner)):
            raise Conflict("its message was deleted meanwhile" if row is None else "its message is settled already")
        update_row(Message, reply.id, **texts.stored(message))
        if call_id is not None:
            update_row(Call, call_id, **call)
        if message["status"] == "complete":  # active already, unless another process gave the reply up
            database.execute_sql(_ANSWERED, (reply.model_id, reply.session_id, reply.id, reply.model_id))
        else:
            set_status(reply, message["status"])
        crashpoints.reach("turn.settling")


def set_status(reply: Message, status: str) -> None:
    """Set how a session's last turn ended, if it is the last; one that was deleted or archived meanwhile stays so."""
    sql = "UPDATE sessions SET status = ? WHERE id = ? AND head_id = ? AND status NOT IN ('deleted', 'archived')"
    database.execute_sql(sql, (status, reply.session_id, reply.id))


# When the database cannot take a reply


def keep_aside(uuid: str, message: Mapping[str, Any]) -> Path:
    """Write a settled reply into a side file, beside the database or else in the temporary folder; return its path."""
    content = dump_json({"message": uuid, "fields": {key: _plain(value) for key, value in message.items()}})
    problem: OSError | None = None
    for folder in (Path(database.database).parent, Path(tempfile.gettempdir())):
        path = folder / f"llmsess-unsaved-{uuid}.json"
        try:
            with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            return path
        except OSError as error:
            problem = error
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    raise LostReply(str(problem), str(message["content"]))


def _plain(value: Any) -> Any:
    return time_text(value) if isinstance(value, datetime) else value


def restore_aside(path: str | os.PathLike[str]) -> Message:
    """Store the reply of a side file, delete the file and return the message.

    Raises NotFound for a file or message that is not there, InvalidInput for what is no such file, Conflict for a reply
    that is stored already.
    """
    file = Path(path)
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        uuid, fields = kept["message"], _fields_of(kept["fields"])
    except FileNotFoundError as error:
        raise NotFound("file", str(path), hint="check the path") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidInput) as error:
        raise InvalidInput(f"{path} is no unsaved reply") from error
    try:
        message = sessions.get_message(uuid)
    except NotFound as error:
        raise NotFound("message", uuid, hint=f"it was deleted; what came can be read in {path}") from error
    call = Call.get_or_none(Call.message == message.id)
    outcome = {"complete": "ok", "interrupted": "cancelled", "failed": "error"}[fields["status"]]
    ended = {"outcome": outcome, "ended_at": fields["completed_at"]}
    store(message, call.id if call else None, fields, ended)
    file.unlink()
    return message_by_id(message.id)


def _fields_of(kept: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a side file as columns, checked."""
    said = {name: kept.pop(name, None) for name in ("content", "reasoning", "tool_text", "parts")}
    fields = door.of_message(kept) | {"owner": None, "lease_expires_at": None}
    if not isinstance(said["content"], str) or fields["status"] not in ("complete", "interrupted", "failed"):
        raise InvalidInput("no reply")
    if fields["completed_at"] is None or any(not isinstance(said[name] or "", str) for name in texts.FIELDS):
        raise InvalidInput("no reply")
    return fields | said
