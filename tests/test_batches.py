"""Batches: what is asked, what is sent, what stops a job, what it may spend, and what becomes of it afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llmsess import batches, catalog, chat, db, maintenance, search, sessions, templates
from llmsess.batches import RunReport
from llmsess.batches.forming import Former
from llmsess.batches.limiting import Need, Purse, rate
from llmsess.errors import Conflict, DatabaseFull, DatabaseProblem, InvalidInput, NotFound, ProviderError
from llmsess.models import BatchJob
from llmsess.prices import Usage
from tests.conftest import Command
from tests.server import Answer, ChatServer
from tests.test_batch_crashes import checked, ended, worker

PROMPTS = [f"prompt {i}" for i in range(10)]


def ran(name: str = "job") -> RunReport:
    """Run a job and return the report; the counts add up."""
    report = batches.run(name)
    assert sum(report.job.counts.values()) == report.job.total
    return report


def contents(name: str = "job") -> list[str | None]:
    return [item.content for item in batches.stream_items(name)]


def counts(name: str = "job") -> dict[str, int]:
    return {state: count for state, count in batches.status(name).counts.items() if count}


# What is asked

OPENAI = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {
    "model": "gpt-x", "messages": [{"role": "user", "content": "one"}], "odd_key": {"b": [1]}}}  # fmt: skip
ANTHROPIC = {"custom_id": "a", "params": {
    "model": "claude-x", "max_tokens": 7, "system": [{"type": "text", "text": "brief", "cache_control": {}}],
    "messages": [{"role": "user", "content": [{"type": "text", "text": "one"}]}], "odd_key": 1}}  # fmt: skip
FILES: dict[str, tuple[str, list[str]]] = {
    "prompts.txt": ("one\n\n  two \r\nthree", ["one", "  two ", "three"]),
    "long.txt": ("one\nline two\n---\ntwo\n--- \nthree\n", ["one\nline two", "two", "three"]),
    "table.csv": ('\ufeffid,prompt\n1,one\n\n2,"two, ""quoted""\nand a line"\n', ["one", 'two, "quoted"\nand a line']),
    "semicolons.csv": ("prompt;note\none, two;x\n", ["one, two"]),
    "tabs.tsv": ("prompt\tnote\none\tx\n", ["one"]),
    "rows.jsonl": ('"one"\n{"prompt": "two"}\n{"messages": [{"role": "user", "content": "three"}]}\n',
                   ["one", "two", "three"]),
    "array.json": ('[{"prompt": "one"}, "two"]', ["one", "two"]),
    "openai.jsonl": (json.dumps(OPENAI), ["one"]),
    "together.jsonl": (json.dumps({"custom_id": "a", "body": OPENAI["body"]}), ["one"]),
    "anthropic.jsonl": (json.dumps(ANTHROPIC), ["one"]),
    "anthropic.json": (json.dumps({"requests": [ANTHROPIC]}), ["one"]),
    "no-ending": ('{"prompt": "one"}\n', ["one"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_each_kind_of_input_is_read(database: db.Database, tmp_path: Path, name: str) -> None:
    text, prompts = FILES[name]
    (tmp_path / name).write_text(text)
    batches.create("job", tmp_path / name, model="echo/echo")
    assert ran().status == "done"
    assert contents() == prompts


@pytest.mark.parametrize("name", ["prompts.txt", "array.json", "anthropic.json", "openai.jsonl"])
def test_standard_input_is_read_as_a_file_is(run: Command, name: str) -> None:
    text, prompts = FILES[name]
    assert run("batch", "run", "job", "-", "-m", "echo/echo", stdin=text).status == 0
    shown = json.loads(run("batch", "show", "job", "--json").out)
    assert [item["content"] for item in shown["items"]] == prompts


def test_a_csv_on_standard_input_is_named(run: Command) -> None:
    text = "prompt,n\none,1\n"
    assert run("batch", "run", "job", "-", "-m", "echo/echo", "--input-format", "csv", stdin=text).status == 0
    assert "one" in run("batch", "show", "job").out


def test_a_folder_is_an_item_a_file(database: db.Database, tmp_path: Path, server: ChatServer) -> None:
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_text("first")
    (folder / "inner" / "b.md").write_text("second")
    (folder / ".hidden").write_text("no")
    (folder / "empty.txt").write_text("")
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n123")
    batches.create("job", folder, model="openai/echo", template="{{ name }}: {{ prompt }}", concurrency=1)
    assert ran().status == "done"
    assert contents() == ["a.txt: first", "c.png: ", "b.md: second"]
    assert server.requests[1]["messages"][0]["content"][1]["type"] == "image_url"


def test_a_folder_that_has_moved_is_the_same_input(
    database: db.Database, server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n123")
    (folder / "d.pdf").write_bytes(b"%PDF-1.4 1 0 obj")
    monkeypatch.chdir(tmp_path)
    batches.create("job", "folder", model="openai/echo")
    monkeypatch.chdir("/")
    assert ran().status == "done"
    folder.rename(tmp_path / "moved")
    assert batches.add("job", tmp_path / "moved").new == 0
    (tmp_path / "moved" / "latin.txt").write_bytes(b"h\xe9")
    with pytest.raises(InvalidInput, match=r"latin\.txt is neither UTF-8 text nor"):
        batches.add("job", tmp_path / "moved")


def test_stored_messages_are_an_input(database: db.Database) -> None:
    for prompt in ("why?", "how?"):
        chat.ask(sessions.create(prompt, model="echo/echo", tags=["t"]), prompt)
    rows = batches.stored(sessions.SessionFilter(tag="t"), role="assistant")
    batches.create("job", rows, model="echo/echo", template="right? {{ prompt }} ({{ title }})", key="message")
    assert ran().status == "done"
    assert contents() == ["right? why? (why?)", "right? how? (how?)"]
    again = batches.add("job", batches.stored(sessions.SessionFilter(tag="t"), role="assistant"), key="message")
    assert (again.new, again.known) == (0, 2)


BAD: dict[str, tuple[str, str]] = {
    "empty.txt": ("", "the input has no rows"),
    "empty.csv": ("", "no heading"),
    "twice.csv": ("prompt,prompt\na,b\n", "a column twice"),
    "short.csv": ("prompt,note\na,b\nc\n", "line 3: 1 cells where the heading has 2"),
    "none.csv": ("text\nhello\n", 'the row has no "prompt"'),
    "broken.jsonl": ('{"prompt": "a"}\n{"prompt": \n', "line 2"),
    "number.jsonl": ('{"prompt": "a"}\n7\n', "line 2: the row is neither an object nor a text"),
    "quote.csv": ('id,prompt\n1,"abc\n2,d\n', "line 2: no CSV"),
    "inside.csv": ('id,prompt\n1,"y"z"\n', "no CSV"),
    "latin.csv": ("prompt\nh\udce9\n", "no UTF-8 text"),
    "latin.txt": ("h\udce9\n", "no UTF-8 text"),
    "prompt.jsonl": ('{"prompt": 5}\n', "a prompt is a text, not int"),
    "blank.jsonl": ('{"prompt": "  "}\n', 'line 1: the row has no "prompt"'),
    "roles.jsonl": ('{"messages": [{"role": "boss", "content": "a"}]}\n', "each message is an object with a role"),
    "none.jsonl": ('{"messages": []}\n', "messages must be a list that is not empty"),
    "many.jsonl": (json.dumps(OPENAI | {"body": OPENAI["body"] | {"n": 2}}), "an item has one answer"),  # type: ignore[operator]
    "embed.jsonl": (json.dumps(OPENAI | {"url": "/v1/embeddings"}), "no conversation"),
    "keys.jsonl": (f"{json.dumps(OPENAI)}\n{json.dumps(OPENAI | {'method': 'GET'})}", '"a" is the key of two rows'),
    "key.jsonl": ('{"custom_id": {}, "prompt": "a"}\n', "no usable custom_id"),
    "parameter.jsonl": ('{"prompt": "a", "parameters": {"temperature": "hot"}}\n', "temperature is a number"),
    "some.jsonl": ('{"prompt": "a", "model": "echo/echo"}\n{"prompt": "b"}\n', "1 of 2 rows name no model"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_whole(database: db.Database, tmp_path: Path, name: str) -> None:
    text, problem = BAD[name]
    (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(InvalidInput, match=problem.replace("(", r"\(")):
        batches.create("job", tmp_path / name, model=None if name == "some.jsonl" else "echo/echo")
    assert batches.count() == 0


def test_no_more_than_a_few_problems_are_told(database: db.Database) -> None:
    with pytest.raises(InvalidInput, match=r"100 of 101 rows cannot be sent: line 2: .*; and 95 more"):
        batches.create("job", ["fine", *({"x": i} for i in range(100))], model="echo/echo")


@pytest.mark.parametrize("name", ["", "@last", "two\nlines", "x" * 201])
def test_odd_names_are_refused(database: db.Database, name: str) -> None:
    with pytest.raises(InvalidInput, match="no name for a batch"):
        batches.create(name, ["a"], model="echo/echo")


def test_a_row_does_not_decide_which_files_are_sent(database: db.Database, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "x", "_attachments": [str(secret)]}))
    for rows in (tmp_path / "rows.jsonl", [{"prompt": "x", "_attachments": [5]}]):
        with pytest.raises(InvalidInput, match='a row has no "_attachments"'):
            batches.create("job", rows, model="echo/echo")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out.txt").symlink_to(secret)
    (folder / "in.txt").write_text("in")
    batches.create("job", folder, model="echo/echo")
    assert batches.status("job").total == 1


def test_files_go_with_every_prompt_or_with_their_row(
    database: db.Database, server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("all.txt", "one.txt"):
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": "a", "file": "one.txt"}, {"prompt": "b", "file": ""}]
    batches.create("job", rows, model="openai/echo", attachments=["all.txt"], attach="file", concurrency=1)
    monkeypatch.chdir("/")
    assert ran().status == "done"
    sent = [json.dumps(body["messages"][0]["content"]) for body in server.requests]
    assert ["one.txt" in text for text in sent] == [True, False]
    assert ["all.txt" in text for text in sent] == [True, True]
    with pytest.raises(InvalidInput, match=r"line 1: there is no file missing\.txt to attach"):
        batches.create("no", [{"prompt": "a", "file": "missing.txt"}], model="echo/echo", attach="file")


def test_a_batch_does_not_feed_on_its_own_answers(run: Command) -> None:
    assert run("chat", "hello", "-m", "echo/echo").status == 0
    for _ in range(3):
        again = run(
            "batch", "run", "judge", "--stored", "--role", "assistant", "-m", "echo/echo", "-t", "ok? {{ prompt }}"
        )
        assert again.status == 0
    assert json.loads(run("batch", "status", "judge", "--json").out)["total"] == 1


# What is sent


def test_a_line_of_a_batch_file_goes_as_it_stands(database: db.Database, server: ChatServer) -> None:
    batches.create("o", [OPENAI], model="openai/echo")
    batches.create("a", [ANTHROPIC], model="anthropic/echo")
    assert (ran("o").status, ran("a").status) == ("done", "done")
    sent = [{key: value for key, value in body.items() if key[0] != "_"} for body in server.requests]
    assert sent[0] == OPENAI["body"] | {"model": "echo", "stream": False}  # type: ignore[operator]
    assert sent[1] == ANTHROPIC["params"] | {"model": "echo", "stream": False}  # type: ignore[operator]
    session = sessions.get(batches.item("a", "a").session or "")
    assert (session.system_prompt, session.session_type, session.metadata) == (
        "brief", "batch", {"batch": "a", "item": "a"}
    )  # fmt: skip
    assert session.parameters == {"max_tokens": 7, "odd_key": 1}


def test_a_batch_file_goes_to_another_api_by_what_it_says(database: db.Database, server: ChatServer) -> None:
    schema = {"type": "object"}
    asked = {"max_completion_tokens": 9, "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    body = {"model": "gpt-x", "messages": [{"role": "system", "content": "brief"}, {"role": "user", "content": "hi"}]}
    batches.create("job", [OPENAI | {"body": body | asked}], model="anthropic/echo")
    ran()
    (sent,) = server.requests
    assert (sent["max_tokens"], sent["system"]) == (9, "brief")
    assert sent["messages"] == [{"role": "user", "content": "hi"}]
    assert sent["output_config"]["format"]["type"] == "json_schema"


def test_a_limit_of_the_job_does_not_join_that_of_a_row(database: db.Database, server: ChatServer) -> None:
    bodies = [{"model": "x", "messages": [{"role": "user", "content": "a"}], "max_completion_tokens": 33},
              {"model": "x", "messages": [{"role": "user", "content": "b"}]}]  # fmt: skip
    rows = [{"custom_id": str(i), "body": body} for i, body in enumerate(bodies)]
    batches.create("job", rows, model="openai/echo", parameters={"max_tokens": 7}, concurrency=1)
    ran()
    limits = [{name: body[name] for name in body if name.startswith("max_")} for body in server.requests]
    assert limits == [{"max_completion_tokens": 33}, {"max_completion_tokens": 7}]


def test_what_another_api_lacks_is_left_out(database: db.Database, server: ChatServer) -> None:
    body = OPENAI["body"] | {"seed": 1, "frequency_penalty": 0.5, "stop": "END", "top_p": 0.9}  # type: ignore[operator]
    batches.create("job", [OPENAI | {"body": body}], model="anthropic/echo")
    assert ran().status == "done"
    sent = server.requests[0].keys() - {"_key", "_path"}
    assert sent == {"model", "messages", "max_tokens", "stream", "stop_sequences", "top_p"}


def test_a_job_says_what_its_rows_do_not(database: db.Database, server: ChatServer) -> None:
    rows: list[Any] = ["plain", {"prompt": "own", "system": "mine", "temperature": "0.5", "parameters": {"seed": 2}}]
    rows += [{"messages": [{"role": "user", "content": "told"}], "seed": 3, "note": "not sent"}]
    given = {"temperature": 1.0, "seed": 1}
    batches.create("job", rows, model="openai/echo", system="job", parameters=given, concurrency=1)
    assert ran().status == "done"
    said = [(body["messages"][0]["content"], body["temperature"], body["seed"]) for body in server.requests]
    assert said == [("job", 1.0, 1), ("mine", 0.5, 2), ("job", 1.0, 3)]
    assert "note" not in server.requests[2]


def test_a_temperature_of_zero_is_one(database: db.Database, server: ChatServer) -> None:
    batches.create("job", [{"prompt": "a", "temperature": 0}, {"prompt": "b", "temperature": "0"}], model="openai/echo")
    ran()
    assert [body["temperature"] for body in server.requests] == [0, 0]


def test_messages_with_calls_of_tools_go_as_they_stand(database: db.Database, server: ChatServer) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "7"}]  # fmt: skip
    batches.create("job", [{"messages": said}], model="openai/echo", system="brief")
    assert ran().status == "done"
    assert server.requests[0]["messages"] == [{"role": "system", "content": "brief"}, *said]
    (item,) = batches.stream_items("job")
    assert [message.role for message in sessions.path(item.session or "")] == ["user", "assistant", "tool", "assistant"]


def test_rows_name_their_own_models(database: db.Database, server: ChatServer) -> None:
    rows = [{"prompt": "a", "model": "openai/echo"}, {"prompt": "b", "model": "echo/echo"}]
    batches.create("job", rows)
    assert ran().status == "done"
    assert [item.model for item in batches.stream_items("job")] == ["openai/echo", "echo/echo"]


def test_templates_are_filled_with_rows(database: db.Database, tmp_path: Path) -> None:
    templates.add("saved", "prompt: 'saved {{ a }}'\nsystem: 'sys {{ b }}'\nmodel: echo/echo")
    (tmp_path / "file.txt").write_text("file {{ a }}\n{{ b }}")
    rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "{{ a }}"}]
    for name, template in (("i", "inline {{ a }}/{{ b }}"), ("s", "saved"), ("f", str(tmp_path / "file.txt"))):
        batches.create(name, rows, model=None if name == "s" else "echo/echo", template=template)
        assert ran(name).status == "done"
    assert contents("i") == ["inline 1/x", "inline 2/{{ a }}"]
    assert contents("s") == ["saved 1", "saved 2"]
    assert [session.system_prompt for session in map(sessions.get, [i.session or "" for i in batches.items("s").rows])] == [
        "sys x", "sys {{ a }}"
    ]  # fmt: skip
    assert contents("f") == ["file 1\nx", "file 2\n{{ a }}"]
    with pytest.raises(InvalidInput, match="the template needs c, the row has a, b"):
        batches.create("no", rows, model="echo/echo", template="{{ c }}")
    batches.create("text", ["one"], model="echo/echo", template="Say it: {{ input }}!")
    ran("text")
    assert contents("text") == ["Say it: one!"]


def test_a_row_that_makes_no_request_fails_alone(database: db.Database) -> None:
    rows = [{"a": "fine"}, {"a": ""}, {"a": "also"}]
    batches.create("job", rows, model="echo/echo", template="{{ a }}")
    assert ran().status == "some_failed"
    assert [(item.status, item.error_kind, item.attempts) for item in batches.stream_items("job")] == [
        ("done", None, 1), ("failed", "input", 0), ("done", None, 1),
    ]  # fmt: skip


# The same input, changed


def test_an_input_in_another_order_filtered_and_grown_adds_only_what_is_new(database: db.Database) -> None:
    batches.create("job", PROMPTS, model="echo/echo")
    ran()
    for again, new in ((PROMPTS[::-1], 0), (PROMPTS[3:5], 0), ([*PROMPTS, "one more", "prompt 3"], 2)):
        added = batches.add("job", again)
        assert (added.new, added.known) == (new, len(again) - new)
    assert ran().answered == 2
    assert len(contents()) == 12
    assert counts() == {"done": 12}


def test_a_changed_row_and_a_changed_definition_are_refused(database: db.Database) -> None:
    batches.create("job", [{"custom_id": "a", "prompt": "one"}], model="echo/echo", system="s")
    with pytest.raises(Conflict, match='line 2: the item "a" says something else now'):
        batches.add("job", ["new", {"custom_id": "a", "prompt": "two"}])
    assert batches.status("job").total == 1
    with pytest.raises(Conflict, match="has not the same system prompt"):
        batches.add("job", ["new"], system="other")
    with pytest.raises(Conflict, match="has not the same model"):
        batches.check_same("job", model="echo/other")
    with pytest.raises(Conflict, match="there is a batch"):
        batches.create("job", ["a"], model="echo/echo")
    batches.check_same("job", model="echo/echo", system="s")


def test_a_column_can_be_the_key(database: db.Database) -> None:
    batches.create("job", [{"n": 7, "prompt": "a"}, {"n": 8, "prompt": "a"}], model="echo/echo", key="n")
    assert [item.key for item in batches.stream_items("job")] == ["7", "8"]
    assert batches.add("job", [{"n": 8, "prompt": "a"}, {"n": 9, "prompt": "a"}]).new == 1  # it is remembered
    with pytest.raises(Conflict, match="was made with the column n"):
        batches.add("job", [{"prompt": "a"}], key="prompt")
    with pytest.raises(InvalidInput, match="no usable n"):
        batches.create("other", [{"prompt": "a"}], model="echo/echo", key="n")


# What stops a job, or an item


@pytest.mark.parametrize("model", ["401", "404"])
def test_what_every_item_would_meet_stops_the_job(database: db.Database, server: ChatServer, model: str) -> None:
    batches.create("job", PROMPTS, model=f"openai/{model}", concurrency=2)
    report = ran()
    assert isinstance(report.error, ProviderError)
    assert report.status == "paused"
    assert counts() == {"todo": 10}
    assert server.calls().total() <= 3
    assert batches.status("job").reserved == 0


def test_a_missing_key_stops_before_anything_is_sent(
    database: db.Database, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    batches.create("job", PROMPTS, model="openai/echo")
    report = ran()
    assert (report.status, counts(), server.calls().total()) == ("paused", {"todo": 10}, 0)
    assert "OPENAI_API_KEY" in str(report.error)


def test_a_server_that_is_not_there_stops_the_job(
    database: db.Database, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    batches.create("job", PROMPTS, model="openai/echo", retries=1)
    assert ran().status == "paused"
    assert counts() == {"todo": 10}
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert ran().status == "done"
    assert contents() == PROMPTS
    assert maintenance.check().findings == []


def test_refusals_are_sent_again_and_each_attempt_is_a_call(database: db.Database, server: ChatServer) -> None:
    batches.create("job", PROMPTS[:3], model="openai/busy-2-429", concurrency=1)
    assert ran().status == "done"
    outcomes = database.execute_sql("SELECT outcome, http_status FROM calls ORDER BY id").fetchall()
    assert sorted(outcomes) == [("error", 429), ("error", 429), ("ok", 200), ("ok", 200), ("ok", 200)]
    assert sum(item.attempts for item in batches.stream_items("job")) == 5
    assert batches.status("job").reserved == 0


def test_a_server_that_asks_to_wait_is_given_the_time_by_all(database: db.Database, server: ChatServer) -> None:
    came: list[float] = []
    server.answers["waits"] = Answer("application/json", b'{"error": {"message": "slow"}}', 429, {"Retry-After": "1"})

    def asked(number: int) -> None:
        came.append(time.monotonic())
        if number == 4:
            server.answers.clear()

    server.on_request = asked
    batches.create("job", PROMPTS, model="openai/waits", concurrency=4)
    began = time.monotonic()
    assert ran().status == "done"
    assert not [moment for moment in came if 0.5 < moment - came[3] < 0.9]
    assert time.monotonic() - began < 6


@pytest.mark.parametrize(
    ("model", "policy", "ends", "calls"),
    [
        ("500", "hold", ("failed", "server"), 1),
        ("500", "resend", ("failed", "server"), 3),
        ("drop", "hold", ("unknown", "connection"), 1),
        ("drop", "resend", ("failed", "connection"), 3),
        ("drop-2", "resend", ("done", None), 3),
        ("not-json", "hold", ("failed", "bad_response"), 1),
        ("truncated-json", "hold", ("failed", "bad_response"), 1),
        ("no-choices", "hold", ("failed", "bad_response"), 1),
        ("context", "hold", ("failed", "context_length"), 1),
        ("529", "hold", ("failed", "overloaded"), 3),
    ],
)
def test_each_failure_is_told_apart(
    database: db.Database, server: ChatServer, model: str, policy: str, ends: tuple[str, str | None], calls: int
) -> None:
    batches.create("job", ["why?"], model=f"openai/{model}", on_unknown=policy, retries=2)
    ran()
    (item,) = batches.stream_items("job")
    assert (item.status, item.error_kind, server.calls().total()) == (*ends, calls)
    assert batches.status("job").calls == calls
    assert maintenance.check().findings == []


def test_an_answer_that_does_not_fit_the_schema_fails_and_is_kept(database: db.Database, server: ChatServer) -> None:
    batches.create("job", ['{"name": "Tom"}', "no JSON"], model="openai/echo", schema="name", concurrency=1)
    assert ran().status == "some_failed"
    good, bad = batches.stream_items("job")
    assert (good.status, bad.status, bad.error_kind, bad.content) == ("done", "failed", "schema", "no JSON")
    assert server.requests[0]["response_format"]["type"] == "json_schema"


# What it may spend


def guard_budget() -> None:
    """Make a commit that exceeds the budget fail."""
    over = (
        "NEW.spent_cost + NEW.reserved_cost > NEW.budget OR NEW.spent_tokens + NEW.reserved_tokens > NEW.budget_tokens"
    )
    db.database.execute_sql(
        f"CREATE TRIGGER test_budget AFTER UPDATE ON batch_jobs WHEN {over} OR NEW.calls > NEW.budget_requests "
        "BEGIN SELECT RAISE(ABORT, 'over the budget'); END"
    )


def priced() -> None:
    catalog.add_model("openai/echo")
    db.database.execute_sql(
        "UPDATE models SET cost_per_1k_input_tokens = 10000000, cost_per_1k_output_tokens = 20000000"
    )


@pytest.mark.parametrize(
    ("budget", "more"),
    [
        ({"budget_requests": 30}, {"budget_requests": 0}),
        ({"budget_usd": "0.0080"}, {"budget_usd": 10}),  # an answer of 11 and 7 tokens is $0.00025
        ({"budget_tokens": 600}, {"budget_tokens": 10_000}),
    ],
)
def test_a_budget_holds_at_fifty_at_a_time_and_can_be_raised(
    database: db.Database, server: ChatServer, budget: dict[str, Any], more: dict[str, Any]
) -> None:
    priced()
    guard_budget()
    prompts = [f"prompt {i}" for i in range(100)]
    given = {"max_tokens": 10}
    batches.create("job", prompts, model="openai/echo", concurrency=50, parameters=given, **budget)
    report = ran()
    assert report.status == "paused"
    assert "budget" in (report.reason or "")
    done = report.job.counts["done"]
    fits = {"budget_requests": (30, 30), "budget_usd": (29, 32), "budget_tokens": (30, 33)}
    least, most = fits[next(iter(budget))]
    assert least <= done <= most
    assert counts() == {"done": done, "todo": 100 - done}
    batches.edit("job", **more)
    assert ran().status == "done"
    assert counts() == {"done": 100}
    state = batches.status("job")
    assert (state.cost, state.tokens, state.reserved) == (100 * 250_000, 1800, 0)


def test_a_budget_in_usd_wants_a_price(database: db.Database, server: ChatServer) -> None:
    batches.create("job", PROMPTS, model="openai/echo", budget_usd=1)
    with pytest.raises(InvalidInput, match="openai/echo has no price"):
        batches.run("job")
    assert server.calls().total() == 0
    batches.edit("job", allow_unpriced=True)
    assert ran().status == "done"


def test_known_costs_count_where_no_price_is_known(database: db.Database, tmp_path: Path) -> None:
    script = tmp_path / "answers.yaml"
    script.write_text("[{match: prompt, content: fine, cost_usd: '0.01'}]")
    given: dict[str, Any] = {"budget_usd": "0.035", "allow_unpriced": True, "concurrency": 1}
    batches.create("job", PROMPTS, model=f"scripted/{script}", **given)
    assert ran().status == "paused"
    assert batches.status("job").cost == 40_000_000


def test_the_first_answer_tells_how_long_the_others_may_be(database: db.Database, server: ChatServer) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 50_000}
    choice = {"message": {"role": "assistant", "content": "long"}, "finish_reason": "stop"}
    answer = json.dumps({"choices": [choice], "usage": usage}).encode()
    server.answers["big"] = Answer("application/json", answer)
    catalog.add_model("openai/big")
    database.execute_sql("UPDATE models SET cost_per_1k_input_tokens = 1000000, cost_per_1k_output_tokens = 10000000")
    batches.create("job", PROMPTS, model="openai/big", budget_usd="0.10", concurrency=8)
    assert not batches.estimate("job").bounded
    assert ran().status == "paused"
    assert server.calls().total() == 1


def test_a_reservation_stays_where_an_answer_has_no_usage(database: db.Database, server: ChatServer) -> None:
    batches.create("job", ["a"], model="openai/no-usage", parameters={"max_tokens": 10})
    ran()
    state = batches.status("job")
    assert (state.counts["done"], state.tokens, state.unpriced) == (1, 0, 1)


def test_an_unknown_item_keeps_its_reservation(database: db.Database, server: ChatServer) -> None:
    catalog.add_model("openai/drop")
    db.database.execute_sql(
        "UPDATE models SET cost_per_1k_input_tokens = 10000000, cost_per_1k_output_tokens = 20000000"
    )
    batches.create("job", ["why?"], model="openai/drop", budget_usd=1, parameters={"max_tokens": 10})
    ran()
    state = batches.status("job")
    assert (state.counts["unknown"], state.cost, state.reserved) == (1, 0, 200_000 + 10_000 * 18)


def test_an_estimate_says_what_a_run_would_cost(database: db.Database) -> None:
    batches.create("job", ["one two", "three"], model="echo/echo")
    found = batches.estimate("job")
    assert (found.items, found.input_tokens, found.output_tokens) == (2, 3, 3)
    assert (found.low, found.high, found.unpriced, found.models) == (0, 0, ("echo/echo",), ("echo/echo",))


def test_a_dry_run_leaves_nothing(run: Command, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("one\ntwo")
    dry = run("batch", "run", "job", str(tmp_path / "p.txt"), "-m", "openai/gpt-4o-mini", "--dry-run", "--json")
    assert dry.status == 0 or "OPENAI_API_KEY" in dry.err
    assert json.loads(run("batch", "list", "--json").out) == []


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.moment = 1_000_000_000.0

    def __call__(self) -> float:
        return self.moment


def limited(database: db.Database, **limits: Any) -> tuple[int, Clock]:
    job = batches.create("job", ["a"], model="echo/echo", **limits)
    return job.id, Clock()


def pressed(job_id: int, clock: Clock, need: Need, seconds: float, *, actual: int | None = None) -> list[float]:
    """Send as fast as the limits allow for so long, from two processes; return when each request left."""
    left, until = [], clock.moment + seconds
    purses = [Purse(job_id, clock), Purse(job_id, clock)]
    turn = 0
    while clock.moment < until:
        purse = purses[turn % 2]
        turn += 1
        with db.database.atomic():
            purse.read()
            held = purse.held(need)
            if held is None:
                purse.reserve(need)
                if actual is not None:
                    purse.settle(need, Usage(actual, output_tokens=0), 0)
            purse.write()
        if held is None:
            left.append(clock.moment)
        else:
            clock.moment += max(held.seconds or 0, 1e-6)
    return left


def busiest(moments: list[float], weight: int = 1) -> int:
    """Return the most that left in any 60 seconds."""
    return max(sum(start <= moment < start + 60 for moment in moments) * weight for start in moments)


@pytest.mark.parametrize("rpm", [1, 7, 60, 500])
def test_no_minute_of_ten_has_more_requests_than_the_limit(database: db.Database, rpm: int) -> None:
    job_id, clock = limited(database, rpm=rpm)
    left = pressed(job_id, clock, Need(1, 1, 0), 600)
    assert busiest(left) <= rpm
    assert len(left) >= 0.9 * rpm * 10


def test_no_minute_of_ten_has_more_tokens_than_the_limit_and_one_request(database: db.Database) -> None:
    job_id, clock = limited(database, tpm=10_000)
    left = pressed(job_id, clock, Need(100, 100, 0), 600)
    assert busiest(left, 200) <= 10_000 + 200
    assert len(left) * 200 >= 0.9 * 100_000


def test_tokens_are_settled_by_what_they_were(database: db.Database) -> None:
    job_id, clock = limited(database, tpm=10_000)
    left = pressed(job_id, clock, Need(100, 900, 0), 120, actual=100)
    assert len(left) >= 0.9 * 2 * 100
    assert busiest(left, 100) <= 10_000 + 1_000


@pytest.mark.parametrize("jump", [-86_400.0, -30.0, 3_600.0])
def test_a_clock_that_jumps_neither_stalls_nor_floods(database: db.Database, jump: float) -> None:
    job_id, clock = limited(database, rpm=60)
    pressed(job_id, clock, Need(1, 1, 0), 60)
    clock.moment += jump
    began = clock.moment
    left = pressed(job_id, clock, Need(1, 1, 0), 120)
    assert left[0] - began <= 121
    assert busiest(left) <= 60
    assert len(left) >= 60


def test_a_pause_holds_all_requests_and_ends(database: db.Database) -> None:
    job_id, clock = limited(database)
    purse = Purse(job_id, clock)
    purse.read()
    purse.pause(30)
    held = purse.held(Need(1, 1, 0))
    assert held is not None
    assert held.seconds == pytest.approx(30)
    clock.moment += 31
    assert purse.held(Need(1, 1, 0)) is None
    purse.pause(1e9)
    clock.moment -= 86_400
    assert purse.held(Need(1, 1, 0)) is None


def test_a_burst_is_two_seconds_of_the_limit() -> None:
    spacing, burst = rate(600)
    assert (round(spacing), burst) == (103_448, 20)
    assert rate(10) == (6_000_000, 0)


# Equal requests


def test_an_equal_request_is_sent_once_if_asked(database: db.Database, server: ChatServer) -> None:
    prompts = ["same"] * 10 + ["other"]
    batches.create("job", prompts, model="openai/echo", cache=True, concurrency=8)
    assert ran().status == "done"
    assert server.calls() == Counter({"same": 1, "other": 1})
    assert contents() == prompts
    assert batches.status("job").calls == 2
    batches.create("next", ["other", "new"], model="openai/echo", cache=True)
    batches.create("plain", ["other"], model="openai/echo")
    ran("next"), ran("plain")
    assert server.calls() == Counter({"same": 1, "other": 2, "new": 1})
    assert [item.cost for item in batches.stream_items("job")][1:3] == [0, 0]
    first, second = batches.items("job").rows[:2]
    assert first.session != second.session
    assert [said.content for said in sessions.path(second.session or "")] == ["same", "same"]
    assert maintenance.check().findings == []


def test_processes_share_the_answers_to_equal_requests(path: Path, server: ChatServer) -> None:
    db.connect(path)
    batches.create("job", ["same"] * 40, model="openai/echo", cache=True, concurrency=4)
    db.database.close()
    running = [worker(path) for _ in range(3)]
    assert [ended(process)[0] for process in running] == [0, 0, 0]
    assert server.calls() == Counter({"same": 1})
    assert checked(path).counts["done"] == 40


# Several processes


@pytest.mark.parametrize("workers", [2, 6])
def test_several_processes_answer_each_item_once(path: Path, server: ChatServer, workers: int) -> None:
    prompts = [f"prompt {i}" for i in range(120)]
    db.connect(path)
    batches.create("job", prompts, model="openai/echo", concurrency=4)
    db.database.close()
    running = [worker(path) for _ in range(workers)]
    assert [ended(process)[0] for process in running] == [0] * workers
    assert server.calls() == Counter(prompts)
    assert checked(path).counts["done"] == 120


IMPATIENT = (
    "from llmsess import owners, cli; owners.LEASE_S = 1; owners.RENEW_S = 0.2; cli.main(['batch', 'run', 'job'])"
)


@pytest.mark.parametrize(("policy", "calls"), [("resend", 2), ("hold", 1)])
def test_a_stopped_process_is_fenced_when_it_goes_on(path: Path, server: ChatServer, policy: str, calls: int) -> None:
    db.connect(path)
    batches.create("job", ["why?"], model="openai/echo", on_unknown=policy)
    db.database.close()
    stopped = subprocess.Popen(
        [sys.executable, "-c", IMPATIENT], env=os.environ | {"LLMSESS_DB": str(path)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    server.on_request = lambda number: stopped.send_signal(signal.SIGSTOP) if number == 1 else None
    while not server.requests:
        time.sleep(0.05)
    time.sleep(1.3)
    other = ended(worker(path))[0]
    assert other == (0 if policy == "resend" else 6)
    stopped.send_signal(signal.SIGCONT)
    _, err = stopped.communicate(timeout=60)
    assert (stopped.returncode, b"Traceback" in err) == (0, False)
    assert server.calls() == Counter({"why?": calls})
    state = checked(path)
    assert (state.counts["done"], state.calls, state.reserved) == (1, calls, 0)
    db.connect(path)
    (item,) = batches.stream_items("job")
    replies = [said for said in sessions.nodes(item.session or "") if said.role == "assistant"]
    assert [reply.status for reply in replies] == ["complete"] * calls
    assert db.database.execute_sql("SELECT outcome FROM calls").fetchall() == [("ok",)] * calls
    db.database.close()


def test_what_another_process_leaves_is_taken_up(path: Path, server: ChatServer) -> None:
    db.connect(path)
    batches.create("job", PROMPTS, model="openai/echo", concurrency=8)
    db.database.close()
    server.on_request = lambda number: time.sleep(3)
    first = worker(path)
    while not server.requests:
        time.sleep(0.05)
    second = worker(path)
    time.sleep(1.5)
    server.on_request = None
    first.kill()
    ended(first)
    assert ended(second)[0] == 6
    state = checked(path)
    assert state.counts["todo"] == 0
    assert state.counts["unknown"] <= 8


def test_the_counts_add_up_at_every_moment(path: Path, server: ChatServer) -> None:
    db.connect(path)
    batches.create("job", [f"prompt {i}" for i in range(300)], model="openai/busy-20-429", concurrency=16)
    done, sums = threading.Event(), set()

    def watch() -> None:
        states = " + ".join(batches.STATES)
        while not done.is_set():
            row = db.database.execute_sql(f"SELECT total_items, {states} FROM batch_jobs").fetchone()
            sums.add(tuple(row))
        db.database.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert batches.run("job").status == "done"
    finally:
        done.set()
        watcher.join()
    assert sums == {(300, 300)}
    db.database.close()


def test_a_full_disk_stops_before_the_next_request(path: Path, server: ChatServer) -> None:
    db.connect(path)
    batches.create("job", ["x" * 20_000 + str(i) for i in range(200)], model="openai/echo", concurrency=4)
    run = db.database.execute_sql
    (pages,) = run("PRAGMA page_count").fetchone()
    run(f"PRAGMA max_page_count = {pages + 300}")
    with pytest.raises(DatabaseProblem) as raised:
        batches.run("job")
    assert isinstance(raised.value, DatabaseFull) or "full" in str(raised.value)
    run("PRAGMA max_page_count = 1000000000")
    assert server.calls().total() <= run("SELECT count(*) FROM calls").fetchone()[0]
    batches.run("job")  # what it held when the disk was full is unknown then
    batches.resolve("job", "resend")
    batches.run("job")
    for file in path.parent.glob("llmsess-unsaved-*"):
        file.unlink()
    assert counts()["done"] == 200
    db.database.close()


# Afterwards


def test_failures_are_retried_by_kind(database: db.Database, server: ChatServer) -> None:
    server.answers["odd"] = Answer("application/json", b'{"error": {"message": "no"}}', 422)
    batches.create("job", ["a", "b"], model="openai/odd")
    ran()
    assert counts() == {"failed": 2}
    assert batches.status("job").status == "failed"
    assert batches.retry("job", kinds=["rate_limit"]) == 0
    assert batches.retry("job", kinds=["bad_request"], keys=[batches.items("job").rows[0].key]) == 1
    server.answers.clear()
    assert ran().status == "some_failed"
    assert batches.retry("job") == 1
    assert ran().status == "done"
    assert [item.attempts for item in batches.stream_items("job")] == [2, 2]
    (session,) = {item.session for item in batches.items("job", limit=1).rows}
    assert [said.status for said in sessions.nodes(session or "")] == ["complete", "failed", "complete"]
    assert [said.status for said in sessions.path(session or "")] == ["complete", "complete"]
    with pytest.raises(InvalidInput, match="not retried"):
        batches.retry("job", status="done")


def test_unknown_items_are_sent_again_or_skipped(database: db.Database, server: ChatServer) -> None:
    batches.create("job", ["a", "b"], model="openai/drop")
    assert ran().status == "some_failed"
    assert counts() == {"unknown": 2}
    keys = [item.key for item in batches.stream_items("job")]
    assert batches.resolve("job", "skip", keys=keys[:1]) == 1
    assert batches.resolve("job", "resend") == 1
    ran()
    assert counts() == {"skipped": 1, "unknown": 1}
    batches.resolve("job", "skip")
    assert batches.status("job").status == "done"
    with pytest.raises(InvalidInput, match="resend or skip"):
        batches.resolve("job", "forget")


def test_a_cancelled_job_is_not_run_and_can_be_taken_up(database: db.Database) -> None:
    batches.create("job", PROMPTS, model="echo/echo")
    assert batches.cancel("job") == 10
    assert batches.status("job").status == "cancelled"
    with pytest.raises(Conflict, match="cancelled"):
        batches.run("job")
    assert batches.retry("job", status="cancelled") == 10
    assert ran().status == "done"


def test_a_running_job_stops_when_another_process_cancels_it(path: Path, server: ChatServer) -> None:
    db.connect(path)
    batches.create("job", [f"prompt {i}" for i in range(60)], model="openai/echo", concurrency=1)
    process = worker(path)
    server.on_request = lambda number: batches.cancel("job") if number == 5 else None
    assert ended(process)[0] == 6
    state = batches.status("job")
    assert state.status == "cancelled"
    assert state.counts["done"] + state.counts["cancelled"] == 60
    assert state.counts["done"] < 10
    db.database.close()


def test_cancelling_what_is_done_changes_nothing(database: db.Database) -> None:
    batches.create("job", ["a"], model="echo/echo")
    ran()
    assert batches.cancel("job") == 0
    assert batches.status("job").status == "done"
    assert batches.add("job", ["b"]).new == 1
    assert ran().status == "done"


def test_nothing_is_added_to_a_cancelled_job(database: db.Database) -> None:
    batches.create("job", ["a", "b"], model="echo/echo")
    batches.cancel("job")
    with pytest.raises(Conflict, match="cancelled"):
        batches.add("job", ["c"])
    assert batches.status("job").total == 2


def test_another_policy_takes_up_what_a_crash_left_unknown(database: db.Database, server: ChatServer) -> None:
    batches.create("job", ["a", "b"], model="openai/drop-2", concurrency=1)
    assert counts() == {"todo": 2}
    ran()
    assert counts() == {"unknown": 2}
    batches.edit("job", on_unknown="resend")
    assert ran().status == "done"


def test_an_error_in_a_callback_comes_after_what_is_on_its_way(database: db.Database, server: ChatServer) -> None:
    batches.create("job", PROMPTS, model="openai/echo", concurrency=4)

    def fails(item: batches.Settled) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        batches.run("job", fails)
    assert set(counts()) == {"done", "todo"}
    with pytest.raises(InvalidInput, match="a callback is a function"):
        batches.run("job", 5)  # type: ignore[arg-type]
    assert ran().status == "done"


def test_a_model_that_is_not_there_stops_only_its_own_items(database: db.Database, server: ChatServer) -> None:
    batches.create(
        "job", [{"prompt": "a", "model": "openai/404"}, {"prompt": "b", "model": "openai/echo"}], concurrency=1
    )
    assert ran().status == "some_failed"
    assert [(item.status, item.error_kind) for item in batches.stream_items("job")] == [
        ("failed", "not_found"), ("done", None)
    ]  # fmt: skip


def test_a_long_wait_is_told_once(database: db.Database, server: ChatServer) -> None:
    headers = {"Retry-After": "6"}
    server.answers["waits"] = Answer("application/json", b'{"error": {"message": "slow"}}', 429, headers)
    batches.create("job", ["a"], model="openai/waits")
    told: list[float] = []
    threading.Timer(0.8, lambda: batches.cancel("job")).start()

    def waits(seconds: float) -> None:
        told.append(seconds)
        batches.edit("job", concurrency=2)

    batches.run("job", on_wait=waits)
    assert [5 < seconds <= 6 for seconds in told] == [True]


def test_a_deleted_job_leaves_its_sessions(database: db.Database) -> None:
    batches.create("job", ["why is the sky blue?"], model="echo/echo", project="p")
    ran()
    assert batches.delete("job") == 1
    with pytest.raises(NotFound):
        batches.get("job")
    (found,) = sessions.find(sessions.SessionFilter(type="batch", project="p")).rows
    assert found["title"] == "why is the sky blue?"
    assert len(search.find("sky")) == 2
    assert maintenance.check().findings == []


def test_a_session_that_is_deleted_takes_only_the_answer(database: db.Database) -> None:
    batches.create("job", ["a", "b"], model="echo/echo")
    ran()
    sessions.delete(batches.items("job").rows[0].session or "")
    assert [(item.status, item.content) for item in batches.stream_items("job")] == [("done", None), ("done", "b")]
    assert ran().answered == 0


def test_every_page_of_items_is_the_next_one(database: db.Database) -> None:
    batches.create("job", PROMPTS, model="echo/echo")
    seen, cursor = [], None
    while True:
        page = batches.items("job", limit=3, cursor=cursor)
        seen += [item.input["prompt"] for item in page.rows]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == PROMPTS
    with pytest.raises(InvalidInput, match="no cursor"):
        batches.items("job", cursor="x")
    with pytest.raises(NotFound):
        batches.item("job", "nothing")


def test_a_page_of_items_takes_one_query_for_many(database: db.Database) -> None:
    batches.create("few", PROMPTS[:3], model="echo/echo")
    batches.create("many", [f"prompt {i}" for i in range(2000)], model="echo/echo")
    plans = [
        row[3]
        for row in database.execute_sql(
            "EXPLAIN QUERY PLAN SELECT id FROM batch_items WHERE job_id = ? AND position > ? ORDER BY position LIMIT 50",
            (1, 10),
        ).fetchall()
    ]
    assert any("batch_items_job_id_position" in plan for plan in plans)
    assert not any("TEMP B-TREE" in plan for plan in plans)


def test_the_library_refuses_what_cannot_be(database: db.Database) -> None:
    odd: list[dict[str, Any]] = [
        {"concurrency": 0},
        {"rpm": -1},
        {"on_unknown": "x"},
        {"budget_usd": "much"},
        {"speed": 1},
    ]
    for limits in odd:
        with pytest.raises(InvalidInput):
            batches.create("job", ["a"], model="echo/echo", **limits)
    with pytest.raises(InvalidInput, match="there is no file"):
        batches.create("job", "missing.csv", model="echo/echo")
    with pytest.raises(InvalidInput):
        batches.create("job", ["a", 7], model="echo/echo")  # type: ignore[list-item]
    with pytest.raises(NotFound):
        batches.run("nothing")
    assert batches.count() == 0


def test_forming_says_the_same_each_time(database: db.Database) -> None:
    batches.create("job", [OPENAI, "plain", {"messages": [{"role": "user", "content": "x"}]}], model="echo/echo")
    job = BatchJob.get()
    hashes = [[Former(job).form(item.input).request.sha256() for item in batches.stream_items(job)] for _ in range(2)]
    assert hashes[0] == hashes[1]
