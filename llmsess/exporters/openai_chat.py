"""OpenAI's chat form: JSON lines of `{"messages": [...]}`, as fine-tuning and most tools read it."""

from __future__ import annotations

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
    line,
    result_text,
    text_of,
)

NAME = "openai-chat"
DESCRIPTION = "OpenAI chat JSON lines, a conversation a line"
SUFFIX = ".jsonl"
LOSES = "titles, times, tokens, costs, reasoning, branches, events, failed replies"
ROLES = ("system", "developer", "user", "assistant", "tool")


def write(archive: Archive, out: IO[str], losses: Losses) -> None:
    """Write each conversation that has any messages."""
    for conversation in archive.conversations():
        messages = list(messages_of(conversation, losses))
        if messages:
            out.write(line({"messages": messages}))


def messages_of(conversation: Conversation, losses: Losses) -> Iterator[dict[str, Any]]:
    """Yield the messages of a conversation in OpenAI's form."""
    if conversation.system_prompt:
        yield {"role": "system", "content": conversation.system_prompt}
    for said in conversation.messages:
        if said.role not in ROLES or said.status == "failed":
            losses["events and failed replies"] += 1
            continue
        yield from of_message(said, losses)


def of_message(said: Said, losses: Losses) -> Iterator[dict[str, Any]]:
    """Yield a message; results of tools become messages of their own."""
    content: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for block in blocks_of(said):
        kind = kind_of(block)
        if kind == "text":
            content.append({"type": "text", "text": text_of(block)})
        elif kind == "media" and (image := image_url(block)) is not None:
            content.append(image)
        elif kind == "call":
            call = call_of(block)
            arguments = call.given if isinstance(call.given, str) else compact(call.given)
            named = call.id or f"call_{len(calls) + 1}"
            calls.append({"id": named, "type": "function", "function": {"name": call.name, "arguments": arguments}})
        elif kind == "result":
            yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": result_text(block, losses)}
        else:
            losses.block(kind)
    if said.role == "tool" and not content:
        return
    if content or calls:
        only_text = all(part["type"] == "text" for part in content)
        spoken: Any = "\n\n".join(part["text"] for part in content) if only_text else content
        message = {"role": said.role, "content": spoken if content else None}
        yield message | ({"tool_calls": calls} if calls else {})


def image_url(block: dict[str, Any]) -> dict[str, Any] | None:
    """Return an image as a part of a message, None for another attachment or one whose bytes are not there."""
    if block.get("type") == "image_url":
        return {"type": "image_url", "image_url": block.get("image_url")}
    source = block.get("source")
    if block.get("type") != "image" or not isinstance(source, dict) or not isinstance(source.get("data"), str):
        return None
    url = f"data:{source.get('media_type') or 'image/png'};base64,{source['data']}"
    return {"type": "image_url", "image_url": {"url": url}}
