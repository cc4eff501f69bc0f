"""VS Code's Copilot chats: `workspaceStorage/<hash>/chatSessions/<id>.json`, since 1.109 a log of operations `.jsonl`.

A request and its response are two messages. The log is replayed: `{"kind": 0, "v": session}`, then values that are set
(1), appended to a list (2, after it is cut at `i`) or deleted (3) at a path `k`; the session is the record, its lines
belong to it. Tokens are told with the result. Agents' edits and references are kept as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmsess.importers import blocks
from llmsess.importers.base import Bad, Ignored, InputRecord, Item, MessageRecord, SessionRecord, Whole
from llmsess.importers.reading import digest, mapping, mappings, moment, records, sequence, text_or_none
from llmsess.importers.source import Head, Source
from llmsess.models import token_count
from llmsess.parts import Packed, pack
from llmsess.prices import Usage

NAME = "vscode-copilot"
DESCRIPTION = "VS Code Copilot chat sessions (.json and .jsonl)"
_USERS = ("~/.config/Code", "~/Library/Application Support/Code", "$APPDATA/Code")
PLACES = tuple(
    f"{user}/User/{folder}"
    for user in _USERS
    for folder in ("workspaceStorage/*/chatSessions", "globalStorage/emptyWindowChatSessions")
)
SILENT = (  # parts of a response that say nothing by themselves
    "toolInvocation", "toolInvocationSerialized", "prepareToolInvocation", "progressMessage", "progressTask",
    "progressTaskSerialized", "textEdit", "textEditGroup", "notebookEdit", "notebookEditGroup", "codeblockUri",
    "undoStop", "confirmation", "reference", "warning", "command", "treeData", "extensions", "pullRequest",
    "multiDiffData", "mcpServersStarting", "elicitation", "elicitationSerialized", "codeCitation", "move",
    "clearToPreviousToolInvocation", "questionCarousel", "workspaceEdit", "hook", "agentDetection",
)  # fmt: skip
MAX_PATH = 40  # keys in the path of an operation: each may go as much deeper, and deep JSON cannot be kept


def matches(head: Head) -> bool:
    """Return whether the file is a chat, or begins a log of one."""
    return any(_is_chat(record) or _is_start(record) for record in head.objects)


def _is_chat(record: dict[str, Any]) -> bool:
    requests = record.get("requests")
    if not isinstance(requests, list):
        return False
    return any("message" in one and "response" in one for one in mappings(requests)) or "requesterUsername" in record


def _is_start(record: dict[str, Any]) -> bool:
    return record.get("kind") == 0 and isinstance(mapping(record.get("v")).get("requests"), list)


def read(source: Source) -> Iterator[Item]:
    """Yield the chat of a file; of a log as its operations leave it."""
    log: dict[str, Any] | None = None
    first: InputRecord | None = None
    for record, value, problem in records(source):
        if problem is not None or not isinstance(value, dict):
            yield Bad(record, problem or "the line is no object")
        elif _is_start(value):
            log, first = value["v"], first or record
            if first is not record:
                yield Ignored(record)
        elif "kind" in value and "k" in value and log is not None:
            yield Ignored(record) if apply(log, value) else Bad(record, "an operation at a place that is not there")
        elif _is_chat(value):
            yield from chat(value, source)
            yield Whole(record)
        else:
            yield (
                Ignored(record)
                if isinstance(value.get("requests"), list)
                else Bad(record, "no chat: it has no requests")
            )
    if log is not None and first is not None:
        yield from chat(log, source)
        yield Whole(first)


def apply(session: dict[str, Any], operation: dict[str, Any]) -> bool:
    """Change a session as a line of its log says; returns whether its place is there."""
    path, kind = sequence(operation.get("k"))[:MAX_PATH], operation.get("kind")
    place: Any = session
    for key in path[:-1]:
        place = _inner(place, key)
    if not path or len(path) == MAX_PATH or not isinstance(place, (dict, list)):
        return False
    last = path[-1]
    if kind == 1:
        return _put(place, last, operation.get("v"))
    if kind == 2:
        target = _inner(place, last)
        if not isinstance(target, list):
            return _put(place, last, list(sequence(operation.get("v"))))
        cut = operation.get("i")
        if isinstance(cut, int) and not isinstance(cut, bool) and 0 <= cut <= len(target):
            del target[cut:]
        target += sequence(operation.get("v"))
        return True
    if kind == 3 and isinstance(place, dict) and isinstance(last, str):
        place.pop(last, None)
        return True
    return False


def _inner(place: Any, key: Any) -> Any:
    if isinstance(place, dict) and isinstance(key, str):
        return place.get(key)
    if isinstance(place, list) and isinstance(key, int) and not isinstance(key, bool) and 0 <= key < len(place):
        return place[key]
    return None


def _put(place: Any, key: Any, value: Any) -> bool:
    if isinstance(place, dict) and isinstance(key, str):
        place[key] = value
        return True
    if isinstance(place, list) and isinstance(key, int) and not isinstance(key, bool) and 0 <= key <= len(place):
        place[key : key + 1] = [value]
        return True
    return False


def chat(value: dict[str, Any], source: Source) -> Iterator[Item]:
    """Yield the session and the messages of a chat."""
    requests = mappings(value.get("requests"))
    named = text_or_none(value.get("sessionId")) or (
        f"{source.stem}:{digest([one.get('requestId') for one in requests[:1]])[:8]}"
    )
    started = moment(value.get("creationDate")) or moment(mapping(requests[0] if requests else {}).get("timestamp"))
    yield SessionRecord(
        named,
        title=text_or_none(value.get("customTitle")),
        started_at=started,
        updated_at=moment(value.get("lastMessageDate")) or source.mtime(),
        metadata={"responder": value["responderUsername"]} if text_or_none(value.get("responderUsername")) else None,
    )
    before = None
    for number, one in enumerate(requests, 1):
        request_id = f"{named}/{text_or_none(one.get('requestId')) or number}"
        time = moment(one.get("timestamp"))
        asked = mapping(one.get("message"))
        text = asked.get("text") if isinstance(asked.get("text"), str) else one.get("message")
        yield MessageRecord(
            named, request_id, before, "user", "human", pack(text if isinstance(text, str) else None), created_at=time
        )
        before = f"{request_id}/reply"
        yield reply(one, named, before, request_id)


def reply(one: dict[str, Any], session: str, external_id: str, parent: str) -> MessageRecord:
    """Return the response to a request."""
    result = mapping(one.get("result"))
    usage = mapping(result.get("usage")) or mapping(mapping(result.get("metadata")).get("usage")) or result
    keys = (("promptTokens", "prompt_tokens"), ("outputTokens", "completionTokens", "completion_tokens"))
    given, written = (
        next((count for key in names if (count := token_count(usage.get(key))) is not None), None) for names in keys
    )
    timings = mapping(result.get("timings"))
    model = text_or_none(one.get("modelId"))
    error = text_or_none(mapping(result.get("errorDetails")).get("message"))
    canceled = "canceled" if one.get("isCanceled") is True else None
    return MessageRecord(
        session,
        external_id,
        parent,
        "assistant",
        "model",
        packed(one),
        model=model if model and "/" in model else f"copilot/{model}" if model else None,
        usage=Usage(given, None, None, written) if given is not None or written is not None else Usage(),
        raw_usage=usage if given is not None or written is not None else None,
        latency_ms=token_count(timings.get("totalElapsed")),
        ttft_ms=token_count(timings.get("firstProgress")),
        finish_reason=canceled,
        error=error,
        created_at=moment(one.get("timestamp")),
    )


def packed(one: dict[str, Any]) -> Packed:
    """Return the content of a response: texts that follow one another as one, thinking, calls of tools, the rest."""
    found: list[Any] = []
    for part in sequence(one.get("response")):
        for block in part_blocks(part):
            if found and block["type"] == "text" == found[-1]["type"]:
                found[-1] = blocks.text(found[-1]["text"] + block["text"])
            else:
                found.append(block)
    rounds = mappings(mapping(mapping(one.get("result")).get("metadata")).get("toolCallRounds"))
    results = mapping(mapping(mapping(one.get("result")).get("metadata")).get("toolCallResults"))
    for call in (call for turn in rounds for call in mappings(turn.get("toolCalls"))):
        found.append(blocks.tool_use(call.get("id"), call.get("name"), call.get("arguments")))
        answer = results.get(str(call.get("id")))
        if answer is not None:
            content = mapping(answer).get("content", answer)
            texts = [value for item in mappings(content) if (value := text_or_none(item.get("value")))]
            found.append(blocks.tool_result(call.get("id"), "\n".join(texts) or content, call.get("name")))
    return pack(found)


def part_blocks(part: Any) -> Iterator[blocks.Block]:
    """Yield what a part of a response says."""
    if isinstance(part, str):
        yield blocks.text(part)
    elif isinstance(part, dict):
        kind, value = part.get("kind"), part.get("value")
        content = mapping(part.get("content"))
        if kind == "thinking":
            texts = [value] if isinstance(value, str) else [text for text in sequence(value) if isinstance(text, str)]
            yield blocks.thinking("".join(texts))
        elif kind in (None, "markdownContent", "markdownVuln") and isinstance(content.get("value", value), str):
            yield blocks.text(str(content.get("value", value)))
        elif kind == "inlineReference":
            yield blocks.text(f"`{part.get('name') or 'reference'}`")
        else:
            yield {"type": "data" if kind in SILENT else str(kind), "part": part}
