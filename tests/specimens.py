"""Of each format a specimen that uses every field its importer reads: records of JSON, or a file that is made.

`write()` makes a file of a specimen, `mutations()` its records with something odd in each place.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PNG = "iVBORw0KGgo="
SESSION = "0a1b2c3d-0000-4000-8000-000000000001"


def line(uuid: str, parent: str | None, kind: str, content: Any, session: str = SESSION, **more: Any) -> dict[str, Any]:
    """Return a line of a Claude Code transcript."""
    message: dict[str, Any] = {"role": kind, "content": content}
    message |= {key: more.pop(key) for key in ("id", "model", "usage") if key in more}
    return {
        "type": kind, "uuid": uuid, "parentUuid": parent, "sessionId": session, "cwd": "/work/app",
        "timestamp": "2026-01-31T13:00:00.000Z", "message": message,
    } | more  # fmt: skip


def talk(session: str = SESSION) -> list[dict[str, Any]]:
    """Return the lines of a short Claude Code session with a reply of three lines and a call of a tool."""
    usage = {"input_tokens": 3, "cache_creation_input_tokens": 10, "cache_read_input_tokens": 100, "output_tokens": 5}
    return [
        line("u1", None, "user", "Fix the bug", session),
        line("a1", "u1", "assistant", [{"type": "thinking", "thinking": "Hm.", "signature": "s"}], session, id="msg_1", model="claude-x", usage=usage),
        line("a2", "a1", "assistant", [{"type": "text", "text": "Looking."}], session, id="msg_1", model="claude-x", usage=usage),
        line("a3", "a2", "assistant", [{"type": "tool_use", "id": "t1", "name": "Read", "input": {"p": "/a"}}], session, id="msg_1", model="claude-x", usage=usage | {"output_tokens": 50}),
        line("u2", "a3", "user", [{"type": "tool_result", "tool_use_id": "t1", "content": "the file"}], session),
        line("a4", "u2", "assistant", "Done.", session, id="msg_2", model="claude-x", usage=usage),
    ]  # fmt: skip


def chat(*contents: str, **more: Any) -> dict[str, Any]:
    """Return a conversation in OpenAI's form, the sides taking turns."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]} | more


def node(key: str, parent: str | None, role: str, content: Any, children: list[str], **more: Any) -> dict[str, Any]:
    """Return a node of a ChatGPT conversation."""
    message = {"id": key, "author": {"role": role, "name": None}, "create_time": 1_700_000_000.5, "content": content,
               "status": "finished_successfully", "weight": 1.0, "recipient": "all", "metadata": {}} | more  # fmt: skip
    return {"id": key, "message": message, "parent": parent, "children": children}


def text(*parts: Any) -> dict[str, Any]:
    return {"content_type": "text", "parts": list(parts)}


def event(kind: str, payload: dict[str, Any], second: int = 0) -> dict[str, Any]:
    """Return an enveloped line of a Codex rollout."""
    return {"timestamp": f"2026-01-31T13:00:{second:02}.000Z", "type": kind, "payload": payload}


def counted(total: int, output: int) -> dict[str, Any]:
    usage = {"input_tokens": total, "cached_input_tokens": 1, "output_tokens": output, "reasoning_output_tokens": 1}
    return event("event_msg", {"type": "token_count", "info": {"total_token_usage": usage, "last_token_usage": usage}})


