"""What is special in each format: trees, forks, rewinds, who wrote what, files, tokens, and batches with their prompts."""

from __future__ import annotations

import itertools
import json
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pytest

from llmsess import db, maintenance, sessions, transfer
from llmsess.models import Message, Session
from tests import specimens
from tests.specimens import chat, counted, event, node, text

PNG_BYTES = b"\x89PNG\r\n\x1a\n rest"


def write(path: Path, *values: Any) -> Path:
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in values))
    return path


def imported(*paths: Path, format: str = "auto") -> transfer.ImportReport:
    report = transfer.run(format, paths)
    assert maintenance.check().findings == []
    assert transfer.run(format, paths).totals()["imported"] == 0
    return report


def session(external_id: str) -> Session:
    found: Session = Session.get(Session.external_id == external_id)
    return found


def said(external_id: str) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in sessions.path(session(external_id))]


def specimen(name: str, tmp_path: Path) -> Path:
    return specimens.write(name, tmp_path / "specimen")


# ChatGPT


def test_a_chatgpt_export_is_a_tree_with_its_files(database: db.Database, tmp_path: Path) -> None:
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("conversations.json", json.dumps(specimens.RECORDS["chatgpt"]))
        zipped.writestr("user.json", "{}")
        zipped.writestr("file-1-cat.png", PNG_BYTES)
        zipped.writestr("dalle-generations/file-2-8c1f.webp", b"webp bytes")
    report = imported(archive)
    assert [source.path for source in report.sources] == [f"{archive}/conversations.json"]
    assert report.skipped == [f"{archive}/user.json"]
    assert said("c-1")[:2] == [("system", ""), ("user", "Draw a cat")]
    path, nodes = sessions.path(session("c-1")), sessions.nodes(session("c-1"))
    assert [message.role for message in path] == ["system", "user", "assistant", "tool", "assistant"]
    assert len(nodes) == 6 and nodes[-1].parent_id == path[1].id
    assert path[0].metadata["hidden"] is True and path[1].origin == "human" and nodes[-1].origin == "harness"
    prompt, call, seen = (sessions.blocks(path[i]) for i in (1, 2, 3))
    assert prompt is not None and prompt[1]["source"]["media_type"] == "image/png"
    assert call == [{"type": "tool_use", "id": None, "name": "dalle.text2im", "input": {"prompt": "cat"}}]
    assert seen is not None and seen[0]["content"][0]["source"]["media_type"] == "image/webp"
    blobs = {bytes(row[0]) for row in database.execute_sql("SELECT data FROM blobs").fetchall()}
    assert blobs == {PNG_BYTES, b"webp bytes"}
    assert path[4].reasoning == "s\n\nc" and path[2].model and path[2].model.reference == "openai/gpt-y"
    assert path[4].model and path[4].model.reference == "openai/gpt-x"
    assert session("c-1").title == "A title"


def test_split_chatgpt_files_bare_objects_and_odd_trees(database: db.Database, tmp_path: Path) -> None:
    first = {
        "id": "t-a",
        "mapping": {
            "c": node("c", "p", "user", text("child first"), []),
            "p": node("p", "missing", "user", text("parent"), ["c"]),
        },
    }
    second = {
        "id": "t-b",
        "title": None,
        "mapping": {"x": node("x", "y", "user", text("a"), []), "y": node("y", "x", "user", text("b"), ["x"])},
    }
    third = {
        "id": "t-c",
        "current_node": "gone",
        "mapping": {
            "r": {"id": "r", "message": None, "children": ["m"]},
            "m": {k: v for k, v in node("m", None, "user", text("by children only"), []).items() if k != "parent"},
        },
    }
    (tmp_path / "conversations-000.json").write_text(json.dumps([first, second, {"id": "t-d"}]))
    (tmp_path / "conversations-001.json").write_text(json.dumps(third, indent=2))
    report = transfer.run("auto", [tmp_path])
    assert report.totals() == {"sources": 2, "sessions": 3, "messages": 5, "imported": 3, "merged": 0, "duplicate": 0, "ignored": 0, "bad": 1}  # fmt: skip
    assert report.sources[0].problems == [(3, "a conversation without its messages (mapping)")]
    assert said("t-a") == [("user", "parent"), ("user", "child first")]
    assert len(sessions.nodes(session("t-b"))) == 2
    assert said("t-c") == [("user", "by children only")]
    assert maintenance.check().findings == []


def test_where_a_chatgpt_conversation_stands_is_its_head(database: db.Database, tmp_path: Path) -> None:
    value = specimens.RECORDS["chatgpt"][0]
    file = write(tmp_path / "c.json", [value])
    transfer.run("auto", [file])
    assert sessions.path(session("c-1"))[-1].external_id == "c-1/n5"
    write(file, [value | {"current_node": "n6"}])
    transfer.run("auto", [file])
    assert sessions.path(session("c-1"))[-1].external_id == "c-1/n6"


