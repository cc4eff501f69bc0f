"""Claude Code's transcripts: `~/.claude/projects/<folder>/<session>.jsonl`, sub-agents beside or below it.

One JSON object a line, appended. What is special:
- One reply is several lines with the same `message.id`, each with one block and a usage that grows: they become one
  message, with the last usage. Input tokens are reported without the cached ones, which are added.
- `parentUuid` names lines. Lines that are no messages stay out of the tree, so what follows one is hung on what it
  follows; after a compaction that is `logicalParentUuid`.
- A user line with tool results is the role tool. Who wrote a user line is told by its marks (`isMeta`,
  `<command-name>`, ...); those of sub-agents were written by the parent's model.
- A resumed file repeats lines of the file before with their uuids; `transfer` finds them by those.
- Sub-agents (`agentId`, `isSidechain`) are sessions of their own, children of the session they ran in.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from llmsess.importers.anthropic_chat import tokens
from llmsess.importers.base import (
    Bad,
    Ignored,
    InputRecord,
    Item,
    MessageRecord,
    SessionRecord,
    TitleRecord,
)
from llmsess.importers.reading import moment, records, text_or_none
from llmsess.importers.source import Head, Source
from llmsess.models import reported_usd
from llmsess.parts import pack
from llmsess.prices import Usage
from llmsess.texts import clean

T = TypeVar("T")
NAME = "claude-code"
DESCRIPTION = "Claude Code transcripts (.jsonl files and folders, with sub-agents; loglines exports)"
PLACES = ("~/.claude/projects", "~/.config/claude/projects")
RECENT = 50_000  # lines, replies or sessions of a file that are remembered
OPEN_REPLIES = 64  # how many replies may still grow; a reply's lines lie close together
UUID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
SYNTHETIC = "<synthetic>"  # the "model" of replies that Claude Code made up itself
HARNESS = re.compile(
    r"\s*(<(command-name|command-message|local-command-|system-reminder|user-prompt-submit-hook|task-notification"
    r"|bash-(input|stdout|stderr))|Caveat: The messages below were generated|\[Request interrupted by user)"
)


def matches(head: Head) -> bool:
    """Return whether the first records look like transcript lines or an object of them."""
    if len(head.objects) == 1 and isinstance(head.objects[0].get("loglines"), list):
        return True
    return any(_is_line(record) for record in head.objects)


def is_part(head: Head) -> bool:
    """Return whether a file only says what kind of sub-agent the transcript beside it is of."""
    return any("agentType" in record and "type" not in record for record in head.objects)


def _is_line(record: dict[str, Any]) -> bool:
    if record.get("type") in ("user", "assistant") and isinstance(record.get("message"), dict):
        return True
    if {"type", "uuid", "parentUuid", "sessionId"} <= record.keys():
        return True
    if record.get("type") in ("summary", "file-history-snapshot", "queue-operation"):
        return "leafUuid" in record or "snapshot" in record or "operation" in record
    message = record.get("message")
    return "type" not in record and isinstance(message, dict) and isinstance(message.get("usage"), dict)


def read(source: Source) -> Iterator[Item]:
    """Yield the sessions and messages of one transcript file."""
    reader = _Reader(source.stem)
    for record, value, problem in records(source, "loglines"):
        if problem is not None or not isinstance(value, dict):
            yield Bad(record, problem or "the line is no object")
        else:
            yield from reader.take(record, value)
    yield from reader.close_all()


class _Recent(OrderedDict[str, T]):
    """The newest entries of a mapping: a file may be a gigabyte, and what is forgotten is found in the database."""

    def __setitem__(self, key: str, value: T) -> None:
        super().__setitem__(key, value)
        if len(self) > RECENT:
            self.popitem(last=False)


@dataclass
class _Growing:
    """A reply whose lines are still coming in."""

    session: str
    external_id: str
    first: dict[str, Any]
    parents: list[str | None] = field(default_factory=list)
    blocks: list[Any] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)
    records: list[InputRecord] = field(default_factory=list)
    is_text: bool = False

    def add(self, record: InputRecord, line: dict[str, Any], message: dict[str, Any], parent: str | None) -> None:
        self.parents.append(parent)
        content = message.get("content")
        self.is_text = isinstance(content, str)
        self.blocks.extend(
            content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
        )
        self.last = line
        self.records.append(record)


class _Reader:
    """Turns the lines of one file into records; holds the replies that may still grow."""

    def __init__(self, stem: str) -> None:
        self.stem = stem
        self.sessions: set[str] = set()
        self.is_session = bool(UUID.fullmatch(stem))  # a real transcript is named for its session
        self.current: str | None = None  # the session of lines that name none
        self.side: dict[str, str] = {}  # uuid of an old sidechain line: the session of its sidechain
        self.growing: dict[str, _Growing] = {}
        self.waiting: list[MessageRecord | str] = []  # in order: finished messages, and ids of growing ones
        self.message_of: _Recent[str | None] = _Recent()  # line uuid: its message's id, or what it hangs on
        self.latest: _Recent[str] = _Recent()  # session: its newest message
        self.closed: _Recent[int] = _Recent()  # message.id: how often it was closed before its last line came
        self.titles: list[TitleRecord] = []  # told after all messages, one of which they may name
        self.count = 0

    def take(self, record: InputRecord, line: dict[str, Any]) -> Iterator[Item]:
        """Yield what one line and the replies it closes become."""
        uuid = line.get("uuid")
        record = InputRecord(record.line, record.raw, uuid if isinstance(uuid, str) and uuid else None)
        self.count += 1
        message, kind = line.get("message"), line.get("type")
        if kind in ("summary", "ai-title", "custom-title"):
            yield from self.title(record, line)
            return
        if kind not in ("user", "assistant", None) or not isinstance(message, dict):
            self.alias(line)
            odd = "a message that is no object" if kind in ("user", "assistant") else None
            yield Ignored(record, odd)
            return
        role = kind or message.get("role")
        if role == "assistant":
            session = yield from self.session(line)
            self.grow(record, line, message, session)
        elif role == "user" and message.get("content"):
            session = yield from self.session(line)
            self.user(record, line, message["content"], session)
        else:
            self.alias(line)
            yield Ignored(record, "a message without content" if role == "user" else None)
        while len(self.growing) > OPEN_REPLIES:
            yield from self.close(next(iter(self.growing)))
        yield from self.ready()

    # Sessions

    def session_id(self, line: dict[str, Any]) -> str:
        """Return the external id of a line's session."""
        named = text_or_none(line.get("sessionId"))
        agent = text_or_none(line.get("agentId"))
        if line.get("isSidechain") and named:
            return f"{named}/agent-{agent}" if agent else self.sidechain(line, named)
        if self.is_session:
            return self.stem  # in a resumed file, copied lines keep the id of the session before
        if named is None:
            return self.current or self.nameless(line)
        return named

    def sidechain(self, line: dict[str, Any], named: str) -> str:
        """Return the session of an old sidechain, which lies among the lines of the session that started it."""
        uuid, parent = clean(str(line.get("uuid"))), text_or_none(line.get("parentUuid"))
        session = self.side.get(parent) if parent else None
        self.side[uuid] = session or self.side.get(uuid) or f"{named}/sidechain-{uuid}"
        return self.side[uuid]

    def nameless(self, line: dict[str, Any]) -> str:
        return "sha256:" + hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()[:32]

    def session(self, line: dict[str, Any]) -> Generator[Item, None, str]:
        """Make the line's session the current one, yield its record the first time, and return its external id."""
        external_id = self.session_id(line)
        if not line.get("isSidechain"):
            self.current = external_id
        if external_id in self.sessions:
            return external_id
        self.sessions.add(external_id)
        named = text_or_none(line.get("sessionId"))
        parent = named if named and named != external_id else None
        relation = ("subagent" if line.get("isSidechain") else "resume") if parent else None
        told = {"git_branch": "gitBranch", "version": "version", "cwd": "cwd", "agent_id": "agentId", "slug": "slug"}
        yield SessionRecord(
            external_id,
            project=text_or_none(line.get("cwd")),
            started_at=moment(line.get("timestamp")),
            parent_external_id=parent,
            relation=relation,
            metadata={ours: line[theirs] for ours, theirs in told.items() if line.get(theirs)} or None,
        )
        return external_id

    def title(self, record: InputRecord, line: dict[str, Any]) -> Iterator[Item]:
        """Take a title line. A summary names a message, usually of another file: linking finds whose it is."""
        text = text_or_none(line.get("summary") or line.get("title") or line.get("customTitle") or line.get("aiTitle"))
        named = text_or_none(line.get("sessionId")) or self.current
        leaf = text_or_none(line.get("leafUuid"))
        if text and leaf:
            self.titles.append(TitleRecord(leaf, text, record, is_message=True))
        elif text and named:
            self.titles.append(TitleRecord(named, text, record))
        else:
            yield Ignored(record)

    # Messages

    def parent(self, line: dict[str, Any], session: str) -> str | None:
        """Return the external id of the message a line hangs on."""
        if "parentUuid" not in line:
            return self.latest.get(session)
        named = text_or_none(line["parentUuid"] or line.get("logicalParentUuid"))
        return self.message_of.get(named, named) if named else None

    def alias(self, line: dict[str, Any]) -> None:
        """Remember that what follows a line that is no message hangs on what that line follows."""
        uuid = text_or_none(line.get("uuid"))
        if uuid and uuid not in self.message_of:
            self.message_of[uuid] = self.parent(line, self.session_id(line))

    def place(self, line: dict[str, Any], session: str, external_id: str) -> None:
        uuid = text_or_none(line.get("uuid"))
        if uuid and uuid != external_id:  # most are equal: a large file has a million of them
            self.message_of[uuid] = external_id
        self.latest[session] = external_id

    def user(self, record: InputRecord, line: dict[str, Any], content: Any, session: str) -> None:
        """Take a user line: a prompt, tool results, or something that Claude Code wrote."""
        blocks = content if isinstance(content, list) else None
        is_result = any(isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks or [])
        external_id = record.external_id or f"{session}#{self.count}"
        message = MessageRecord(
            session,
            external_id,
            self.parent(line, session),
            "tool" if is_result else "user",
            "tool" if is_result else origin(line, content),
            pack(blocks if blocks is not None else str(content)),
            created_at=moment(line.get("timestamp")),
            metadata=_marks(line),
            records=[record],
        )
        self.place(line, session, external_id)
        self.waiting.append(message)

    def grow(self, record: InputRecord, line: dict[str, Any], message: dict[str, Any], session: str) -> None:
        """Take a line of a reply: the first of its id, or a further one."""
        api_id = text_or_none(message.get("id"))
        external_id = self.reply_id(api_id, session) if api_id else record.external_id or f"{session}#{self.count}"
        parent = self.parent(line, session)
        reply = self.growing.get(external_id)
        if reply is None:
            reply = _Growing(session, external_id, line)
            self.growing[external_id] = reply
            self.waiting.append(external_id)
        reply.add(record, line, message, parent)
        self.place(line, session, external_id)

    def reply_id(self, api_id: str, session: str) -> str:
        times = self.closed.get(api_id, 0)
        return f"{api_id}+{times}" if times else api_id

    def close(self, external_id: str) -> Iterator[Item]:
        """Finish a growing reply in its place."""
        reply = self.growing.pop(external_id)
        api_id = text_or_none(reply.last["message"].get("id"))
        if api_id:
            self.closed[api_id] = self.closed.get(api_id, 0) + 1
        self.waiting[self.waiting.index(external_id)] = finished(reply, self.first_parent(reply))
        yield from self.ready()

    def first_parent(self, reply: _Growing) -> str | None:
        """Return what a reply hangs on: the first of its lines' parents that is not a line of its own."""
        parents = [self.message_of.get(parent, parent) if parent else None for parent in reply.parents]
        return next((parent for parent in parents if parent != reply.external_id), None)

    def ready(self) -> Iterator[Item]:
        """Yield the messages that no growing reply stands before."""
        while self.waiting and isinstance(self.waiting[0], MessageRecord):
            yield self.waiting.pop(0)  # type: ignore[misc]

    def close_all(self) -> Iterator[Item]:
        for external_id in list(self.growing):
            yield from self.close(external_id)
        for title in self.titles:
            target = self.message_of.get(title.target) if title.is_message else None
            title.target = target or title.target
            yield title