UUID = "0123456789abcdef" * 2
OTHER_UUID = "fedcba9876543210" * 2
RECORDS: dict[str, list[dict[str, Any]]] = {
    "llmsess": [
        {"type": "llmsess", "version": 1},
        {"type": "project", "uuid": UUID, "name": "p", "created_at": "2026-01-31T13:00:00.000000Z", "metadata": {"k": 1}},
        {"type": "model", "uuid": UUID, "provider": "x", "model_name": "y", "model_version": "", "is_active": True, "parameters": {"t": 1}, "context_window": 5, "created_at": "2026-01-31T13:00:00.000000Z"},
        {"type": "blob", "sha256": "4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6", "media_type": "image/png", "data": PNG},
        {"type": "session", "uuid": UUID, "title": "t", "session_type": "single", "status": "active", "project": UUID, "model": UUID, "head": UUID, "parent_session": OTHER_UUID, "tags": ["a"], "temperature": 0.5, "max_tokens": 3, "metadata": {"k": 1}, "started_at": "2026-01-31T13:00:00.000000Z", "last_activity_at": "2026-01-31T13:00:00.000000Z"},
        {"type": "message", "session": UUID, "uuid": OTHER_UUID, "sequence_number": 1, "position": 1, "role": "user", "origin": "human", "status": "complete", "content": "hi", "blobs": ["4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6"], "parts": [{"type": "text", "text": ["content", 0, 2]}], "created_at": "2026-01-31T13:00:00.000000Z"},
        {"type": "message", "session": UUID, "uuid": UUID, "parent": OTHER_UUID, "sequence_number": 2, "position": 2, "role": "assistant", "origin": "model", "status": "complete", "content": "hello", "model": UUID, "input_tokens": 1, "output_tokens": 2, "cost": 5, "cost_source": "provider", "usage": {"a": 1}, "latency_ms": 3, "calls": [{"attempt": 1, "owner": "h/1/2", "request_sha256": "0" * 64, "started_at": "2026-01-31T13:00:00.000000Z", "outcome": "ok"}]},
    ],
    "claude-code": [
        *talk(),
        line("s1", "a4", "user", [{"type": "text", "text": "x"}], isSidechain=True, agentId="7", isMeta=True),
        line("s2", "s1", "assistant", "y", id="msg_3", model="claude-x", costUSD=0.5, requestId="r", stop_reason="end"),
        {"type": "summary", "summary": "A title", "leafUuid": "a4"},
        {"type": "system", "uuid": "c", "parentUuid": "a4", "logicalParentUuid": "u1", "sessionId": SESSION},
    ],
    "chatgpt": [
        {"id": "c-1", "conversation_id": "c-1", "title": "A title", "create_time": 1_700_000_000.25, "current_node": "n5", "default_model_slug": "gpt-x", "gizmo_id": "g", "is_archived": True,
         "mapping": {
            "n0": {"id": "n0", "message": None, "parent": None, "children": ["n1"]},
            "n1": node("n1", "n0", "system", text(""), ["n2"], weight=0, metadata={"is_visually_hidden_from_conversation": True}),
            "n2": node("n2", "n1", "user", text("Draw a cat"), ["n3", "n6"], metadata={"attachments": [{"id": "file-1", "name": "cat.png", "size": 8}]}),
            "n3": node("n3", "n2", "assistant", {"content_type": "code", "language": "json", "text": '{"prompt": "cat"}'}, ["n4"], recipient="dalle.text2im", channel="final", metadata={"model_slug": "gpt-y", "finish_details": {"type": "stop"}}),
            "n4": node("n4", "n3", "tool", {"content_type": "multimodal_text", "parts": [{"content_type": "image_asset_pointer", "asset_pointer": "file-service://file-2", "width": 1}, None, "seen"]}, ["n5"], author={"role": "tool", "name": "dalle.text2im"}),
            "n5": node("n5", "n4", "assistant", {"content_type": "thoughts", "thoughts": [{"summary": "s", "content": "c"}]}, []),
            "n6": node("n6", "n2", "user", {"content_type": "user_editable_context", "user_profile": "p", "user_instructions": "i"}, []),
         }},
    ],
    "claude-ai": [
        {"uuid": "d-1", "name": "A name", "created_at": "2026-01-31T13:00:00Z", "model": "claude-x", "current_leaf_message_uuid": "m2", "project": {"name": "p"}, "is_starred": True,
         "chat_messages": [
            {"uuid": "m1", "sender": "human", "text": "hi", "created_at": "2026-01-31T13:00:00Z", "parent_message_uuid": "00000000-0000-4000-8000-000000000000", "attachments": [{"file_name": "a.py", "file_size": 3, "file_type": "py", "extracted_content": "x=1"}], "files": [{"file_name": "b.png", "file_uuid": "f"}]},
            {"uuid": "m2", "sender": "assistant", "text": "", "created_at": "2026-01-31T13:00:01Z", "parent_message_uuid": "m1", "stop_reason": "end_turn", "truncated": True, "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "hello", "citations": []}, {"type": "tool_use", "id": "t", "name": "f", "input": {}}, {"type": "tool_result", "tool_use_id": "t", "content": "r"}]},
         ]},
    ],
    "codex": [
        event("session_meta", {"id": SESSION, "timestamp": "2026-01-31T13:00:00Z", "cwd": "/work", "cli_version": "0.1", "forked_from_id": None, "model_provider": "openai", "instructions": "Be good.", "git": {"branch": "main"}}),
        event("turn_context", {"model": "gpt-x", "cwd": "/work"}),
        event("response_item", {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context>x</environment_context>"}]}),
        event("event_msg", {"type": "user_message", "message": "List the files"}),
        event("response_item", {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "List the files"}]}, 1),
        event("response_item", {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "gAAA"}, 2),
        event("response_item", {"type": "function_call", "name": "shell", "arguments": '{"cmd": "ls"}', "call_id": "c"}, 2),
        counted(100, 10),
        event("response_item", {"type": "function_call_output", "call_id": "c", "output": "a.txt"}, 3),
        event("response_item", {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a.txt"}]}, 4),
        counted(250, 25),
        event("event_msg", {"type": "token_count", "info": None}),
        event("compacted", {"message": "So far: a.txt", "replacement_history": []}, 5),
    ],
    "gemini-cli": [
        {"sessionId": "g-1", "projectHash": "h", "startTime": "2026-01-31T13:00:00Z", "lastUpdated": "2026-01-31T13:00:00Z", "directories": ["/work"], "kind": "main", "summary": "A title"},
        {"id": "a", "timestamp": "2026-01-31T13:00:00Z", "type": "user", "content": [{"text": "<session_context>x"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}]},
        {"id": "b", "timestamp": "2026-01-31T13:00:01Z", "type": "user", "content": "List the files"},
        {"id": "c", "timestamp": "2026-01-31T13:00:02Z", "type": "gemini", "content": "", "model": "gemini-x", "thoughts": [{"subject": "S", "description": "D"}], "tokens": {"input": 10, "output": 2, "cached": 1, "thoughts": 3, "tool": 4, "total": 19}, "toolCalls": [{"id": "t", "name": "ls", "args": {"p": "."}, "status": "success", "result": [{"functionResponse": {"id": "t", "name": "ls", "response": {"output": "a.txt"}}}]}]},
        {"$rewindTo": "b"},
        {"id": "d", "timestamp": "2026-01-31T13:00:03Z", "type": "info", "content": {"text": "note"}},
        {"$set": {"summary": "Another title"}},
    ],
    "openai-chat": [
        {"custom_id": "1", "body": chat("a", "b", model="gpt-x", temperature=0.5, created=1_700_000_000)},
        {"tools": [{"type": "function"}], "messages": [
            {"role": "system", "content": "Be kind.", "name": "n"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]},
            {"role": "assistant", "content": None, "refusal": "no", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "r", "name": "f"},
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
        ]},
        {"id": "batch_req_1", "custom_id": "2", "response": {"status_code": 200, "request_id": "r", "body": {"id": "x", "created": 1_700_000_000, "model": "gpt-x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "b"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}}}, "error": None},
        {"input": chat("x"), "preferred_output": [{"role": "assistant", "content": "y"}], "non_preferred_output": [{"role": "assistant", "content": "z"}]},
    ],
    "anthropic-chat": [
        {"model": "claude-x", "system": [{"type": "text", "text": "Be kind."}], "max_tokens": 5, "messages": [
            {"role": "user", "content": "hi"}, {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]}]},
        {"custom_id": "1", "params": {"model": "claude-x", "messages": [{"role": "user", "content": "a"}]}},
        {"custom_id": "2", "result": {"type": "succeeded", "message": {"id": "m", "type": "message", "role": "assistant", "model": "claude-x", "content": [{"type": "text", "text": "b"}], "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 1}}}},
        {"custom_id": "3", "result": {"type": "errored", "error": {"type": "error", "error": {"type": "invalid_request", "message": "no"}}}},
    ],
    "gemini-batch": [
        {"custom_id": "1", "request": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "systemInstruction": {"parts": [{"text": "Be kind."}]}}, "response": {"candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}, {"functionCall": {"name": "f", "args": {}}}]}, "finishReason": "STOP"}], "modelVersion": "gemini-x", "responseId": "r", "createTime": "2026-01-31T13:00:00Z", "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "thoughtsTokenCount": 1, "cachedContentTokenCount": 0}}},
    ],
    "sharegpt": [
        {"id": "identity_0", "system": "Be kind.", "title": "t", "tools": "[]", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}, {"from": "function_call", "value": '{"name": "f", "arguments": {}}'}, {"from": "observation", "value": "r"}]},
    ],
    "alpaca": [{"instruction": "Add", "input": "1 1", "output": "2", "system": "Be kind.", "history": [["a", "b"]], "topic": "sums"}],
    "inspect": [
        {"id": "s", "epoch": 1, "input": "hi", "target": "hello", "uuid": "i-1", "started_at": "2026-01-31T13:00:00Z", "scores": {"includes": {"value": "C"}}, "attachments": {"abc": "a long text"}, "model_usage": {"m/x": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}},
         "messages": [{"id": "1", "role": "system", "content": "attachment://abc"}, {"id": "2", "role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image", "image": f"data:image/png;base64,{PNG}"}]}, {"id": "3", "role": "assistant", "model": "x", "content": [{"type": "reasoning", "reasoning": "Hm."}, {"type": "text", "text": "hello"}], "tool_calls": [{"id": "t", "function": "f", "arguments": {}, "type": "function"}]}, {"id": "4", "role": "tool", "tool_call_id": "t", "function": "f", "content": "r", "error": {"message": "no"}}],
         "events": [{"event": "model", "timestamp": "2026-01-31T13:00:01Z", "output": {"model": "x", "time": 0.5, "choices": [{"message": {"id": "3"}, "stop_reason": "stop"}], "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 4, "input_tokens_cache_read": 1, "reasoning_tokens": 1}}}]},
    ],
    "langfuse": [
        {"trace": {"id": "t-1", "name": "A trace", "sessionId": "l-1", "timestamp": "2026-01-31T13:00:00Z", "tags": ["x"], "input": "a", "output": "b"}, "observations": [
            {"id": "o", "traceId": "t-1", "type": "GENERATION", "startTime": "2026-01-31T13:00:00Z", "endTime": "2026-01-31T13:00:01Z", "model": "gpt-x", "latency": 1.0, "timeToFirstToken": 0.2, "level": "DEFAULT", "statusMessage": "m", "usageDetails": {"input": 5, "output": 2, "input_cache_read": 1}, "costDetails": {"total": 0.001}, "input": '[{"role": "user", "content": "hi"}]', "output": '{"choices": [{"message": {"role": "assistant", "content": "hello", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}}]}'}]},
    ],
    "openinference": [
        {"name": "chat", "context": {"trace_id": "tr-1", "span_id": "sp"}, "start_time": "2026-01-31T13:00:00Z", "end_time": "2026-01-31T13:00:01Z", "attributes": {"openinference.span.kind": "LLM", "llm.model_name": "gpt-x", "llm.provider": "openai", "llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": "hi", "llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.contents.0.message_content.type": "text", "llm.output_messages.0.message.contents.0.message_content.text": "hello", "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "f", "llm.token_count.prompt": 3, "llm.token_count.completion": 2}},
        {"traceId": "tr-2", "startTimeUnixNano": "1769864400000000000", "endTimeUnixNano": "1769864401000000000", "attributes": [{"key": "gen_ai.request.model", "value": {"stringValue": "gpt-x"}}, {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "3"}}, {"key": "gen_ai.input.messages", "value": {"stringValue": '[{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]'}}], "events": [{"name": "gen_ai.choice", "attributes": {"message": {"role": "assistant", "content": "hello"}}}]},
    ],
    "opencode": [
        {"info": {"id": "ses_1", "title": "A title", "directory": "/work", "parentID": None, "version": "1", "time": {"created": 1_700_000_000_000}}, "messages": [
            {"info": {"id": "msg_1", "role": "user", "time": {"created": 1_700_000_000_000}}, "parts": [{"id": "p", "type": "text", "text": "hi", "synthetic": True}, {"id": "q", "type": "file", "mime": "image/png", "filename": "a.png", "url": f"data:image/png;base64,{PNG}"}]},
            {"info": {"id": "msg_2", "role": "assistant", "providerID": "openai", "modelID": "gpt-x", "finish": "stop", "cost": 0.5, "time": {"created": 1_700_000_001_000}, "tokens": {"input": 1, "output": 2, "reasoning": 1, "cache": {"read": 1, "write": 1}}, "error": {"name": "E", "data": {"message": "no"}}}, "parts": [{"id": "r", "type": "reasoning", "text": "Hm."}, {"id": "s", "type": "tool", "callID": "c", "tool": "bash", "state": {"status": "completed", "input": {}, "output": "r"}}, {"id": "t", "type": "step-finish", "cost": {"usd": 0.1}}]},
        ]},
    ],
    "vscode-copilot": [
        {"version": 3, "sessionId": "v-1", "customTitle": "A title", "creationDate": 1_700_000_000_000, "responderUsername": "GitHub Copilot", "requests": [
            {"requestId": "r-1", "timestamp": 1_700_000_000_000, "modelId": "copilot/gpt-x", "isCanceled": True, "message": {"text": "hi", "parts": []}, "response": [{"value": "hel"}, {"kind": "markdownContent", "content": {"value": "lo"}}, {"kind": "thinking", "value": "Hm."}, {"kind": "inlineReference", "name": "a.py"}, {"kind": "toolInvocationSerialized", "toolId": "t"}],
             "result": {"promptTokens": 3, "outputTokens": 2, "timings": {"firstProgress": 5, "totalElapsed": 9}, "errorDetails": {"message": "no"}, "metadata": {"toolCallRounds": [{"toolCalls": [{"id": "c", "name": "f", "arguments": "{}"}]}], "toolCallResults": {"c": {"content": [{"value": "r"}]}}}}}]},
        {"kind": 0, "v": {"version": 3, "sessionId": "v-2", "requests": []}},
        {"kind": 2, "k": ["requests"], "v": [{"requestId": "r-2", "message": {"text": "hi"}, "response": []}]},
        {"kind": 1, "k": ["requests", 0, "result"], "v": {"promptTokens": 1, "outputTokens": 1}},
        {"kind": 3, "k": ["inputState"]},
    ],
    "pi": [
        {"type": "session", "version": 3, "id": SESSION, "timestamp": "2026-01-31T13:00:00Z", "cwd": "/work", "parentSession": f"/x/y_{SESSION}.jsonl"},
        {"type": "message", "id": "e1", "parentId": None, "timestamp": "2026-01-31T13:00:00Z", "message": {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image", "data": PNG, "mimeType": "image/png"}], "timestamp": 1_700_000_000_000}},
        {"type": "model_change", "id": "e2", "parentId": "e1", "provider": "anthropic", "modelId": "claude-x"},
        {"type": "message", "id": "e3", "parentId": "e2", "message": {"role": "assistant", "provider": "anthropic", "model": "claude-x", "stopReason": "toolUse", "errorMessage": "no", "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "toolCall", "id": "t", "name": "f", "arguments": {}}], "usage": {"input": 1, "output": 2, "cacheRead": 3, "cacheWrite": 4, "cost": {"total": 0.25}}}},
        {"type": "message", "id": "e4", "parentId": "e3", "message": {"role": "toolResult", "toolCallId": "t", "toolName": "f", "isError": True, "content": [{"type": "text", "text": "r"}]}},
        {"type": "message", "id": "e5", "parentId": "e4", "message": {"role": "bashExecution", "command": "ls", "output": "a", "exitCode": 0}},
        {"type": "compaction", "id": "e6", "parentId": "e5", "summary": "So far"},
        {"type": "custom_message", "id": "e7", "parentId": "e6", "content": "injected", "display": False},
        {"type": "session_info", "id": "e8", "parentId": "e7", "name": "A name"},
    ],
}  # fmt: skip
AIDER = """\
# aider chat started at 2026-01-31 13:00:00

> Model: gpt-x with diff edit format
> Added a.py to the chat.

#### Fix the bug
#### in line 3

Here is the fix:

```python
# aider is not said here
> nor a quote
#### nor a prompt
```

> Tokens: 1.2k sent, 88 received. Cost: $0.01 message, $0.01 session.

#### /exit

# aider chat started at 2026-01-31 14:00:00
"""
LLM_TABLES = """
    CREATE TABLE conversations (id TEXT PRIMARY KEY, name TEXT, model TEXT);
    CREATE TABLE responses (id TEXT PRIMARY KEY, model TEXT, prompt TEXT, system TEXT, options_json TEXT, response TEXT,
        conversation_id TEXT, duration_ms INTEGER, datetime_utc TEXT, input_tokens INTEGER, output_tokens INTEGER,
        token_details TEXT);
    CREATE TABLE tool_calls (id INTEGER PRIMARY KEY, response_id TEXT, name TEXT, arguments TEXT, tool_call_id TEXT);
    CREATE TABLE tool_results (id INTEGER PRIMARY KEY, response_id TEXT, name TEXT, output TEXT, tool_call_id TEXT);
    CREATE TABLE attachments (id TEXT PRIMARY KEY, type TEXT, path TEXT, url TEXT, content BLOB);
    CREATE TABLE prompt_attachments (response_id TEXT, attachment_id TEXT, "order" INTEGER);
    CREATE TABLE fragments (id INTEGER PRIMARY KEY, hash TEXT, content TEXT);
    CREATE TABLE prompt_fragments (response_id TEXT, fragment_id INTEGER, "order" INTEGER);
    CREATE TABLE system_fragments (response_id TEXT, fragment_id INTEGER, "order" INTEGER);
    INSERT INTO conversations VALUES ('k1', 'A talk', 'gpt-x');
    INSERT INTO responses VALUES ('r1', 'gpt-x', 'What is in it?', 'Be kind.', '{"temperature": 0.5}', 'A cat.', 'k1', 20,
        '2026-01-31T13:00:00', 5, 2, '{"prompt_tokens_details": {"cached_tokens": 1}}');
    INSERT INTO responses VALUES ('r2', 'gpt-x', '', 'Be brief.', NULL, 'Done.', 'k1', 30, '2026-01-31T13:01:00', 7, 1, NULL);
    INSERT INTO responses VALUES ('r3', 'claude-x', 'Alone', NULL, NULL, 'Yes.', NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO tool_calls VALUES (1, 'r1', 'look', '{"at": "it"}', NULL);
    INSERT INTO tool_results VALUES (1, 'r2', 'look', 'a cat', NULL);
    INSERT INTO attachments VALUES ('a1', 'image/png', NULL, NULL, x'89504e47'), ('a2', 'text/plain', '/tmp/x', NULL, NULL);
    INSERT INTO prompt_attachments VALUES ('r1', 'a2', 1), ('r1', 'a1', 0);
    INSERT INTO fragments VALUES (1, 'h', 'A fragment.');
    INSERT INTO prompt_fragments VALUES ('r1', 1, 0);
"""


def write(name: str, path: Path) -> Path:
    """Write the specimen of a format and return its file."""
    if name == "llm":
        with sqlite3.connect(path) as connection:
            connection.executescript(LLM_TABLES)
        connection.close()
    elif name == "aider":
        path.write_text(AIDER)
    else:
        path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS[name]))
    return path


ODD: list[Any] = [None, 0, -1, 1.5, 10**400, 1e308, True, "", "x", "a/b", "/", "\ud800", "\x00", [], ["x"], [None], {}, {"a": 1},
                  {"type": "text", "text": 1}, "9999-99-99", -1e99, [[]], "[", '{"a": [1]}']  # fmt: skip


def mutations(record: Any) -> Iterator[Any]:
    """Yield copies of a record with each of its values left out, or replaced by each odd one."""
    keys = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else []
    for key, value in list(keys):
        for odd in ODD:
            changed = record.copy()
            changed[key] = odd
            yield changed
        left = record.copy()
        del left[key]
        yield left
        for inner in mutations(value):
            changed = record.copy()
            changed[key] = inner
            yield changed