# Claude.ai


def test_claude_ai_order_attachments_and_branches(database: db.Database, tmp_path: Path) -> None:
    same = "2026-01-31T13:00:00Z"
    late = {"uuid": "b", "sender": "assistant", "text": "answer", "created_at": same}
    early = {"uuid": "a", "sender": "human", "text": "question", "created_at": same}
    only_file = {
        "uuid": "c",
        "sender": "human",
        "text": "",
        "content": [],
        "created_at": "2026-01-31T13:01:00Z",
        "attachments": [{"file_name": "x.py", "extracted_content": "print(1)"}],
    }
    other = {
        "uuid": "d",
        "sender": "human",
        "text": "again",
        "created_at": "2026-01-31T13:02:00Z",
        "parent_message_uuid": "b",
    }
    linear = {"uuid": "d-a", "name": "Linear", "chat_messages": [late, early, only_file]}
    tree = {
        "uuid": "d-b",
        "name": "",
        "current_leaf_message_uuid": "c",
        "chat_messages": [early, late | {"parent_message_uuid": "a"}, only_file | {"parent_message_uuid": "b"}, other],
    }
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as zipped:
        zipped.writestr("conversations.json", json.dumps([linear, tree]))
        zipped.writestr("users.json", "[]")
    imported(tmp_path / "data.zip")
    assert said("d-a") == [("user", "question"), ("assistant", "answer"), ("user", "print(1)")]
    assert [message.external_id for message in sessions.path(session("d-b"))] == ["d-b/a", "d-b/b", "d-b/c"]
    assert len(sessions.nodes(session("d-b"))) == 4


# Codex


def rollout(name: str, forked: str | None, *turns: str, first: int = 0) -> list[dict[str, Any]]:
    """Return a rollout of prompts and answers, with cumulative counts; `first` makes its times differ."""
    lines = [
        event("session_meta", {"id": name, "forked_from_id": forked, "cwd": "/work"}, first),
        event("turn_context", {"model": "gpt-x"}),
    ]
    for i, prompt in enumerate(turns, 1):
        lines.append(
            event(
                "response_item",
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": prompt}]},
                first,
            )
        )
        lines.append(
            event(
                "response_item",
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": f"re: {prompt}"}]},
                first,
            )
        )
        lines.append(counted(100 * i, 10 * i))
    return lines


def everything() -> list[Any]:
    """Return each message with the session that owns it and the one before it, and each path."""
    rows = db.database.execute_sql(
        "SELECT m.external_id, s.external_id, m.content, p.external_id, m.position, m.input_tokens FROM messages m "
        "JOIN sessions s ON s.id = m.session_id LEFT JOIN messages p ON p.id = m.parent_id ORDER BY 2, 5, 1"
    ).fetchall()
    paths = sorted(
        (str(row.external_id), [message.content for message in sessions.path(row)]) for row in Session.select()
    )
    titles = sorted((str(row.external_id), row.title) for row in Session.select())
    return [rows, paths, titles]


def in_any_order(template: Path, tmp_path: Path, files: list[Path]) -> list[Any]:
    """Import the files in every order and return what is then there, which is always the same."""
    found: list[Any] = []
    for number, order in enumerate(itertools.permutations(files)):
        path = tmp_path / f"order-{number}.db"
        path.write_bytes(template.read_bytes())
        db.connect(path)
        for file in order:
            transfer.run("auto", [file])
        found.append(everything())
        assert maintenance.check().findings == []
        assert transfer.run("auto", files).totals()["imported"] == 0
        assert everything() == found[-1]
        db.database.close()
    assert all(one == found[0] for one in found)
    return list(found[0])


def test_codex_forks_of_forks_share_what_they_repeat_in_any_order(template: Path, tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a.jsonl", *rollout("root", None, "one", "two", "own")),
        write(tmp_path / "b.jsonl", *rollout("child", "root", "one", "two", "three", first=10)),
        write(tmp_path / "c.jsonl", *rollout("grandchild", "child", "one", "two", "three", "four", first=20)),
        write(tmp_path / "d.jsonl", *rollout("sibling", "root", "one", "other", first=40)),
    ]
    rows, paths, _ = in_any_order(template, tmp_path, files)
    assert dict(paths)["grandchild"] == ["one", "re: one", "two", "re: two", "three", "re: three", "four", "re: four"]
    assert dict(paths)["sibling"] == ["one", "re: one", "other", "re: other"]
    assert [row[2] for row in rows if row[1] == "root"] == ["one", "re: one", "two", "re: two", "own", "re: own"]
    assert [row[2] for row in rows if row[1] == "child"] == ["three", "re: three"]
    assert sum(row[5] or 0 for row in rows) == 300 + 100 + 100 + 100


