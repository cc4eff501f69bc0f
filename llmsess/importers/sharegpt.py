"""ShareGPT's conversations: `{"conversations": [{"from": "human", "value": ...}]}`, as JSON, an array or JSON lines.

Ids of such dumps are used again in others, so a conversation is known by its content. Calls of tools are JSON in texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmsess.importers import blocks
from llmsess.importers.base import Bad, Ignored, Item, SessionRecord, Whole
from llmsess.importers.chains import Turn, linear
from llmsess.importers.reading import digest, mapping, mappings, parsed, records, text_or_none
from llmsess.importers.source import Head, Source

NAME = "sharegpt"
DESCRIPTION = "ShareGPT conversations (JSON or JSON lines)"
PLACES = ()
KEYS = ("conversations", "conversation", "items")
ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "bing": "assistant", "bard": "assistant", "model": "assistant", "system": "system",
    "function_call": "assistant", "observation": "tool", "tool": "tool", "function_response": "tool",
}  # fmt: skip


def matches(head: Head) -> bool:
    """Return whether the first objects are conversations of ShareGPT's form."""
    return any(_turns(record) for record in head.objects)


def _turns(record: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the turns of a conversation, None where it is none."""
    for key in KEYS:
        turns = record.get(key)
        if isinstance(turns, list) and all(isinstance(turn, dict) and "from" in turn for turn in turns):
            return turns
    return None


def read(source: Source) -> Iterator[Item]:
    """Yield the conversations of a file."""
    for record, value, problem in records(source):
        turns = _turns(value) if isinstance(value, dict) else None
        if problem is not None or turns is None:
            yield Bad(record, problem or "no conversation: it has no list of turns with a side (from)")
        elif not turns:
            yield Ignored(record)
        else:
            session = SessionRecord(
                f"sharegpt:{digest(turns, value.get('system'))}",
                title=text_or_none(value.get("title")),
                system_prompt=text_or_none(value.get("system")),
                metadata={key: value[key] for key in ("id", "tools", "images") if value.get(key)} or None,
            )
            yield from linear(session, list(map(turn, turns)))
            yield Whole(record)


def turn(value: dict[str, Any]) -> Turn:
    """Return a turn with its role."""
    side, said = str(value["from"]), value.get("value")
    role = ROLES.get(side, "event")
    text = said if isinstance(said, str) else "" if said is None else str(said)
    told = {"metadata": {"from": side}} if role == "event" else {}
    if side == "function_call":
        for call in mappings(parsed(text)) or [mapping(parsed(text))]:
            if "name" in call:
                return Turn(role, [blocks.tool_use(None, call["name"], call.get("arguments"))], told)
    if role == "tool":
        return Turn(role, [blocks.tool_result(None, text)], told)
    return Turn(role, text, told)