def finished(reply: _Growing, parent: str | None) -> MessageRecord:
    """Return a reply whose lines are all there."""
    message = reply.last["message"]
    model = text_or_none(message.get("model"))
    made_up = model == SYNTHETIC or bool(reply.last.get("isApiErrorMessage"))
    raw_usage = message.get("usage") if isinstance(message.get("usage"), dict) else None
    only_text = reply.is_text and len(reply.blocks) == 1
    packed = pack(reply.blocks[0]["text"] if only_text else reply.blocks)
    return MessageRecord(
        reply.session,
        reply.external_id,
        parent,
        "assistant",
        "harness" if made_up else "model",
        packed,
        model=f"anthropic/{model}" if model and not made_up else None,
        usage=tokens(raw_usage) if raw_usage and not made_up else Usage(),
        raw_usage=raw_usage,
        cost_usd=reported_usd(reply.last.get("costUSD")),  # of old versions
        finish_reason=text_or_none(message.get("stop_reason")),
        error=packed.content[:300] if reply.last.get("isApiErrorMessage") else None,
        created_at=moment(reply.first.get("timestamp")),
        metadata=_marks(reply.last),
        records=reply.records,
    )


def origin(line: dict[str, Any], content: Any) -> str:
    """Return who really wrote a user line: human, harness, or for a sub-agent the model."""
    if line.get("isSidechain"):
        return "model"
    if line.get("isMeta") or line.get("isCompactSummary"):
        return "harness"
    blocks = content if isinstance(content, list) else [content]
    texts = [block.get("text") if isinstance(block, dict) else block for block in blocks]
    said = [text for text in texts if isinstance(text, str) and text.strip()]
    return "harness" if said and all(HARNESS.match(text) for text in said) else "human"


def _marks(line: dict[str, Any]) -> dict[str, Any] | None:
    """Return the marks of a line that tell how to show it."""
    names = ("isMeta", "isCompactSummary", "isVisibleInTranscriptOnly", "isApiErrorMessage", "requestId")
    marks = {name: line[name] for name in names if line.get(name)}
    return marks | ({"hidden": True} if line.get("isMeta") is True else {}) or None
