"""Anthropic's form: JSON lines of requests, `{"model", "system", "messages": [...]}`.

User and assistant take turns there, and results of tools are the user's: what follows one another on one side is one
message.
"""

from __future__ import annotations

from typing import IO, Any

from llmsess.exporters.base import (
    Archive,
    Conversation,
    Losses,
    Said,
    blocks_of,
    call_of,
    kind_of,
    line,
    result_text,
    text_of,
)

NAME = "anthropic-chat"
DESCRIPTION = "Anthropic API JSON lines, a conversation a line"
SUFFIX = ".jsonl"
LOSES = "titles, times, tokens, costs, branches, events, failed replies, places of system messages"
SIDES = {"user": "user", "assistant": "assistant", "tool": "user"}
MEDIA = ("image", "document")


def write(archive: Archive, out: IO[str], losses: Losses) -> None:
    """Write each conversation that has any messages."""
    for conversation in archive.conversations():
        request = request_of(conversation, losses)
        if request["messages"]:
            out.write(line(request))


def request_of(conversation: Conversation, losses: Losses) -> dict[str, Any]:
    """Return a conversation as a request."""
    system = [conversation.system_prompt] if conversation.system_prompt else []
    messages: list[dict[str, Any]] = []
    for said in conversation.messages:
        if said.role in ("system", "developer"):
            system.append(said.content)
        elif said.role not in SIDES or said.status == "failed":
            losses["events and failed replies"] += 1
        else:
            for side, block in sides(said, losses):
                if messages and messages[-1]["role"] == side:
                    messages[-1]["content"].append(block)
                else:
                    messages.append({"role": side, "content": [block]})
    model = (conversation.model or "").partition("/")[2]
    told = {"model": model} if model else {}
    return told | ({"system": "\n\n".join(system)} if system else {}) | {"messages": list(map(plainest, messages))}


def sides(said: Said, losses: Losses) -> list[tuple[str, dict[str, Any]]]:
    """Return the blocks of a message with the side that each stands on."""
    found: list[tuple[str, dict[str, Any]]] = []
    for block in blocks_of(said):
        kind, side = kind_of(block), SIDES[said.role]
        if kind == "text":
            if text_of(block):
                found.append((side, {"type": "text", "text": text_of(block)}))
        elif kind == "call":
            call = call_of(block)
            given = call.given if isinstance(call.given, dict) else {"input": call.given}
            use: dict[str, Any] = {"type": "tool_use", "id": call.id, "name": call.name, "input": given}
            found.append(("assistant", use))
        elif kind == "result":
            content = block["content"] if isinstance(block.get("content"), list) else result_text(block, losses)
            failed = {"is_error": True} if block.get("is_error") is True else {}
            result = {"type": "tool_result", "tool_use_id": block.get("tool_use_id"), "content": content}
            found.append(("user", result | failed))
        elif kind == "reasoning" and isinstance(block.get("signature"), str):
            found.append((side, block))
        elif kind == "media" and block.get("type") in MEDIA and isinstance(block.get("source"), dict):
            found.append((side, {"type": block["type"], "source": block["source"]}))
        else:
            losses.block(kind)
    return found


def plainest(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message of only one text with that text as its content."""
    content = message["content"]
    if len(content) == 1 and content[0].keys() == {"type", "text"}:
        return message | {"content": content[0]["text"]}
    return message