def test_a_stranger_that_begins_alike_is_counted_on_its_own(database: db.Database, tmp_path: Path) -> None:
    imported(
        write(tmp_path / "a.jsonl", *rollout("one", None, "hi")),
        write(tmp_path / "b.jsonl", *rollout("two", None, "hi", first=9)),
    )
    assert database.execute_sql("SELECT count(*), sum(input_tokens) FROM messages").fetchone() == (4, 200)


def test_pi_forks_share_what_they_repeat_in_any_order(template: Path, tmp_path: Path) -> None:
    def entry(key: str, parent: str | None, role: str, said: str) -> dict[str, Any]:
        usage = (
            {"usage": {"input": 1, "output": 1, "cost": {"total": 0.25}}, "provider": "x", "model": "y"}
            if role == "assistant"
            else {}
        )
        return {
            "type": "message",
            "id": key,
            "parentId": parent,
            "timestamp": "2026-01-31T13:00:00Z",
            "message": {"role": role, "content": said} | usage,
        }

    names = [f"0a1b2c3d-0000-4000-8000-00000000000{i}" for i in range(3)]
    files = []
    for i, name in enumerate(names):
        header = {"type": "session", "version": 3, "id": name, "cwd": "/w"} | (
            {"parentSession": f"/x/t_{names[i - 1]}.jsonl"} if i else {}
        )
        lines = [
            entry(f"e{k}", f"e{k - 1}" if k else None, "assistant" if k % 2 else "user", f"m{k}")
            for k in range(2 + 2 * i)
        ]
        files.append(write(tmp_path / f"t_{name}.jsonl", header, *lines))
    rows, paths, _ = in_any_order(template, tmp_path, files)
    assert [len(path) for _, path in paths] == [2, 4, 6]
    assert len(rows) == 6


def test_what_codex_writes_itself_is_not_the_persons(database: db.Database, tmp_path: Path) -> None:
    imported(specimen("codex", tmp_path))
    path = sessions.path("@last")
    assert [(m.role, m.origin) for m in path] == [
        ("user", "harness"),
        ("user", "human"),
        ("assistant", "model"),
        ("tool", "tool"),
        ("assistant", "model"),
        ("event", "harness"),
    ]
    assert (path[2].reasoning, path[2].input_tokens, path[2].output_tokens) == ("Hm.", 100, 10)
    assert (path[4].input_tokens, path[4].output_tokens) == (150, 15)
    row = sessions.get("@last")
    assert (row.title, row.system_prompt, row.project and row.project.name) == ("List the files", "Be good.", "/work")


def test_codex_texts_that_are_only_events_are_read(database: db.Database, tmp_path: Path) -> None:
    lines = [
        event("session_meta", {"id": "e"}),
        event("event_msg", {"type": "user_message", "message": "hi"}),
        event("event_msg", {"type": "agent_message", "message": "hello"}),
    ]
    imported(write(tmp_path / "r.jsonl", *lines))
    assert said("e") == [("user", "hi"), ("assistant", "hello")]


def test_a_codex_rollout_that_grows_grows_its_last_message(database: db.Database, tmp_path: Path) -> None:
    lines = rollout("g", None, "one", "two")
    for end in range(1, len(lines) + 1):
        write(tmp_path / "r.jsonl", *lines[:end])
        transfer.run("auto", [tmp_path / "r.jsonl"])
    whole = write(tmp_path / "r.jsonl", *lines)
    imported(whole)
    assert said("g") == [("user", "one"), ("assistant", "re: one"), ("user", "two"), ("assistant", "re: two")]
    assert database.execute_sql("SELECT sum(input_tokens) FROM messages").fetchone() == (200,)


# Gemini CLI


def test_gemini_upserts_rewinds_and_both_files_of_a_session(database: db.Database, tmp_path: Path) -> None:
    imported(specimen("gemini-cli", tmp_path))
    [row] = list(Session.select())
    assert (row.title, row.project and row.project.name) == ("Another title", "/work")
    nodes = {message.external_id: message for message in sessions.nodes(row)}
    assert nodes["g-1/a"].origin == "harness" and nodes["g-1/b"].origin == "human"
    reply = nodes["g-1/c"]
    assert (reply.input_tokens, reply.cached_input_tokens, reply.output_tokens, reply.reasoning_tokens) == (14, 1, 5, 3)
    assert (reply.reasoning, reply.tool_text) == ("S\nD", 'ls {"p":"."}\n\na.txt')
    assert nodes["g-1/d"].parent_id == nodes["g-1/a"].id, "it went back to before b"
    messages = [
        {"id": "b", "type": "user", "content": "List the files", "timestamp": "2026-01-31T13:00:01Z"},
        {"id": "new", "type": "gemini", "content": "later", "timestamp": "2026-01-31T14:00:00Z"},
    ]
    legacy = {"sessionId": "g-1", "projectHash": "h", "startTime": "2026-01-31T13:00:00Z", "messages": messages}
    imported(write(tmp_path / "legacy.json", legacy))
    assert Session.select().count() == 1
    assert Message.select().where(Message.external_id == "g-1/b").count() == 1


