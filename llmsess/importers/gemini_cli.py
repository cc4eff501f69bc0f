"""Gemini CLI's chats: `~/.gemini/tmp/<project>/chats/session-*.json`, and since 0.39 append-only `.jsonl`.

The older form is one object with `messages`; in the newer a line is a message, a patch (`$set`, also of all messages),
or `{"$rewindTo": id}`, which goes back to before that message. What is special:
- A message is written again when its tools have answered: the last version counts.
- What was rewound stays, as a branch. Both forms of one session may exist, and are one session here.
- Thoughts are counted outside of the output, tool prompts outside of the input; what was cached is inside.
- The results of tools are inside the message that called them. The first user message may be Gemini CLI's own.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llmsess.importers import blocks
from llmsess.importers.base import Bad, Ignored, InputRecord, Item, MessageRecord, SessionRecord, Whole
from llmsess.importers.reading import digest, mapping, mappings, moment, records, reference, sequence, text_or_none
from llmsess.importers.source import Head, Source
from llmsess.models import token_count
from llmsess.parts import Packed, pack
from llmsess.prices import Usage

NAME = "gemini-cli"
DESCRIPTION = "Gemini CLI chats (.json and append-only .jsonl, sub-agents)"
PLACES = ("~/.gemini/tmp/*/chats",)
TYPES = {
    "user": ("user", "human"), "gemini": ("assistant", "model"), "model": ("assistant", "model"),
    "info": ("event", "harness"), "error": ("event", "harness"), "warning": ("event", "harness"),
}  # fmt: skip
CONTEXT = re.compile(r"\s*<session_context>")
TOLD = ("projectHash", "summary", "directories", "kind")


def matches(head: Head) -> bool:
    """Return whether the file is a chat, or its lines are."""
    return any(_is_chat(record) or "$rewindTo" in record or _is_message(record) for record in head.objects)


def _is_chat(record: dict[str, Any]) -> bool:
    return "sessionId" in record and "projectHash" in record and ("startTime" in record or "messages" in record)


def _is_message(record: dict[str, Any]) -> bool:
    return record.get("type") in ("user", "gemini") and "content" in record and "id" in record


@dataclass
class _Chat:
    """A session as its file tells it: the last version of each message, and what each follows."""

    metadata: dict[str, Any] = field(default_factory=dict)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    records: dict[str, list[InputRecord]] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)  # the messages in force

    def put(self, message: dict[str, Any], record: InputRecord | None = None) -> bool:
        """Take a version of a message; returns whether it is one."""
        if str(message.get("type")) not in TYPES:
            return False
        external_id = text_or_none(message.get("id")) or f"#{digest(message.get('timestamp'), message.get('content'))}"
        if external_id not in self.messages:
            self.parents[external_id] = self.path[-1] if self.path else None
        if external_id not in self.path:
            self.path.append(external_id)
        self.messages[external_id] = message
        if record is not None:
            self.records.setdefault(external_id, []).append(record)
        return True

    def replace(self, messages: list[Any]) -> None:
        """Take a snapshot of all messages in force."""
        self.path = []
        for message in mappings(messages):
            self.put(message)

    def rewind(self, target: Any) -> None:
        self.path = self.path[: self.path.index(target)] if target in self.path else []


def read(source: Source) -> Iterator[Item]:
    """Yield the session and the messages of a chat."""
    chat, others, wholes = _Chat(), [], []  # type: _Chat, list[InputRecord], list[InputRecord]
    for record, value, problem in records(source):
        if problem is not None or not isinstance(value, dict):
            yield Bad(record, problem or "the line is no object")
        elif isinstance(value.get("messages"), list) and value["messages"]:
            chat.metadata |= {key: inner for key, inner in value.items() if key != "messages"}
            chat.replace(value["messages"])
            wholes.append(record)
        elif chat.put(value, record):
            continue
        else:
            patch = mapping(value.get("$set")) or value
            if "$rewindTo" in value:
                chat.rewind(value["$rewindTo"])
            if isinstance(patch.get("messages"), list):
                chat.replace(patch["messages"])
            (wholes if patch.get("messages") else others).append(record)
            chat.metadata |= {key: inner for key, inner in patch.items() if key != "messages"}
    yield from (Ignored(record) for record in others)
    yield from items(chat, source)
    yield from (Whole(record) if chat.messages else Ignored(record) for record in wholes)


def items(chat: _Chat, source: Source) -> Iterator[Item]:
    """Yield the session and the last versions of its messages, those in force last."""
    if not chat.messages:
        return
    told = chat.metadata
    session = text_or_none(told.get("sessionId")) or f"sha256:{digest(next(iter(chat.messages.values())))}"
    folder = posixpath.basename(posixpath.dirname(source.name.replace("\\", "/")))
    parent = folder if told.get("kind") == "subagent" and folder not in ("chats", session) else None
    directories = [text for text in map(text_or_none, sequence(told.get("directories"))) if text]
    yield SessionRecord(
        session,
        title=text_or_none(told.get("summary")),
        project=directories[0] if directories else None,
        started_at=moment(told.get("startTime")),
        parent_external_id=parent,
        relation="subagent" if parent else None,
        head=f"{session}/{chat.path[-1]}" if chat.path else None,
        updated_at=moment(told.get("lastUpdated")) or source.mtime(),
        metadata={key: told[key] for key in TOLD if told.get(key)} or None,
    )
    for external_id, message in chat.messages.items():
        above = chat.parents[external_id]
        role, origin = TYPES[str(message["type"])]
        content = content_of(message.get("content"))
        if origin == "human" and content and CONTEXT.match(str(content[0].get("text"))):
            origin = "harness"
        elif origin == "human" and told.get("kind") == "subagent":
            origin = "model"  # of the parent
        counted = mapping(message.get("tokens"))
        yield MessageRecord(
            session,
            f"{session}/{external_id}",
            f"{session}/{above}" if above else None,
            role,
            origin,
            packed(message, content),
            model=reference("google", text_or_none(message.get("model"))) if role == "assistant" else None,
            usage=tokens(counted) if counted else Usage(),
            raw_usage=counted or None,
            created_at=moment(message.get("timestamp")),
            metadata={"type": message["type"]} if role == "event" else None,
            records=chat.records.get(external_id, []),
        )


def content_of(content: Any) -> list[blocks.Block]:
    """Return the blocks of a part, of parts, or of a text."""
    found = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            found += [blocks.text(part)] if part else []
        elif isinstance(part, dict):
            found.append(block(part))
    return found


def block(part: dict[str, Any]) -> blocks.Block:
    """Return a part of Gemini's API as a block."""
    inline = mapping(part.get("inlineData"))
    called, answered = mapping(part.get("functionCall")), mapping(part.get("functionResponse"))
    if isinstance(part.get("text"), str):
        return blocks.thinking(part["text"]) if part.get("thought") is True else blocks.text(part["text"])
    if isinstance(inline.get("data"), str):
        kind = str(inline.get("mimeType")).partition("/")[0]
        return blocks.media(
            kind if kind in ("image", "audio", "video") else "file", inline.get("mimeType"), inline["data"]
        )
    if called:
        return blocks.tool_use(called.get("id"), called.get("name"), called.get("args"))
    if answered:
        return blocks.tool_result(answered.get("id"), answered.get("response"), answered.get("name"))
    return {**part, "type": "file" if "fileData" in part else str(part.get("type") or "part")}


