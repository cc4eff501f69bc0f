"""ShareGPT's form: JSON lines of `{"id", "conversations": [{"from", "value"}]}`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from llmsess.exporters.base import (
    Archive,
    Losses,
    Said,
    blocks_of,
    call_of,
    compact,
    kind_of,
    line,
    result_text,
    text_of,
)

NAME = "sharegpt"
DESCRIPTION = "ShareGPT JSON lines, a conversation a line"
SUFFIX = ".jsonl"
LOSES = "times, tokens, costs, models, reasoning, attachments, ids of tool calls, branches, events, failed replies"
SIDES = {"user": "human", "assistant": "gpt", "system": "system", "developer": "system", "tool": "observation"}


def write(archive: Archive, out: IO[str], losses: Losses) -> None:
    """Write each conversation that has any turns."""
    for conversation in archive.conversations():
        turns = [turn for said in conversation.messages for turn in turns_of(said, losses)]
        if turns:
            told = {"id": conversation.id} | ({"title": conversation.title} if conversation.title else {})
            told |= {"system": conversation.system_prompt} if conversation.system_prompt else {}
            out.write(line(told | {"conversations": turns}))


def turns_of(said: Said, losses: Losses) -> Iterator[dict[str, str]]:
    """Yield the turns of a message: its text, and its calls of tools and their results as turns of their own."""
    if said.role not in SIDES or said.status == "failed":
        losses["events and failed replies"] += 1
        return
    spoken: list[str] = []
    others: list[dict[str, str]] = []
    for block in blocks_of(said):
        kind = kind_of(block)
        if kind == "text":
            spoken.append(text_of(block))
        elif kind == "call":
            call = call_of(block)
            others.append({"from": "function_call", "value": compact({"name": call.name, "arguments": call.given})})
        elif kind == "result":
            others.append({"from": "observation", "value": result_text(block, losses)})
        else:
            losses.block(kind)
    if spoken or not others:
        yield {"from": SIDES[said.role], "value": "\n\n".join(spoken)}
    yield from others
