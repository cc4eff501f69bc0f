"""Recovery: a reply whose process is gone is settled as interrupted, with what was committed of it."""

from __future__ import annotations

from datetime import datetime

from llmsess import owners, texts
from llmsess.db import database
from llmsess.errors import NotFound
from llmsess.models import Message, now, parse_time, time_text
from llmsess.rows import update_row
from llmsess.settling import set_status
from llmsess.writing import message_by_id

_HELD = "SELECT id, owner, lease_expires_at FROM messages WHERE owner IS NOT NULL AND typeof(owner) = 'text'"


def recover() -> list[Message]:
    """Turn replies whose process is gone into interrupted ones and return them; a live owner's are never touched."""
    recovered = []
    for row_id, owner, expires in database.execute_sql(_HELD).fetchall():
        if owners.is_gone(owner, _time(expires)) and interrupt(row_id, owner):
            recovered.append(message_by_id(row_id))
    return recovered


def _time(text: str | None) -> datetime | None:
    """Return a stored time, None where there is none, or it is damaged."""
    try:
        return parse_time(text) if text else None
    except (ValueError, TypeError):
        return None


def interrupt(message_id: int, owner: str) -> bool:
    """Settle the reply that an owner left unfinished; return whether it was still the owner's."""
    with database.atomic():
        try:
            message = message_by_id(message_id)
        except NotFound:
            return False
        if message.owner != owner:  # settled, or recovered by another process, meanwhile
            return False
        moment = now()
        fields = {
            "status": "interrupted", "owner": None, "lease_expires_at": None, "completed_at": moment,
            "error": "the process ended", "content": message.content, "reasoning": message.reasoning,
        }  # fmt: skip
        update_row(Message, message_id, **texts.stored(fields))
        database.execute_sql(
            "UPDATE calls SET outcome = 'unknown', ended_at = ? WHERE message_id = ? AND outcome = 'sent'",
            (time_text(moment), message_id),
        )
        set_status(message, "interrupted")
    return True