def packed(message: dict[str, Any], content: list[blocks.Block]) -> Packed:
    """Return a message with its thoughts, its calls of tools and what they answered."""
    thoughts = []
    for thought in mappings(message.get("thoughts")):
        told = (text_or_none(thought.get(key)) for key in ("subject", "description"))
        thoughts.append(blocks.thinking("\n".join(filter(None, told))))
    tools: list[blocks.Block] = []
    for call in mappings(message.get("toolCalls")):
        tools.append(blocks.tool_use(call.get("id"), call.get("name"), call.get("args")))
        answer = call.get("result", call.get("resultDisplay"))
        if answer is not None:
            responses = [mapping(part.get("functionResponse")).get("response") for part in mappings(answer)]
            answers = [response for response in responses if response is not None] or answer
            more = {"status": call["status"]} if text_or_none(call.get("status")) else {}
            tools.append(blocks.tool_result(call.get("id"), _readable(answers), call.get("name"), **more))
    return pack([*thoughts, *content, *tools])


def _readable(told: Any) -> Any:
    """Return a single text output as that text, anything else as text blocks or JSON."""
    if isinstance(told, list) and len(told) == 1:
        output = mapping(told[0]).get("output", told[0])
        return output if isinstance(output, str) else told[0]
    return [blocks.text(item) if isinstance(item, str) else item for item in told] if isinstance(told, list) else told


def tokens(counted: dict[str, Any]) -> Usage:
    """Return Gemini CLI's counts as ours: tool prompts into the input, thoughts into the output."""
    given, written, cached, thoughts, tool = (
        token_count(counted.get(key)) for key in ("input", "output", "cached", "thoughts", "tool")
    )
    return Usage(
        None if given is None else given + (tool or 0),
        cached,
        None,
        None if written is None else written + (thoughts or 0),
        thoughts,
    )
