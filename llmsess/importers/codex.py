"""Codex CLI's rollouts: `~/.codex/sessions/YYYY/MM/DD/rollout-<time>-<id>.jsonl`, and `archived_sessions/`.

One JSON object a line, `{timestamp, type, payload}`; in older files the bare payloads. What is special:
- What a model gave between two inputs (reasoning, calls of tools, text) is one message here, known by its first item.
- `token_count` events are cumulative: a message gets what they grew by. Where there are only such events, each that
  grew is a message without text. Input includes what was cached, output includes reasoning.
- A fork or a sub-agent repeats its parent's file with other times. An item is known by the hash of the items up to it,
  so what is repeated is found again in the sessions it descends from, in either order of the files.
- Texts are in `response_item`s; the events of the same texts are read only where a file has no such items.
- Texts that Codex put in front of the person's own (environment, instructions) have the role user too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from llmsess.importers import blocks
from llmsess.importers.base import Bad, Ignored, InputRecord, Item, MessageRecord, SessionRecord
from llmsess.importers.reading import digest, mapping, mappings, moment, parsed, records, reference, text_or_none
from llmsess.importers.source import BUFFER_BYTES, Head, Source
from llmsess.models import TOKEN_FIELDS, token_count
from llmsess.parts import pack
from llmsess.prices import Usage

NAME = "codex"
DESCRIPTION = "Codex CLI rollouts (.jsonl, all generations, forks)"
PLACES = ("~/.codex/sessions", "~/.codex/archived_sessions")
ENVELOPES = ("session_meta", "turn_context", "response_item", "event_msg", "compacted", "request_item", "world_state")
ITEMS = ("message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
         "local_shell_call", "web_search_call", "tool_search_call", "image_generation_call", "tool_call", "tool_result",
         "function_result")  # fmt: skip
RESULTS = ("function_call_output", "custom_tool_call_output", "tool_result", "function_result")
SPOKEN = {"user_message": "user", "agent_message": "assistant"}  # events with a text, and whose
INJECTED = re.compile(
    r"\s*(<(environment_context|user_instructions|INSTRUCTIONS|permissions|collaboration_mode|turn_aborted|skill)"
    r"|# AGENTS\.md instructions|# Context from my IDE setup)"
)
ID_IN_NAME = re.compile(r"rollout-.*?([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})")
IDE_REQUEST = "## My request for Codex:"


def matches(head: Head) -> bool:
    """Return whether the first lines are of a rollout, with or without their envelopes."""
    return any(_is_line(record) for record in head.objects)


def _is_line(record: dict[str, Any]) -> bool:
    kind = record.get("type")
    if isinstance(record.get("payload"), dict):
        return kind in ENVELOPES
    if record.get("record_type") == "state" or {"id", "timestamp", "instructions"} <= record.keys():
        return True
    timed = isinstance(record.get("timestamp") or record.get("created_at"), str)
    said = record.get("role") in ("user", "assistant")
    bare = said and kind == "message" and isinstance(record.get("content"), list)
    flat = said and timed and "type" not in record and isinstance(record.get("content"), (str, list))
    return bare or flat or (kind in ITEMS and "call_id" in record)


def read(source: Source) -> Iterator[Item]:
    """Yield the session and the messages of one rollout."""
    reader = _Reader(source)
    for record, value, problem in records(source):
        if problem is not None or not isinstance(value, dict):
            yield Bad(record, problem or "the line is no object")
        else:
            yield from reader.take(record, value)
    yield from reader.close()


class _Reader:
    """Turns the lines of one rollout into records; holds the model's message that still grows."""

    def __init__(self, source: Source) -> None:
        named = ID_IN_NAME.search(source.name.rpartition("/")[2])
        self.session = named[1] if named else ""
        self.has_items = _has_items(source)
        self.begun = False
        self.first: dict[str, Any] = {}  # line, which names a session that has no id
        self.meta: dict[str, Any] = {}
        self.model: str | None = None
        self.provider = "openai"
        self.chain = b""  # the hash of all items so far
        self.latest: str | None = None  # external id of the newest message
        self.growing: MessageRecord | None = None  # the model's, of `items`
        self.items: list[Any] = []
        self.totals = [0] * 5

    def take(self, record: InputRecord, line: dict[str, Any]) -> Iterator[Item]:
        """Yield what a line becomes, and what it ends."""
        self.first = self.first or line
        enveloped = isinstance(line.get("payload"), dict)
        payload, kind = (line["payload"], line.get("type")) if enveloped else (line, None)
        time = moment(line.get("timestamp") or line.get("created_at"))
        inner = str(payload.get("type") or "message")
        if kind == "session_meta" or (not enveloped and {"id", "timestamp", "instructions"} <= line.keys()):
            self.meta_of(payload)
            yield Ignored(record)
        elif kind == "turn_context":
            self.model = text_or_none(payload.get("model")) or self.model
            yield Ignored(record)
        elif kind == "event_msg":
            yield from self.event(record, payload, time, line)
        elif kind in ("response_item", "request_item") or (not enveloped and _is_item(line)):
            self.model = text_or_none(payload.get("model")) or self.model
            yield from self.item(record, payload, inner, time)
        elif kind == "compacted" and text_or_none(payload.get("message")):
            yield from self.said(record, "event", "harness", [blocks.text(payload["message"])], time, "compacted")
        else:
            yield Ignored(record)

    # Sessions

    def meta_of(self, payload: dict[str, Any]) -> None:
        """Take the first description of the session; a fork's file may repeat its parent's."""
        if self.meta or self.begun:
            return
        self.meta = payload
        told = text_or_none(payload.get("id")) or text_or_none(payload.get("session_id"))
        self.session = told or self.session
        self.provider = text_or_none(payload.get("model_provider")) or "openai"

    def begin(self) -> Iterator[Item]:
        """Yield the session before its first message."""
        if self.begun:
            return
        self.begun = True
        self.session = self.session or f"sha256:{digest(self.first)}"
        meta = self.meta
        forked = text_or_none(meta.get("forked_from_id"))
        spawned = text_or_none(meta.get("parent_thread_id"))
        git = mapping(meta.get("git"))
        told = {"cwd": meta.get("cwd"), "version": meta.get("cli_version"), "originator": meta.get("originator")}
        told |= {"git_branch": git.get("branch"), "git_commit": git.get("commit_hash")}
        instructions = meta.get("base_instructions") or meta.get("instructions")
        yield SessionRecord(
            self.session,
            project=text_or_none(meta.get("cwd")),
            model=reference(self.provider, self.model),
            started_at=moment(meta.get("timestamp")),
            system_prompt=text_or_none(mapping(instructions).get("text") or instructions),
            parent_external_id=forked or spawned,
            relation="fork" if forked else "subagent" if spawned else None,
            metadata={key: value for key, value in told.items() if value} or None,
        )

    # Messages

    def next_id(self, *content: Any) -> str:
        """Return the id of the next item: the hash of what it says and of all before it."""
        text = json.dumps(content, ensure_ascii=False, sort_keys=True)
        self.chain = hashlib.sha256(self.chain + text.encode(errors="surrogatepass")).digest()
        return self.chain.hex()[:32]

    def item(self, record: InputRecord, payload: dict[str, Any], kind: str, time: Any) -> Iterator[Item]:
        """Take an item of a conversation: what was said to the model, what a tool answered, what the model gave."""
        role = text_or_none(payload.get("role"))
        if kind == "message" and role != "assistant":
            content = payload.get("content", payload.get("message"))
            said = content if isinstance(content, list) else [blocks.text(str(content))] if content else []
            known = role if role in ("user", "system", "developer", "tool") else "event"
            who = origin(known, said)
            by_model = who == "human" and bool(self.meta.get("parent_thread_id"))  # who wrote to a sub-agent
            yield from self.said(record, known, "model" if by_model else who, said, time, role)
        elif kind in RESULTS:
            output = payload.get("output", payload.get("result"))
            result = blocks.tool_result(payload.get("call_id"), parsed(output), payload.get("name"))
            yield from self.said(record, "tool", "tool", [result], time, kind)
        elif kind in ITEMS:
            yield from self.grow(record, given(payload, kind), time)
        else:
            yield Ignored(record)

    def said(
        self, record: InputRecord, role: str, origin: str, content: list[Any], time: Any, *told: Any
    ) -> Iterator[Item]:
        """Yield a message that no model gave, after the model's that it ends."""
        yield from self.begin()
        yield from self.finish()
        external_id = self.next_id(role, content, told)
        yield MessageRecord(
            self.session, external_id, self.latest, role, origin, pack(content),
            created_at=time, records=[record], kin=True,
        )  # fmt: skip
        self.latest = external_id

    def grow(self, record: InputRecord, content: list[Any], time: Any) -> Iterator[Item]:
        """Add an item to the model's message, or begin one."""
        yield from self.begin()
        external_id = self.next_id("assistant", content)
        if self.growing is None:
            self.growing = MessageRecord(
                self.session, external_id, self.latest, "assistant", "model", pack(None),
                model=reference(self.provider, self.model), created_at=time, kin=True,
            )  # fmt: skip
        self.items += content
        self.growing.records.append(record)

    def finish(self) -> Iterator[Item]:
        """Yield the model's message that grew."""
        if self.growing is not None:
            self.growing.packed = pack(self.items)
            self.latest = self.growing.external_id
            yield self.growing
        self.growing, self.items = None, []

    # Events

    def event(self, record: InputRecord, payload: dict[str, Any], time: Any, line: dict[str, Any]) -> Iterator[Item]:
        kind = str(payload.get("type"))
        if kind in ("token_count", "turn.completed"):
            yield from self.count(record, payload, time)
        elif kind in SPOKEN and not self.has_items and text_or_none(payload.get("message")):
            content = [blocks.text(payload["message"])]
            if SPOKEN[kind] == "assistant":
                yield from self.grow(record, content, time)
            else:
                yield from self.said(record, "user", origin("user", content), content, time, "user")
        else:
            yield Ignored(record)

    def count(self, record: InputRecord, payload: dict[str, Any], time: Any) -> Iterator[Item]:
        """Give what a cumulative count grew by to the model's message before it."""
        info = mapping(payload.get("info"))
        self.model = text_or_none(info.get("model")) or self.model
        total = mapping(info.get("total_token_usage"))
        if total:
            counted = list(tokens(total))
            grown = [max(new - old, 0) for new, old in zip(counted, self.totals, strict=True)]
            self.totals = counted
        else:  # of older versions: the count of one reply
            grown = list(tokens(mapping(payload.get("usage")) or info))
        if not any(grown):
            yield Ignored(record)
            return
        if self.growing is None or self.growing.raw_usage is not None:
            yield from self.begin()
            yield from self.finish()
            external_id = self.next_id("usage", total or grown)
            self.growing = MessageRecord(
                self.session, external_id, self.latest, "assistant", "model", pack(None), created_at=time, kin=True
            )
        self.growing.model = reference(self.provider, self.model)
        self.growing.usage = Usage(*(n if i != 2 else None for i, n in enumerate(grown)))
        self.growing.raw_usage = mapping(payload.get("info")) or mapping(payload.get("usage"))
        self.growing.records.append(record)

    def close(self) -> Iterator[Item]:
        """Yield what is left; where nothing was said, the session that is named."""
        if self.session:
            yield from self.begin()
        yield from self.finish()


