"""Alpaca's instructions: `{"instruction", "input", "output"}`, also `system` and `history`; JSON or JSON lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmsess.importers.base import Bad, Item, SessionRecord, Whole
from llmsess.importers.chains import Turn, linear
from llmsess.importers.reading import digest, records, sequence, text_or_none
from llmsess.importers.source import Head, Source

NAME = "alpaca"
DESCRIPTION = "Alpaca instructions (JSON or JSON lines)"
PLACES = ()
KEYS = ("instruction", "input", "output", "system", "history")


def matches(head: Head) -> bool:
    """Return whether the first objects are instructions."""
    return any(_is_instruction(record) for record in head.objects)


def _is_instruction(record: dict[str, Any]) -> bool:
    return isinstance(record.get("instruction"), str) and isinstance(record.get("output"), str)


def read(source: Source) -> Iterator[Item]:
    """Yield an instruction and its answer as a conversation."""
    for record, value, problem in records(source):
        if problem is not None or not isinstance(value, dict) or not _is_instruction(value):
            yield Bad(record, problem or "no instruction with an output")
            continue
        session = SessionRecord(
            f"alpaca:{digest(*(value.get(key) for key in KEYS))}",
            system_prompt=text_or_none(value.get("system")),
            metadata={key: item for key, item in value.items() if key not in KEYS} or None,
        )
        yield from linear(session, list(turns(value)))
        yield Whole(record)


def turns(value: dict[str, Any]) -> Iterator[Turn]:
    """Yield the earlier turns, the instruction with its input, and the output."""
    for pair in sequence(value.get("history")):
        for role, said in zip(("user", "assistant"), sequence(pair), strict=False):
            if isinstance(said, str):
                yield Turn(role, said)
    given = text_or_none(value.get("input"))
    yield Turn("user", f"{value['instruction']}\n\n{given}" if given else value["instruction"])
    yield Turn("assistant", value["output"])