def test_a_gemini_sub_agent_is_a_child(database: db.Database, tmp_path: Path) -> None:
    (tmp_path / "chats" / "g-p").mkdir(parents=True)
    child = {"sessionId": "g-c", "projectHash": "h", "startTime": "2026-01-31T13:00:00Z", "kind": "subagent"}
    said_there = {"id": "a", "type": "user", "content": "do it", "timestamp": "2026-01-31T13:00:00Z"}
    write(tmp_path / "chats" / "g-p" / "g-c.jsonl", child, said_there)
    write(
        tmp_path / "chats" / "session-1.json",
        {"sessionId": "g-p", "projectHash": "h", "startTime": "x", "messages": [said_there]},
    )
    imported(tmp_path)
    assert (session("g-c").parent_session.external_id, session("g-c").relation) == ("g-p", "subagent")


# llm


def test_both_sides_of_a_response_of_llm(database: db.Database, tmp_path: Path) -> None:
    imported(specimen("llm", tmp_path))
    assert said("k1") == [
        ("user", "A fragment.\nWhat is in it?"), ("assistant", "A cat."), ("system", "Be brief."), ("tool", ""), ("assistant", "Done."),
    ]  # fmt: skip
    row, path = session("k1"), sessions.path(session("k1"))
    assert (row.title, row.system_prompt) == ("A talk", "Be kind.")
    assert (path[1].input_tokens, path[1].cached_input_tokens, path[1].latency_ms) == (5, 1, 20)
    assert path[1].tool_text == 'look {"at":"it"}' and path[3].tool_text == "a cat"
    assert database.execute_sql("SELECT data FROM blobs").fetchall() == [(b"\x89PNG",)]
    assert said("response:r3") == [("user", "Alone"), ("assistant", "Yes.")]


# APIs


def test_batch_answers_find_their_prompts_in_either_order(template: Path, tmp_path: Path) -> None:
    asked = [{"custom_id": str(i), "body": chat(f"question {i}", model="gpt-x")} for i in range(3)]
    answered = [
        {"id": f"b{i}", "custom_id": str(i), "error": None, "response": {"status_code": 200, "body": {"model": "gpt-x", "choices": [
            {"message": {"role": "assistant", "content": f"answer {i}{choice}", "refusal": None}, "finish_reason": "stop"} for choice in "ab"],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2}}}} for i in (2, 0)
    ]  # fmt: skip
    answered.append(
        {"id": "b1", "custom_id": "1", "response": None, "error": {"code": "batch_expired", "message": "too late"}}
    )
    write(tmp_path / "in.jsonl", *asked)
    write(tmp_path / "out.jsonl", *answered)
    for order in (("in", "out"), ("out", "in")):
        path = tmp_path / f"{order[0]}.db"
        path.write_bytes(template.read_bytes())
        db.connect(path)
        imported(*(tmp_path / f"{name}.jsonl" for name in order))
        found = {sessions.path(row)[0].content: sessions.path(row)[-1] for row in Session.select()}
        assert {key: (reply.content, reply.status) for key, reply in found.items()} == {
            "question 0": ("answer 0a", "complete"), "question 1": ("", "failed"), "question 2": ("answer 2a", "complete"),
        }  # fmt: skip
        assert found["question 1"].error == "too late"
        assert len(sessions.nodes(Session.get())) >= 2
        assert db.database.execute_sql("SELECT count(*) FROM messages WHERE content LIKE 'answer _b'").fetchone() == (
            2,
        )
        db.database.close()


def test_anthropic_batches_and_requests(database: db.Database, tmp_path: Path) -> None:
    asked = {
        "requests": [
            {
                "custom_id": "x",
                "params": {"model": "claude-x", "system": "Be kind.", "messages": [{"role": "user", "content": "hi"}]},
            }
        ]
    }
    lines = write(tmp_path / "in.jsonl", asked["requests"][0])
    results = write(
        tmp_path / "out.jsonl",
        {
            "custom_id": "x",
            "result": {
                "type": "succeeded",
                "message": {
                    "type": "message",
                    "role": "assistant",
                    "model": "claude-x",
                    "content": [{"type": "text", "text": "hello"}],
                    "stop_reason": "end_turn",
                    "usage": {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 10},
                },
            },
        },
    )
    imported(results, write(tmp_path / "requests.json", asked), lines)
    [row] = list(Session.select())
    assert [(m.role, m.content) for m in sessions.path(row)] == [("user", "hi"), ("assistant", "hello")]
    reply = sessions.path(row)[-1]
    assert (row.system_prompt, reply.input_tokens, reply.finish_reason) == ("Be kind.", 13, "end_turn")


