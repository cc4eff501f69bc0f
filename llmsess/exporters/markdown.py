"""Markdown: a conversation as a document with a heading for each message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any

from llmsess.exporters.base import (
    Archive,
    Conversation,
    Losses,
    Said,
    blocks_of,
    call_of,
    compact,
    kind_of,
    result_text,
    text_of,
)

NAME = "markdown"
DESCRIPTION = "Markdown to read"
SUFFIX = ".md"
LOSES = "attachments, branches, exact structure"
ROLES = {"user": "User", "assistant": "Assistant", "system": "System", "developer": "Developer", "tool": "Tool",
         "event": "Event"}  # fmt: skip
FENCES = re.compile(r"^ {0,3}(`{3,})", re.MULTILINE)


def write(archive: Archive, out: IO[str], losses: Losses) -> None:
    """Write each conversation as a part of one document."""
    for number, conversation in enumerate(archive.conversations()):
        out.write("\n---\n\n" if number else "")
        out.write(f"# {one_line(conversation.name)}\n\n{about(conversation)}\n")
        if conversation.system_prompt:
            out.write(f"\n## System prompt\n\n{conversation.system_prompt.strip()}\n")
        for said in conversation.messages:
            out.write(f"\n## {heading(said)}\n\n")
            out.write("\n\n".join(pieces(said, losses)) + "\n")


def one_line(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())


def about(conversation: Conversation) -> str:
    """Return what is known of a conversation as a line of facts."""
    facts = [f"Session `{conversation.id}`"]
    facts += [f"model {conversation.model}"] if conversation.model else []
    facts += [f"project {one_line(conversation.project)}"] if conversation.project else []
    facts += [f"started {conversation.started_at:%Y-%m-%d %H:%M} UTC"] if conversation.started_at else []
    facts += [" ".join(f"#{one_line(tag)}" for tag in conversation.tags)] if conversation.tags else []
    return " · ".join(facts)


def heading(said: Said) -> str:
    """Return the heading of a message: who, and when."""
    who = ROLES.get(said.role, said.role)
    if said.role == "user" and said.origin != "human":
        who += f" (written by the {said.origin})"
    told = [who, *([said.model] if said.model and said.role == "assistant" else [])]
    told += [f"{said.created_at:%Y-%m-%d %H:%M}"] if said.created_at else []
    told += [said.status] if said.status not in ("complete",) else []
    return " · ".join(told)


def pieces(said: Said, losses: Losses) -> Iterator[str]:
    """Yield the paragraphs of a message."""
    found = False
    for block in blocks_of(said):
        kind = kind_of(block)
        if kind == "text":
            piece = text_of(block).strip("\n")
        elif kind == "reasoning":
            piece = f"<details><summary>Reasoning</summary>\n\n{text_of(block).strip()}\n\n</details>"
        elif kind == "call":
            call = call_of(block)
            given = call.given if isinstance(call.given, str) else compact(call.given)
            piece = f"Calls **{one_line(call.name)}**:\n\n{fenced(given, 'json')}"
        elif kind == "result":
            piece = f"Result:\n\n{fenced(result_text(block, losses))}"
        else:
            losses["attachments" if kind == "media" else "other blocks"] += 1
            piece = f"*[{name_of(block)}]*"
        found = found or bool(piece)
        if piece:
            yield piece
    if said.error:
        yield f"*{one_line(said.error)}*"
    elif not found:
        yield "*(empty)*"


def fenced(text: str, language: str = "") -> str:
    """Return a text as a block of code, with a fence that it does not have in it itself."""
    longest = max((len(fence) for fence in FENCES.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"


def name_of(block: Any) -> str:
    """Return what a block is that cannot be shown as text."""
    if not isinstance(block, dict):
        return "unknown"
    named = next((block[key] for key in ("file_name", "name", "filename", "title") if block.get(key)), "")
    return one_line(f"{block.get('type')} {named}")