def _has_items(source: Source) -> bool:
    """Return whether the texts of a rollout are items, so that events of the same texts are twins.

    Only answers that are events tell the contrary: while a session goes on, a prompt's event may come before its item.
    """
    answers, tail = False, b""
    with source.open() as file:
        while block := file.read(BUFFER_BYTES):
            if b'"response_item"' in tail + block:
                return True
            answers = answers or b'"agent_message"' in tail + block
            tail = block[-20:]
    return not answers


def _is_item(line: dict[str, Any]) -> bool:
    kind = line.get("type")
    return kind in ITEMS or ("role" in line and ("content" in line or "message" in line))


def origin(role: str, content: list[Any]) -> str:
    """Return who really wrote what was said to the model."""
    if role != "user":
        return "tool" if role == "tool" else "harness"
    said = [text for block in mappings(content) if (text := text_or_none(block.get("text")))]
    injected = bool(said) and all(INJECTED.match(text) and IDE_REQUEST not in text for text in said)
    return "harness" if injected else "human"


def given(payload: dict[str, Any], kind: str) -> list[Any]:
    """Return the blocks of an item that the model gave."""
    if kind == "message":
        content = payload.get("content", payload.get("message"))
        return content if isinstance(content, list) else [blocks.text(str(content))] if content else []
    if kind == "reasoning":
        told = [*mappings(payload.get("summary")), *mappings(payload.get("content"))]
        texts = [text for block in told if (text := text_or_none(block.get("text")))]
        return [blocks.thinking("\n\n".join(texts))] if texts else []
    function = mapping(payload.get("function"))
    name = payload.get("name") or function.get("name") or kind
    keys = ("arguments", "parameters", "input", "action", "summary")
    arguments = next((payload[key] for key in keys if payload.get(key) is not None), function.get("arguments"))
    return [blocks.tool_use(payload.get("call_id"), name, parsed(arguments))]


def tokens(usage: dict[str, Any]) -> tuple[int, ...]:
    """Return input, cached, cache write (0), output and reasoning tokens of a usage object, 0 for none."""
    keys = (("input_tokens", "prompt"), ("cached_input_tokens",), (), ("output_tokens", "completion"),
            ("reasoning_output_tokens",))  # fmt: skip
    assert len(keys) == len(TOKEN_FIELDS)
    return tuple(next((n for key in names if (n := token_count(usage.get(key)))), 0) for names in keys)