def test_preferences_are_branches(database: db.Database, tmp_path: Path) -> None:
    record = {
        "input": chat("x"),
        "preferred_output": [{"role": "assistant", "content": "good"}],
        "non_preferred_output": [{"role": "assistant", "content": "worse"}],
    }
    imported(write(tmp_path / "dpo.jsonl", record))
    [row] = list(Session.select())
    assert [m.content for m in sessions.path(row)] == ["x", "good"]
    assert [m.content for m in sessions.nodes(row)] == ["x", "good", "worse"]


# Traces


def test_calls_of_a_trace_in_any_order_are_one_conversation(database: db.Database, tmp_path: Path) -> None:
    def span(second: int, given: list[dict[str, Any]], answer: dict[str, Any]) -> dict[str, Any]:
        values = {
            "gen_ai.conversation.id": "talk",
            "gen_ai.request.model": "gpt-x",
            "gen_ai.provider.name": "openai",
            "gen_ai.usage.input_tokens": 10 * second,
            "gen_ai.usage.output_tokens": second,
        }
        values |= {"gen_ai.input.messages": json.dumps(given), "gen_ai.output.messages": json.dumps([answer])}
        pairs = [
            {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
            for key, value in values.items()
        ]
        start = 1_769_864_400_000_000_000 + second * 10**9
        return {
            "traceId": f"{second:032x}",
            "spanId": "ab",
            "startTimeUnixNano": str(start),
            "endTimeUnixNano": str(start + 10**8),
            "attributes": pairs,
        }

    user, call = (
        {"role": "user", "parts": [{"type": "text", "content": "weather?"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "w", "arguments": {"in": "Paris"}}]},
    )
    result, answer = (
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "rain"}]},
        {"role": "assistant", "parts": [{"type": "text", "content": "It rains."}]},
    )
    spans = [span(2, [user, call, result], answer), span(1, [user], call)]
    wrapped = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    imported(write(tmp_path / "otlp.jsonl", wrapped))
    path = sessions.path(session("talk"))
    assert [(m.role, m.content, m.tool_text) for m in path] == [
        ("user", "weather?", None), ("assistant", "", 'w {"in":"Paris"}'), ("tool", "", "rain"), ("assistant", "It rains.", None),
    ]  # fmt: skip
    assert [(m.input_tokens, m.output_tokens, m.latency_ms) for m in path if m.role == "assistant"] == [
        (10, 1, 100),
        (20, 2, 100),
    ]


# Editors and agents


def test_aider_keeps_code_and_prompts_apart(database: db.Database, tmp_path: Path) -> None:
    imported(specimen("aider", tmp_path))
    first, empty = sorted(Session.select(), key=lambda row: str(row.external_id))
    path = sessions.path(first)
    assert [m.role for m in path] == ["event", "user", "assistant", "event", "user"]
    assert path[1].content == "Fix the bug\nin line 3" and path[4].content == "/exit"
    assert "#### nor a prompt" in path[2].content and "> nor a quote" in path[2].content
    assert path[2].model and path[2].model.reference == "openai/gpt-x" and sessions.path(empty) == []


def opencode_database(path: Path) -> Path:
    with sqlite3.connect(path) as connection:
        connection.executescript("""
            CREATE TABLE session (id TEXT PRIMARY KEY, parent_id TEXT, title TEXT, directory TEXT, time_created INTEGER);
            CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT, time_created INTEGER, data TEXT);
            CREATE TABLE part (id TEXT PRIMARY KEY, message_id TEXT, session_id TEXT, data TEXT);
            INSERT INTO session VALUES ('ses_1', NULL, 'From files', '/work', 1700000000000), ('ses_2', 'ses_1', 'A child', '/work', 1700000000000);
        """)
        told = {
            "role": "assistant",
            "providerID": "openai",
            "modelID": "gpt-x",
            "time": {"created": 1_700_000_001_000},
            "tokens": {"input": 1, "output": 2, "reasoning": 3, "cache": {"read": 4, "write": 5}},
            "cost": 0.25,
        }
        connection.execute("INSERT INTO message VALUES ('msg_a', 'ses_1', 1, ?)", (json.dumps(told),))
        connection.execute(
            "INSERT INTO part VALUES ('prt_a', 'msg_a', 'ses_1', ?)", (json.dumps({"type": "text", "text": "hello"}),)
        )
    connection.close()
    return path


