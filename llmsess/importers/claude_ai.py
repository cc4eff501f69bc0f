"""Claude.ai's data export: a zip or a file with conversations, each with `chat_messages`; also one from its API.

What is special: the order of the messages is not reliable (parents where there are any, else times, the person's before
the answer); the text is in blocks in newer exports, whose `text` then repeats reasoning; files are named only, but what
was extracted from attachments is there. No model and no token counts are told in the export.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmsess.importers import blocks
from llmsess.importers.base import Bad, Item, MessageRecord, SessionRecord, Whole
from llmsess.importers.reading import digest, mapping, mappings, moment, records, reference, sequence, text_or_none
from llmsess.importers.source import Head, Source
from llmsess.parts import Packed, pack

NAME = "claude-ai"
DESCRIPTION = "Claude.ai's data export (.zip, conversations.json, one conversation of its API)"
PLACES = ()
ROLES = {"human": ("user", "human"), "assistant": ("assistant", "model")}
TOLD = ("summary", "is_starred", "project_uuid", "settings")


def matches(head: Head) -> bool:
    """Return whether the first objects are conversations of Claude.ai."""
    return any(isinstance(record.get("chat_messages"), list) for record in head.objects)


def read(source: Source) -> Iterator[Item]:
    """Yield the conversations of a file of an export."""
    for record, value, problem in records(source):
        if problem is not None or not isinstance(value, dict):
            yield Bad(record, problem or "the conversation is no object")
        elif not isinstance(value.get("chat_messages"), list):
            yield Bad(record, "a conversation without its messages (chat_messages)")
        else:
            record = record._replace(external_id=text_or_none(value.get("uuid")))
            yield from conversation(value)
            yield Whole(record)


def conversation(value: dict[str, Any]) -> Iterator[Item]:
    """Yield the session and the messages of a conversation."""
    messages = ordered(mappings(value["chat_messages"]))
    named = text_or_none(value.get("uuid")) or text_or_none(value.get("conversation_id"))
    session = named or f"sha256:{digest(value.get('name'), value.get('created_at'))}"
    leaf = text_or_none(value.get("current_leaf_message_uuid"))
    model = reference("anthropic", text_or_none(value.get("model")))
    project = mapping(value.get("project"))
    yield SessionRecord(
        session,
        title=text_or_none(value.get("name")),
        project=text_or_none(project.get("name")),
        model=model,
        started_at=moment(value.get("created_at")),
        head=f"{session}/{leaf}" if leaf else None,
        updated_at=moment(value.get("updated_at")),
        metadata={key: value[key] for key in TOLD if value.get(key)} or None,
    )
    known = {message.get("uuid") for message in messages if isinstance(message.get("uuid"), str)}
    linked = any(_parent(message) in known for message in messages)
    before = None
    for number, message in enumerate(messages, 1):
        uuid = text_or_none(message.get("uuid")) or str(number)
        parent = _parent(message) if linked else before
        parent = parent if parent in known or not linked else None
        role, origin = ROLES.get(str(message.get("sender")), ("event", "harness"))
        yield MessageRecord(
            session,
            f"{session}/{uuid}",
            f"{session}/{parent}" if parent else None,
            role,
            origin,
            packed(message),
            model=model if role == "assistant" else None,
            finish_reason=text_or_none(message.get("stop_reason")),
            created_at=moment(message.get("created_at")),
            metadata={"truncated": True} if message.get("truncated") is True else None,
        )
        before = uuid


def _parent(message: dict[str, Any]) -> str | None:
    return text_or_none(message.get("parent_message_uuid"))


def ordered(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages by time, a person's before the answer of the same moment; without times as they lie there."""
    times = [moment(message.get("created_at")) for message in messages]
    if any(time is None for time in times):
        return messages
    places = sorted(range(len(messages)), key=lambda i: (times[i], messages[i].get("sender") != "human", i))
    return [messages[i] for i in places]


def packed(message: dict[str, Any]) -> Packed:
    """Return the content of a message: its blocks or its text, what was attached, and the names of its files."""
    content, text = message.get("content"), message.get("text")
    said: list[Any] = [block for block in sequence(content) if block is not None]
    if not said and isinstance(content, str) and content:
        said = [blocks.text(content)]
    if isinstance(text, str) and text and not any(isinstance(mapping(block).get("text"), str) for block in said):
        said.append(blocks.text(text))
    for attached in mappings(message.get("attachments")):
        about = {key: attached.get(key) for key in ("file_name", "file_size", "file_type")}
        extracted = attached.get("extracted_content")
        said.append(blocks.text(extracted, **about) if isinstance(extracted, str) else {"type": "file", **about})
    files = [*mappings(message.get("files")), *mappings(message.get("files_v2"))]
    named = {str(file.get("file_uuid") or file.get("file_name")): file for file in files}
    said += [{**file, "type": "file"} for file in named.values()]
    return pack(said) if said else Packed()
