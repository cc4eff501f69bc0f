"""Conversations of formats that name no messages: a list of turns, each known by its place in its conversation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmsess.importers.base import InputRecord, Item, MessageRecord, SessionRecord
from llmsess.parts import pack

ORIGINS = {"user": "human", "assistant": "model", "tool": "tool"}


@dataclass
class Turn:
    """What one side said: a text or blocks; `told` are further fields of a MessageRecord."""

    role: str
    content: str | list[Any] | None
    told: dict[str, Any] = field(default_factory=dict)
    records: list[InputRecord] = field(default_factory=list)


def linear(session: SessionRecord, turns: Sequence[Turn]) -> Iterator[Item]:
    """Yield a session and its turns, one after the other."""
    yield session
    parent = None
    for number, turn in enumerate(turns, 1):
        external_id = f"{session.external_id}/{number}"
        told = {"origin": ORIGINS.get(turn.role, "harness")} | turn.told
        yield MessageRecord(
            session.external_id, external_id, parent, turn.role, packed=pack(turn.content), records=turn.records, **told
        )
        parent = external_id