def test_opencode_files_and_database_are_one_archive(database: db.Database, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    for name, value in {
        "session/p/ses_1.json": {"id": "ses_1", "projectID": "p", "title": "From files", "directory": "/work", "time": {"created": 1_700_000_000_000}},
        "message/ses_1/msg_a.json": {"id": "msg_a", "role": "assistant", "time": {"created": 1_700_000_001_000}, "providerID": "openai", "modelID": "gpt-x"},
        "part/msg_a/prt_a.json": {"id": "prt_a", "messageID": "msg_a", "type": "text", "text": "hello"},
        "session/p/ses_3.json": {"id": "../../../etc", "projectID": "p", "title": "Evil", "directory": "/", "time": {"created": 1}},
    }.items():  # fmt: skip
        (storage / name).parent.mkdir(parents=True, exist_ok=True)
        (storage / name).write_text(json.dumps(value))
    imported(storage)
    imported(opencode_database(tmp_path / "opencode.db"))
    assert said("ses_1") == [("assistant", "hello")]
    assert said("../../../etc") == []
    reply = sessions.path(session("ses_1"))[0]
    assert (reply.input_tokens, reply.output_tokens, reply.reasoning_tokens, reply.cost) == (10, 5, 3, 250_000_000)
    assert session("ses_2").parent_session.external_id == "ses_1"


def test_a_copilot_log_is_replayed(database: db.Database, tmp_path: Path) -> None:
    lines: list[Any] = [
        {"kind": 0, "v": {"version": 3, "sessionId": "v", "creationDate": 1_700_000_000_000, "requests": []}},
        {
            "kind": 2,
            "k": ["requests"],
            "v": [
                {
                    "requestId": "r1",
                    "timestamp": 1_700_000_000_000,
                    "message": {"text": "hi"},
                    "modelId": "copilot/gpt-x",
                    "response": [{"value": "hel"}],
                }
            ],
        },
        {"kind": 2, "k": ["requests", 0, "response"], "i": 0, "v": [{"value": "hello"}]},
        {"kind": 1, "k": ["requests", 0, "result"], "v": {"promptTokens": 7, "outputTokens": 3}},
        {"kind": 1, "k": ["customTitle"], "v": "Greeting"},
        {"kind": 1, "k": ["requests", 5, "result"], "v": {}},
    ]
    file = write(tmp_path / "v.jsonl", *lines)
    report = transfer.run("auto", [file])
    assert report.sources[0].problems == [(6, "an operation at a place that is not there")]
    assert said("v") == [("user", "hi"), ("assistant", "hello")]
    reply = sessions.path(session("v"))[-1]
    assert (session("v").title, reply.input_tokens, reply.output_tokens) == ("Greeting", 7, 3)


def test_pi_costs_trees_and_forks(database: db.Database, tmp_path: Path) -> None:
    imported(specimen("pi", tmp_path))
    path = sessions.path(session(specimens.SESSION))
    assert [(m.role, m.origin) for m in path] == [
        ("user", "human"),
        ("assistant", "model"),
        ("tool", "tool"),
        ("tool", "human"),
        ("event", "harness"),
        ("event", "harness"),
    ]
    assert (path[1].input_tokens, path[1].cost, path[1].cost_source) == (8, 250_000_000, "provider")
    assert path[5].metadata["hidden"] is True and session(specimens.SESSION).title == "A name"
    other = "0a1b2c3d-0000-4000-8000-00000000000f"
    fork = [{"type": "session", "version": 3, "id": other, "cwd": "/work", "parentSession": f"/x/2_{specimens.SESSION}.jsonl"}, *specimens.RECORDS["pi"][1:4],
            {"type": "message", "id": "z", "parentId": "e3", "message": {"role": "user", "content": "another way"}}]  # fmt: skip
    imported(write(tmp_path / "fork.jsonl", *fork))
    assert [m.id for m in sessions.path(session(other))][:2] == [m.id for m in path][:2]
    assert session(other).parent_session.external_id == specimens.SESSION


def test_inspect_attachments_and_usage(database: db.Database, tmp_path: Path) -> None:
    imported(specimen("inspect", tmp_path))
    path = sessions.path(session("i-1"))
    assert [m.role for m in path] == ["system", "user", "assistant", "tool"]
    assert path[0].content == "a long text"
    assert (path[2].reasoning, path[2].input_tokens, path[2].output_tokens, path[2].latency_ms) == ("Hm.", 2, 2, 500)
    assert database.execute_sql("SELECT count(*) FROM blobs").fetchone() == (1,)


# Versions of the same


def test_a_later_version_replaces_and_an_older_one_does_not(template: Path, tmp_path: Path) -> None:
    def version(time: float, title: str, answer: str, *more: str) -> dict[str, Any]:
        said = ["question", answer, *more]
        keys = [f"n{i}" for i in range(len(said))]
        nodes = {
            key: node(
                key, keys[i - 1] if i else None, "assistant" if i % 2 else "user", text(said[i]), keys[i + 1 : i + 2]
            )
            for i, key in enumerate(keys)
        }
        return {"id": "v", "title": title, "update_time": time, "current_node": keys[-1], "mapping": nodes}

    old = write(tmp_path / "old.json", [version(1_700_000_000.0, "New chat", "a much longer answer")])
    new = write(tmp_path / "new.json", [version(1_700_000_100.0, "Cats", "short", "more", "and more")])
    for order in ((old, new), (new, old), (old, new, old)):
        path = tmp_path / f"{len(order)}{order[0].stem}.db"
        path.write_bytes(template.read_bytes())
        db.connect(path)
        for file in order:
            transfer.run("auto", [file])
        assert [content for _, content in said("v")] == ["question", "short", "more", "and more"]
        assert session("v").title == "Cats"
        sessions.rename("@last", "Mine")
        transfer.run("auto", [write(tmp_path / "newest.json", [version(1_700_000_200.0, "Dogs", "short")])])
        assert session("v").title == "Mine", "a person's title stays"
        assert maintenance.check().findings == []
        db.database.close()


def test_titles_that_a_tool_gives_later_are_taken(database: db.Database, tmp_path: Path) -> None:
    meta = {
        "sessionId": "g",
        "projectHash": "h",
        "startTime": "2026-01-31T13:00:00Z",
        "lastUpdated": "2026-01-31T13:00:00Z",
    }
    said_there = {"id": "a", "type": "user", "content": "please help me", "timestamp": "2026-01-31T13:00:00Z"}
    file = write(tmp_path / "g.jsonl", meta, said_there)
    transfer.run("auto", [file])
    assert session("g").title == "please help me"
    write(file, meta, said_there, {"$set": {"summary": "Helping", "lastUpdated": "2026-01-31T13:05:00Z"}})
    transfer.run("auto", [file])
    assert session("g").title == "Helping"


def test_a_conversation_is_imported_whole_or_not_at_all(tmp_path: Path) -> None:
    from llmsess.importers import base, chatgpt
    from llmsess.importers.source import Source

    nodes = {
        f"n{i}": node(f"n{i}", f"n{i - 1}" if i else None, "user", text("x" * 100), [])
        for i in range(base.CHUNK_RECORDS + 2_000)
    }
    file = write(
        tmp_path / "c.json",
        [{"id": "big", "mapping": nodes}, {"id": "small", "mapping": {"n": node("n", None, "user", text("y"), [])}}],
    )
    sizes = [
        [type(item).__name__ for item in chunk].count("MessageRecord")
        for chunk in base.chunks(chatgpt.read(Source(file)))
    ]
    assert sizes[0] == base.CHUNK_RECORDS + 2_000


# What is damaged or not understood


def test_what_a_conversation_has_that_cannot_be_taken_along_is_told(
    database: db.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmsess.importers import source

    monkeypatch.setattr(source, "SUSPICIOUS_BYTES", 1_000)
    odd = {"id": "o", "mapping": {"n": node("n", None, "user", {"content_type": "hologram", "text": "beams"}, [])}}
    with zipfile.ZipFile(tmp_path / "e.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("conversations.json", json.dumps([*specimens.RECORDS["chatgpt"], odd]))
        zipped.writestr("user-abc/file-1-cat.png", bytes(3_000_000))
        zipped.writestr("user-abc/file-2.png", PNG_BYTES)
    report = transfer.run("auto", [tmp_path / "e.zip"])
    assert report.failed and report.totals()["imported"] == 2
    told = dict(report.sources[0].problems)
    assert "file-1-cat.png is left out" in told[1] and told[2] == 'unknown block "hologram": kept as it is'
    assert database.execute_sql("SELECT data FROM blobs").fetchall() == [(PNG_BYTES,)]
    assert not transfer.run("auto", [tmp_path / "e.zip"]).sources[0].unknown


def test_a_log_of_operations_cannot_nest_without_end(database: db.Database, tmp_path: Path) -> None:
    lines: list[Any] = [{"kind": 0, "v": {"sessionId": "v", "requests": []}}]
    lines += [{"kind": 1, "k": ["a"] * n, "v": {}} for n in range(1, 300)]
    report = transfer.run("auto", [write(tmp_path / "v.jsonl", *lines)])
    assert report.sources[0].records["bad"] == 299 - 39
    assert maintenance.check().findings == []


def test_bad_rows_and_files_of_opencode_are_told(database: db.Database, tmp_path: Path) -> None:
    path = opencode_database(tmp_path / "opencode.db")
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO message VALUES ('msg_b', 'ses_1', 2, '{torn'), (x'ff00', 'ses_1', 3, NULL)")
        connection.execute(
            "INSERT INTO message VALUES ('msg_c', 'ses_2', 4, CAST(x'7b22726f6c65223a2275736572222c22ff223a317d' AS TEXT))"
        )
    connection.close()
    report = transfer.run("auto", [path])
    assert (report.totals()["bad"], report.totals()["imported"]) == (2, 2)
    assert sessions.path(session("ses_2"))[0].origin == "model", "the parent's model wrote to the sub-agent"
    torn = tmp_path / "storage" / "part" / "msg_a" / "p.json"
    for name, value in {
        "session/p/ses_9.json": {
            "id": "ses_9",
            "projectID": "p",
            "title": "t",
            "directory": "/",
            "time": {"created": 1},
        },
        "message/ses_9/msg_a.json": {"id": "msg_a", "role": "user"},
    }.items():
        (tmp_path / "storage" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "storage" / name).write_text(json.dumps(value))
    torn.parent.mkdir(parents=True)
    torn.write_text('{"id": "p", "type": "te')
    report = transfer.run("auto", [tmp_path / "storage"])
    assert report.totals()["bad"] == 1 and "p.json is no part" in report.sources[0].problems[0][1]


def test_sub_agents_are_written_to_by_a_model(database: db.Database, tmp_path: Path) -> None:
    lines = rollout("sub", None, "do it")
    lines[0]["payload"] |= {"parent_thread_id": "main"}
    imported(write(tmp_path / "r.jsonl", *lines))
    assert sessions.path(session("sub"))[0].origin == "model"
    assert session("sub").relation == "subagent"


def test_a_prompt_of_codex_that_is_only_an_event_yet_is_not_doubled(database: db.Database, tmp_path: Path) -> None:
    lines = [event("session_meta", {"id": "live"}), event("event_msg", {"type": "user_message", "message": "Start"})]
    file = write(tmp_path / "r.jsonl", *lines)
    transfer.run("auto", [file])
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Start"}]}
    imported(write(file, *lines, event("response_item", item)))
    assert said("live") == [("user", "Start")]


@pytest.mark.parametrize("packed", ["zip", "gz"])
def test_batch_answers_find_prompts_that_are_compressed(database: db.Database, tmp_path: Path, packed: str) -> None:
    import gzip

    asked = json.dumps({"custom_id": "x", "body": chat("question", model="gpt-x")}) + "\n"
    answer = {
        "custom_id": "x",
        "response": {"body": {"choices": [{"message": {"role": "assistant", "content": "answer"}}]}},
    }
    if packed == "zip":
        with zipfile.ZipFile(tmp_path / "b.zip", "w") as zipped:
            zipped.writestr("b/out.jsonl", json.dumps(answer))
            zipped.writestr("b/in.jsonl", asked)
        transfer.run("auto", [tmp_path / "b.zip"])
    else:
        (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(asked.encode()))
        (tmp_path / "broken.jsonl").write_bytes(b"\x1f\x8b junk")
        imported(write(tmp_path / "out.jsonl", answer))
    assert [(m.role, m.content) for m in sessions.path("@last")] == [("user", "question"), ("assistant", "answer")]


def test_ids_of_opencode_that_are_bytes_or_nothing(database: db.Database, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "o.db") as connection:
        connection.executescript("""
            CREATE TABLE session (id, title); CREATE TABLE message (id, session_id, data); CREATE TABLE part (id, message_id, data);
            INSERT INTO session VALUES (x'736573', 'Bytes'), (NULL, 'Nothing');
            INSERT INTO message VALUES (x'6d7367', x'736573', '{"role": "user"}'), (NULL, NULL, '{"role": "user"}');
            INSERT INTO part VALUES (x'707274', x'6d7367', '{"type": "text", "text": "hello"}');
        """)
    connection.close()
    report = transfer.run("auto", [tmp_path / "o.db"])
    assert (report.totals()["imported"], report.totals()["bad"]) == (1, 1)
    assert said("ses") == [("user", "hello")]


def test_an_older_version_moves_no_head_even_with_more_in_it(database: db.Database, tmp_path: Path) -> None:
    one, two, three = (
        node(key, above, "user", text(key), []) for key, above in (("n0", None), ("n1", "n0"), ("n2", "n1"))
    )
    new = write(
        tmp_path / "new.json",
        [{"id": "v", "update_time": 200.0, "current_node": "n1", "mapping": {"n0": one, "n1": two}}],
    )
    old = write(
        tmp_path / "old.json",
        [{"id": "v", "update_time": 100.0, "current_node": "n2", "mapping": {"n0": one, "n1": two, "n2": three}}],
    )
    transfer.run("auto", [new])
    transfer.run("auto", [old])
    assert [content for _, content in said("v")] == ["n0", "n1"]
    assert len(sessions.nodes(session("v"))) == 3
