"""Export: every format, what it leaves out, redaction; llmsess' own gives the same again, also in parts and into others."""

from __future__ import annotations

import csv
import io
import json
import re
import resource
import subprocess
import sys
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from llmsess import (
    catalog,
    chat,
    db,
    errors,
    exporters,
    exporting,
    maintenance,
    redaction,
    search,
    sessions,
    snapshots,
    transfer,
)
from llmsess.exporters.html import picture_of
from llmsess.models import Message, Session, SessionSnapshot
from tests import specimens
from tests.conftest import Command

TEXT = [exporter for exporter in exporters.names() if exporter != "llmsess"]
DATA = ("openai-chat", "anthropic-chat", "sharegpt")


def written(format: str, *references: Any, **options: Any) -> str:
    out = io.StringIO()
    exporting.run(format, out, references, **options)
    return out.getvalue()


def other(tmp_path: Path, template: Path, name: str = "other") -> None:
    """Close the database and open an empty one."""
    db.database.close()
    path = tmp_path / f"{name}.db"
    path.write_bytes(template.read_bytes())
    db.connect(path)


def restore(tmp_path: Path, text: str, **options: Any) -> transfer.ImportReport:
    file = tmp_path / "restored.jsonl"
    file.write_text(text)
    report = transfer.run("llmsess", [file], **options)
    assert maintenance.check().findings == []
    return report


@pytest.fixture
def talk(database: db.Database) -> Session:
    """A session with everything in it."""
    catalog.create_project("paris")
    row = sessions.create(
        "A talk",
        model="echo/echo",
        project="paris",
        system_prompt="Be kind.",
        tags=["good", "two"],
        metadata={"k": [1]},
        parameters={"seed": 3},
    )
    png = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    sessions.append(
        row,
        "user",
        [{"type": "text", "text": "What is <b>this</b>?"}, png],
        created_at=datetime(2026, 1, 31, tzinfo=UTC),
    )
    sessions.append(
        row,
        "assistant",
        [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "text", "text": "A **cat**:\n\n```python\nprint(1)\n```"},
            {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "it"}},
        ],
    )
    sessions.append(row, "tool", [{"type": "tool_result", "tool_use_id": "t1", "content": "=SUM(A1)"}])
    sessions.append(row, "event", "compacted")
    chat.ask(row, "=1+1 x" * 20_000)
    return sessions.get(row)


# Formats


@pytest.mark.parametrize("name", exporters.names())
def test_every_exporter_says_what_it_writes(talk: Session, name: str) -> None:
    exporter = exporters.get(name)
    assert name == exporter.NAME and exporter.DESCRIPTION and exporter.LOSES and exporter.SUFFIX.startswith(".")
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text()
    assert f"| `{name}` | " in page and exporter.LOSES in page.replace(
        "the raw records of imports", "only the raw records of imports"
    )
    assert written(name, talk)


@pytest.mark.parametrize("name", exporters.names())
def test_an_empty_archive_is_written(database: db.Database, name: str) -> None:
    assert (
        json.loads(written(name).splitlines()[0])["type"] == "llmsess"
        if name == "llmsess"
        else written(name) is not None
    )
    sessions.create("Nothing said")
    assert exporting.run(name, io.StringIO()).messages == 0


def test_openai_lines(talk: Session) -> None:
    report = exporting.run("openai-chat", out := io.StringIO(), [talk])
    [record] = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [message["role"] for message in record["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "user",
        "assistant",
    ]
    assert record["messages"][1]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="},
    }
    assert record["messages"][2]["tool_calls"] == [
        {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at": "it"}'}}
    ]
    assert record["messages"][3] == {"role": "tool", "tool_call_id": "t1", "content": "=SUM(A1)"}
    assert report.losses == {"reasoning": 1, "events and failed replies": 1}


def test_anthropic_lines_take_turns(talk: Session) -> None:
    sessions.append(talk, "assistant", "and more")
    [record] = [json.loads(line) for line in written("anthropic-chat", talk).splitlines()]
    assert record["system"] == "Be kind." and record["model"] == "echo"
    roles = [message["role"] for message in record["messages"]]
    assert roles == ["user", "assistant", "user", "assistant"]
    assert [block["type"] for block in record["messages"][1]["content"]] == ["thinking", "text", "tool_use"]
    assert [block["type"] for block in record["messages"][2]["content"]] == ["tool_result", "text"]


def test_sharegpt_lines(talk: Session) -> None:
    [record] = [json.loads(line) for line in written("sharegpt", talk).splitlines()]
    assert [turn["from"] for turn in record["conversations"]] == [
        "human",
        "gpt",
        "function_call",
        "observation",
        "human",
        "gpt",
    ]
    assert record["system"] == "Be kind."


def test_csv_cells_start_no_formula(talk: Session) -> None:
    rows = list(csv.DictReader(io.StringIO(written("csv", talk))))
    assert [row["position"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert rows[4]["content"].startswith("'=1+1") and rows[0]["created_at"] == "2026-01-31T00:00:00+00:00"
    assert rows[0]["title"] == "A talk" and rows[5]["model"] == "echo/echo"


def test_markdown_holds_any_code(talk: Session) -> None:
    sessions.append(talk, "tool", [{"type": "tool_result", "tool_use_id": "t2", "content": "a\n````\nb"}])
    text = written("markdown", talk)
    assert text.startswith("# A talk\n") and "\n`````\na\n````\nb\n`````" in text
    assert "## System prompt\n\nBe kind." in text and "<details><summary>Reasoning</summary>" in text


class Page(HTMLParser):
    """What a browser would make of a page: its tags, attributes and whether any was left open."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_harmless_and_whole(database: db.Database) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    row = sessions.create(evil, system_prompt=evil, tags=["<b>"], model="echo/echo")
    for role in ("user", "assistant", "tool", "system"):
        sessions.append(
            row,
            role,
            f"{evil}\n\n[x](javascript:alert(3)) ![y](https://tracker.example/p.png)\n\n```{evil}\n{evil}\n```\n\n    {evil}\n\n| a |\n|---|\n| {evil} |",
        )
    sessions.append(
        row,
        "assistant",
        [{"type": "tool_use", "id": evil, "name": evil, "input": {evil: evil}}, {"type": evil, "name": evil}],
    )
    sessions.append(
        row,
        "user",
        [{"type": "image", "source": {"type": "base64", "media_type": 'image/png" onerror="alert(4)', "data": "AAAA"}}],
    )
    page = Page()
    page.feed(written("html"))
    assert page.open == []
    assert "script" not in page.tags and "iframe" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [
        value for name, value in page.attributes if name in ("href", "src") and value and value.startswith("javascript")
    ]
    assert "img" not in page.tags, "a picture of Markdown is a link, an odd one is named"
    assert ("http-equiv", "Content-Security-Policy") in page.attributes


def test_html_shows_pictures_and_highlights(talk: Session) -> None:
    text = written("html", talk)
    assert '<img alt="picture" src="data:image/png;base64,iVBORw0KGgo=">' in text
    assert re.search(r'<span class="nb">print</span>', text)
    assert "prefers-color-scheme: dark" in text and "What is &lt;b&gt;this&lt;/b&gt;?" in text
    assert picture_of({"type": "image", "source": {"media_type": "image/svg+xml", "data": "AAAA"}}) is None


def test_hidden_messages_and_other_branches_are_left_out_and_told(database: db.Database, tmp_path: Path) -> None:
    transfer.run("chatgpt", [specimens.write("chatgpt", tmp_path / "c.json")])
    report = exporting.run("markdown", out := io.StringIO())
    assert report.losses["hidden messages (--hidden writes them)"] == 1
    assert report.losses["messages on other branches"] == 1
    assert "## System" not in out.getvalue() and "## System" in written("markdown", hidden=True)


def test_what_is_chosen_is_exported(talk: Session) -> None:
    sessions.create("Another", tags=["bad"])
    assert written("markdown", filter=sessions.SessionFilter(tag="bad")).count("\n# ") == 0
    assert written("markdown", filter=sessions.SessionFilter(tag="bad")).startswith("# Another")
    assert written("markdown").count("Session `") == 2
    with pytest.raises(errors.NotFound):
        written("markdown", "no such title")
    with pytest.raises(errors.InvalidInput, match="did you mean"):
        written("markdwn")


# There and back again


@pytest.mark.parametrize("name", DATA)
def test_what_data_formats_hold_comes_back(talk: Session, template: Path, tmp_path: Path, name: str) -> None:
    before = [
        (message.role, message.content, message.tool_text) for message in sessions.path(talk) if message.role != "event"
    ]
    text = written(name, talk)
    other(tmp_path, template)
    (tmp_path / "x.jsonl").write_text(text)
    report = transfer.run("auto", [tmp_path / "x.jsonl"])
    assert report.sources[0].format == name and not report.failed
    after = [(message.role, message.content) for message in sessions.path("@last") if message.role != "system"]
    said = {content for _, content, _ in before if content}
    assert (
        said <= {piece for _, content in after for piece in (content, *content.split("\n\n"), content)}
        or name == "anthropic-chat"
    )
    assert "".join(content for _, content in after).count("=1+1 x") == 40_000


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
BLOCKS = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS})
    | st.fixed_dictionaries({"type": st.just("thinking"), "thinking": TEXTS, "signature": TEXTS})
    | st.fixed_dictionaries({"type": st.just("tool_use"), "id": TEXTS, "name": TEXTS, "input": st.dictionaries(TEXTS, st.integers() | TEXTS, max_size=2)})
    | st.fixed_dictionaries({"type": st.just("tool_result"), "tool_use_id": TEXTS, "content": TEXTS}),
    min_size=1, max_size=4,
)  # fmt: skip
SAID = st.lists(
    st.tuples(st.sampled_from(["user", "assistant", "tool", "system", "event"]), TEXTS | BLOCKS), min_size=1, max_size=6
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(SAID, min_size=1, max_size=3), st.randoms(use_true_random=False))
def test_any_archive_in_our_format_gives_back_the_same(
    template: Path, tmp_path: Path, talks: list[Any], rng: Any
) -> None:
    other(tmp_path, template, "first")
    made: list[Session] = []
    for said in talks:
        row = (
            sessions.fork(rng.choice(made))
            if made and rng.random() < 0.5
            else sessions.create(rng.choice([None, "t"]), model="echo/echo")
        )
        for role, content in said:
            sessions.append(row, role, content)
            if rng.random() < 0.3:
                snapshots.create(row)
        if rng.random() < 0.3:
            Session.update(system_prompt=rng.choice([None, "s"]), max_tokens=5).where(Session.id == row.id).execute()
        if rng.random() < 0.3 and snapshots.count():
            snapshots.restore("@last", in_place=rng.random() < 0.5)
        made.append(row)
    if rng.random() < 0.3:
        sessions.delete(rng.choice(made))
    first = written("llmsess")
    kept = [(m.uuid, m.content, m.position, sessions.blocks(m)) for m in Message.select().order_by(Message.id)]
    marks = shown_by_snapshots()
    other(tmp_path, template, "second")
    report = restore(tmp_path, first)
    assert not report.failed
    assert [(m.uuid, m.content, m.position, sessions.blocks(m)) for m in Message.select().order_by(Message.id)] == kept
    assert shown_by_snapshots() == marks
    assert written("llmsess") == first
    assert restore(tmp_path, first).totals()["imported"] == 0
    assert written("llmsess") == first
    db.database.close()


def shown_by_snapshots() -> dict[str, Any]:
    """Return what each snapshot shows, by its uuid."""
    return {
        row.uuid: (row.name, row.snapshot_type, [m.uuid for m in snapshots.path(row)], snapshots.settings(row))
        for row in SessionSnapshot.select()
    }


def test_snapshots_come_back_and_keep_what_they_need(talk: Session, template: Path, tmp_path: Path) -> None:
    fork = sessions.fork(talk, title="Fork")
    snapshots.create(fork, name="of another's message")
    sessions.set_head(fork, None)
    sessions.append(fork, "user", "own")
    chat.ask(fork, "hello", model="echo/echo", context="last:0")
    snapshots.create(fork, name="windowed", type="checkpoint")
    Session.update(system_prompt="later").where(Session.id == fork.id).execute()
    alone, marks = written("llmsess", fork), shown_by_snapshots()
    assert [row["name"] for row in map(json.loads, alone.splitlines()) if row["type"] == "snapshot"] == [
        "of another's message", "windowed",
    ]  # fmt: skip
    other(tmp_path, template)
    assert restore(tmp_path, alone).totals()["bad"] == 0
    assert shown_by_snapshots() == marks
    assert snapshots.get("windowed").context_window == [sessions.path("Fork")[1].uuid]
    assert written("llmsess", "Fork") == alone
    assert maintenance.check().findings == []


def test_a_snapshot_whose_name_is_taken_comes_under_another(talk: Session, tmp_path: Path) -> None:
    made = snapshots.create(talk, name="mine")
    text = written("llmsess")
    snapshots.delete([made])
    ours = snapshots.create(talk, name="mine")
    assert restore(tmp_path, text).totals()["imported"] == 1
    assert {row["name"] for row in snapshots.find()} == {"mine", f"mine ({made.uuid[:8]})"}
    assert snapshots.get("mine").uuid == ours.uuid


def test_names_that_are_taken_or_cannot_be_typed_are_changed(talk: Session, tmp_path: Path) -> None:
    made = snapshots.create(talk, name="mine")
    text = written("llmsess")
    snapshots.delete([made])
    for taken in ("mine", f"mine ({made.uuid[:8]})"):
        snapshots.create(talk, name=taken)
    assert restore(tmp_path, text).totals()["bad"] == 0
    assert snapshots.get(made.uuid).name == f"mine ({made.uuid})"
    snapshots.delete([made.uuid])
    for odd, name in (
        ("@last", None),
        ("  sp  ace ", "sp ace"),
        ("'quoted'", "quoted"),
        ("e\u0301", "\u00e9"),
        ("x" * 500, None),
    ):
        assert restore(tmp_path, text.replace('"mine"', json.dumps(odd))).totals()["bad"] == 0
        assert snapshots.get(made.uuid).name == name
        snapshots.delete([made.uuid])


def test_odd_rows_of_snapshots_are_bad(talk: Session, tmp_path: Path) -> None:
    snapshots.create(talk, name="mine")
    rows = [json.loads(row) for row in written("llmsess").splitlines()]
    snapshots.delete(["mine"])
    good = rows[-1]
    odd: Any
    for odd in (
        {"uuid": "x"}, {"head": "0" * 32}, {"head": 5}, {"snapshot_type": "weekly"}, {"session": "0" * 32}, {"name": 5},
        {"settings": {"max_tokens": -1}}, {"settings": {"parameters": []}}, {"settings": {"model": {}}}, {"created_at": "x"},
    ):  # fmt: skip
        text = "".join(json.dumps(row) + "\n" for row in [*rows[:-1], good | odd])
        assert restore(tmp_path, text).totals()["bad"] == 1, odd
        assert snapshots.count() == 0
    for odd in ({"settings": []}, {"settings": {"temperature": "hot"}}, {"session": good["session"]}):
        text = "".join(json.dumps(row) + "\n" for row in [*rows[:-1], good | odd])
        assert restore(tmp_path, text).totals()["bad"] == 0, odd


def test_everything_of_a_session_comes_back(talk: Session, template: Path, tmp_path: Path) -> None:
    first = written("llmsess")
    before = {
        name: getattr(talk, name)
        for name in (
            "title",
            "metadata",
            "parameters",
            "system_prompt",
            "started_at",
            "last_activity_at",
            "total_messages",
            "total_input_tokens",
        )
    }
    rows = [json.loads(line) for line in first.splitlines()]
    assert [row["type"] for row in rows[:5]] == ["llmsess", "project", "model", "session", "blob"]
    assert rows[-1]["calls"][0]["outcome"] == "ok"
    other(tmp_path, template)
    restore(tmp_path, first)
    again = sessions.get("A talk")
    assert {name: getattr(again, name) for name in before} == before
    assert again.project and again.project.name == "paris"
    assert written("llmsess") == first
    assert db.database.execute_sql("SELECT outcome, count(*) FROM calls GROUP BY 1").fetchall() == [("ok", 1)]
    assert [hit.message_id for hit in search.find("cat")] == [sessions.path(again)[1].uuid]
    assert chat.ask(again, "go on").content == "go on"


def test_a_fork_alone_brings_along_what_it_stands_on(talk: Session, template: Path, tmp_path: Path) -> None:
    fork = sessions.fork(talk, at=sessions.path(talk)[1])
    sessions.append(fork, "user", "only here")
    alone, whole = written("llmsess", fork), written("llmsess")
    said = [message.uuid for message in sessions.path(fork)]
    other(tmp_path, template)
    restore(tmp_path, alone)
    assert [message.uuid for message in sessions.path(fork.uuid)] == said
    assert [row["title"] for row in sessions.find().rows] == [fork.title], "the other session is not shown"
    restore(tmp_path, whole)
    assert len(sessions.find().rows) == 2 and len(sessions.path("A talk")) == 6
    assert restore(tmp_path, alone).totals()["imported"] == 0


def test_two_machines_become_one_archive(talk: Session, template: Path, tmp_path: Path) -> None:
    first = written("llmsess")
    other(tmp_path, template, "laptop")
    restore(tmp_path, first)
    sessions.append(sessions.get("A talk"), "user", "on the laptop")
    sessions.create("Only on the laptop")
    laptop = written("llmsess")
    db.connect(tmp_path / "test.db") if (tmp_path / "test.db").exists() else other(tmp_path, template, "desk")
    if not Session.select().count():
        restore(tmp_path, first)
    sessions.append(sessions.get("A talk"), "user", "at the desk")
    restore(tmp_path, laptop)
    said = {message.content for message in sessions.nodes("A talk")}
    assert {"on the laptop", "at the desk"} <= said
    assert sessions.get("Only on the laptop")
    restore(tmp_path, laptop)
    assert len(sessions.nodes("A talk")) == 8


def test_what_was_deleted_here_stays_so_unless_asked(database: db.Database, template: Path, tmp_path: Path) -> None:
    transfer.run("auto", [specimens.write("sharegpt", tmp_path / "s.jsonl")])
    text = written("llmsess")
    sessions.delete("@last")
    assert restore(tmp_path, text).totals()["ignored"] > 1
    assert sessions.find().rows == []
    restore(tmp_path, text, undelete=True)
    assert len(sessions.path("@last")) == 4


def test_imported_there_and_here_is_the_same_session(database: db.Database, template: Path, tmp_path: Path) -> None:
    file = specimens.write("claude-code", tmp_path / f"{specimens.SESSION}.jsonl")
    transfer.run("auto", [file])
    text = written("llmsess")
    other(tmp_path, template)
    transfer.run("auto", [file])
    counted = Message.select().count()
    report = restore(tmp_path, text)
    assert Message.select().count() == counted and report.totals()["bad"] == 0
    assert transfer.run("auto", [file]).totals()["imported"] == 0


def test_a_large_attachment_comes_in_pieces(
    database: db.Database, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import base64

    from llmsess import dumping

    monkeypatch.setattr(dumping, "PIECE_BYTES", 100)
    data = bytes(range(256)) * 2
    row = sessions.create("Large")
    sessions.append(
        row,
        "user",
        [{"type": "file", "source": {"type": "base64", "media_type": "x/y", "data": base64.b64encode(data).decode()}}],
    )
    text = written("llmsess")
    assert text.count('"more": true') == 5
    other(tmp_path, template)
    restore(tmp_path, text)
    assert db.database.execute_sql("SELECT data FROM blobs").fetchone() == (data,)
    assert written("llmsess") == text
    changed = text.replace('"sha256": "', '"sha256": "0')
    assert restore(tmp_path, changed).failed


def test_hostile_rows_make_no_circles(database: db.Database, tmp_path: Path) -> None:
    one, two, session = "1" * 32, "2" * 32, "3" * 32
    message = {
        "type": "message",
        "session": session,
        "sequence_number": 1,
        "position": 7,
        "role": "user",
        "origin": "human",
        "content": "x",
    }
    rows = [{"type": "llmsess", "version": 1}, {"type": "session", "uuid": session, "head": one, "last_activity_at": "2026-01-31T00:00:00Z"},
            message | {"uuid": one, "parent": two}, message | {"uuid": two, "parent": one}, message | {"uuid": "4" * 32, "parent": "4" * 32},
            message | {"uuid": "5" * 32, "parts": [["content", 0, 99], 7]}, message | {"uuid": "6" * 32, "role": "king"}]  # fmt: skip
    report = restore(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))
    assert report.totals()["bad"] == 2
    assert len(sessions.nodes(session)) == 3
    assert restore(tmp_path, json.dumps({"type": "llmsess", "version": 99})).failed


# Redaction


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("openai key", "sk-proj-" + "a1B2" * 10), ("anthropic key", "sk-ant-api03-" + "a1B2" * 10), ("aws key id", "AKIA" + "ABCDEFGH23456765"),
        ("github token", "ghp_" + "a" * 36), ("json web token", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.abcdefgh12"), ("private key", "-----BEGIN RSA PRIVATE KEY-----\nAAA\n-----END RSA PRIVATE KEY-----"),
        ("password in an address", "postgres://me:hunter22@db/x"), ("assigned secret", 'MY_API_KEY = "abcdefghij12"'), ("assigned secret", "password: correcthorse"), ("bearer token", "Authorization: Bearer abcdef0123456789abcdef"),
    ],
)  # fmt: skip
def test_secrets_are_masked_and_counted(kind: str, text: str) -> None:
    redactor = redaction.Redactor()
    masked = redactor.text(f"before {text} after")
    assert masked.startswith("before ") and masked.endswith(" after") and f"[redacted: {kind}]" in masked
    assert dict(redactor.found) == {kind: 1}
    assert redactor.text(masked) == masked


def test_ordinary_texts_are_left_alone() -> None:
    redactor = redaction.Redactor()
    for text in (
        "The token count is 12.",
        "see https://example.org:8080/a@b",
        "skills and tasks",
        "max_tokens: 4096",
        "a secret: no",
        "key = value",
    ):
        assert redactor.text(text) == text
    assert list(redactor.found) == []


def test_every_pattern_is_documented_and_linear() -> None:
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text().replace("\n", " ")
    assert [kind for kind in redaction.PATTERNS if kind not in page] == []
    for unit in ("a", "sk-", "x:", "http://", "api_key=", "eyJ", "-----BEGIN PRIVATE KEY-----", "A_", " ", "://:"):
        redaction.Redactor().text(unit * (200_000 // len(unit)))  # what is quadratic in it would never end


@pytest.mark.parametrize("name", exporters.names())
def test_no_secret_is_left_in_any_format(database: db.Database, name: str) -> None:
    key = "sk-proj-" + "a1B2" * 10
    row = sessions.create(f"title {key}", system_prompt=f"use {key}", metadata={"note": key}, tags=[key.lower()])
    sessions.append(row, "user", f"my key is {key}")
    sessions.append(
        row,
        "assistant",
        [
            {"type": "thinking", "thinking": key},
            {"type": "text", "text": key},
            {"type": "tool_use", "id": "t", "name": key, "input": {"k": key}},
        ],
    )
    sessions.append(
        row, "tool", [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": key}]}]
    )
    assert key not in written(name, redact=True) and key in written(name)
    assert key.lower() not in written(name, redact=True)


# The command


def test_the_command_writes_files_that_are_whole_or_not_there(process: Command, tmp_path: Path) -> None:
    process("create", "Talk")
    process("add", "@last", "hello")
    target = tmp_path / "out.md"
    made = process("export", "markdown", "-o", str(target))
    assert made.status == 0 and "1 session, 1 message" in made.err and made.out == ""
    assert target.stat().st_mode & 0o777 == 0o600
    refused = process("export", "markdown", "-o", str(target))
    assert refused.status == 2 and "--yes" in refused.err
    assert process("export", "markdown", "@last", "-o", str(target), "--yes", "--json").status == 0
    assert process("export", "llmsess", "-o", str(tmp_path / "a.jsonl.gz")).status == 0
    assert process("--db", str(tmp_path / "b.db"), "import", "auto", str(tmp_path / "a.jsonl.gz")).status == 0
    assert process("export", "csv", "@last").out.startswith("session_id,title")
    assert process("export", "csv", "-o", str(tmp_path / "no" / "where.csv")).status == 1
    assert sorted(path.name for path in tmp_path.glob(".out*")) == []
    assert "reasoning" in process("export", "--formats").out


def test_masking_is_said_to_be_best_effort(process: Command) -> None:
    process("create", "Talk")
    process("add", "@last", "password: correcthorse")
    ran = process("export", "markdown", "@last", "--redact")
    assert "[redacted: assigned secret]" in ran.out and "as far as patterns can tell: assigned secret: 1" in ran.err


@pytest.mark.parametrize("name", ["html", "llmsess"])
def test_a_large_export_needs_little_memory(database: db.Database, tmp_path: Path, name: str) -> None:
    with database.atomic():
        for number in range(40):
            row = sessions.create(f"Talk {number}")
            sessions.extend(row, [{"role": "user", "content": f"{number} " + "word " * 10_000} for _ in range(20)])
    path = database.database
    database.close()
    script = (
        "import resource, sys; from llmsess import db, exporting; db.connect(sys.argv[1])\n"
        "exporting.run(sys.argv[2], open(sys.argv[3] + '.small', 'w'), ['Talk 1'])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "exporting.run(sys.argv[2], open(sys.argv[3], 'w'))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), name, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / "out").stat().st_size > 35_000_000
    assert int(done.stdout) < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


def test_an_export_is_one_state_while_others_write(talk: Session, tmp_path: Path) -> None:
    path = db.database.database

    class Writing(io.StringIO):
        """In the middle of an export another process adds a message."""

        began = False

        def write(self, text: str) -> int:
            if not self.began and '"type": "message"' in text:
                self.began = True
                subprocess.run(
                    [sys.executable, "-m", "llmsess", "--db", str(path), "add", "A talk", "meanwhile"],
                    check=True,
                    capture_output=True,
                )
            return super().write(text)

    out = Writing()
    exporting.run("llmsess", out)
    assert out.began and "meanwhile" not in out.getvalue()
    assert "meanwhile" in written("llmsess")


def test_a_fork_whose_parent_wrote_nothing_comes_back_and_meets_its_parent(
    database: db.Database, template: Path, tmp_path: Path
) -> None:
    from tests.test_formats import rollout, write

    child = write(tmp_path / "child.jsonl", *rollout("child", "root", "one", "two"))
    root = write(tmp_path / "root.jsonl", *rollout("root", None, "one", "own"))
    transfer.run("auto", [child])
    transfer.run("auto", [root])
    alone = written("llmsess", Session.get(Session.external_id == "child"))
    whole = written("llmsess")
    other(tmp_path, template)
    restore(tmp_path, alone)
    assert written("llmsess", Session.get(Session.external_id == "child")) == alone
    assert [row["title"] for row in sessions.find().rows] == ["one"]
    transfer.run("auto", [root, child])
    assert Message.select().count() == 6 and len(sessions.find().rows) == 2
    assert restore(tmp_path, whole).totals()["bad"] == 0
    assert Message.select().count() == 6


def test_a_file_that_was_cut_before_its_parents_is_mended_by_the_whole(
    database: db.Database, template: Path, tmp_path: Path
) -> None:
    parent, child = sessions.create("Parent"), None
    sessions.append(parent, "user", "one")
    child = sessions.fork(parent)
    sessions.append(child, "user", "two")
    rows = [json.loads(row) for row in written("llmsess").splitlines()]
    of_child = [row for row in rows if child.uuid in (row.get("uuid"), row.get("session"))]
    rest = [row for row in rows if row not in of_child]
    lines = [json.dumps(row) + "\n" for row in [rest[0], *of_child, *rest[1:]]]
    other(tmp_path, template)
    cut = restore(tmp_path, "".join(lines[:3]))
    assert cut.failed and "it stays a root" in cut.sources[0].problems[0][1]
    restore(tmp_path, "".join(lines))
    assert [message.content for message in sessions.path(child.uuid)] == ["one", "two"]


def test_parts_first_or_all_at_once_are_the_same_bytes(talk: Session, template: Path, tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        sessions.append(sessions.create(name, model="x/y"), "user", name)
    whole, part = written("llmsess"), written("llmsess", "c")
    other(tmp_path, template)
    restore(tmp_path, part)
    restore(tmp_path, whole)
    assert written("llmsess") == whole


def test_sessions_with_words_that_are_none_are_bad(database: db.Database, tmp_path: Path) -> None:
    row = {"type": "session", "uuid": "1" * 32, "last_activity_at": "2026-01-31T00:00:00Z"}
    for odd in ({"session_type": "x"}, {"status": ""}, {"relation": "zz"}):
        assert restore(tmp_path, json.dumps(row | odd) + "\n").totals()["bad"] == 1


def test_secrets_behind_an_escaped_line_end_are_masked() -> None:
    redactor = redaction.Redactor()
    assert "ghp_" not in redactor.text('{"t": "a\\nghp_' + "a1" * 20 + '"}')
    assert "AKIA" not in redactor.text('{"t": "a\\tAKIAABCDEFGH23456765"}')


def test_a_pipe_and_a_device_are_written_to_as_they_are(process: Command, tmp_path: Path) -> None:
    import os
    import threading

    process("create", "Talk")
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    assert process("export", "markdown", "-o", str(tmp_path / "pipe")).status == 0
    reader.join(10)
    assert read[0].startswith("# Talk") and (tmp_path / "pipe").is_fifo()
    assert process("export", "csv", "-o", "/dev/null").status == 0
    (tmp_path / "link.md").symlink_to(tmp_path / "target.md")
    assert process("export", "markdown", "-o", str(tmp_path / "link.md")).status == 0
    assert (tmp_path / "link.md").is_symlink() and (tmp_path / "target.md").read_text().startswith("# Talk")
    failed = process("export", "csv", "-o", str(tmp_path / "no" / "x.csv"))
    assert failed.status == 1 and "cannot be written: No such file" in failed.err


def test_masked_messages_go_on_fitting_their_parts(database: db.Database, template: Path, tmp_path: Path) -> None:
    key = "ghp_" + "a1" * 18
    row = sessions.create("Keys")
    blocks = [
        {"type": "text", "text": f"first {key}"},
        {"type": "text", "text": "second text"},
        {
            "type": "tool_use",
            "id": "t",
            "name": "f",
            "input": {"a": key, "token": 123456789, "password": "correcthorse", "z": [1]},
        },
    ]
    sessions.append(row, "assistant", blocks)
    sessions.append(
        row,
        "tool",
        [
            {"type": "tool_result", "tool_use_id": "t", "content": f'{{"x": "\\u001b[31m{key}\\u001b[0m"}}'},
            {"type": "odd", "said": key},
        ],
    )
    text = written("llmsess", redact=True)
    assert key not in text and "correcthorse" not in text
    other(tmp_path, template)
    assert not restore(tmp_path, text).failed
    first, second = sessions.path("Keys")
    told = sessions.blocks(first)
    assert told is not None and [block.get("text") for block in told[:2]] == [
        "first [redacted: github token]",
        "second text",
    ]
    assert told[2]["input"] == {
        "a": "[redacted: github token]",
        "token": 123456789,
        "password": "[redacted: assigned secret]",
        "z": [1],
    }
    assert sessions.blocks(second) == [
        {
            "type": "tool_result",
            "tool_use_id": "t",
            "content": '{"x": "\\u001b[31m[redacted: github token]\\u001b[0m"}',
        },
        {"type": "odd", "said": "[redacted: github token]"},
    ]


def test_a_later_version_travels_between_machines(database: db.Database, template: Path, tmp_path: Path) -> None:
    from tests.specimens import node, text

    def version(time: float, title: str, answer: str) -> dict[str, Any]:
        return {
            "id": "v",
            "title": title,
            "update_time": time,
            "mapping": {
                "q": node("q", None, "user", text("q"), ["a"]),
                "a": node("a", "q", "assistant", text(answer), []),
            },
        }

    (tmp_path / "new.json").write_text(json.dumps([version(200.0, "New", "new")]))
    (tmp_path / "old.json").write_text(json.dumps([version(100.0, "Old", "an old text")]))
    transfer.run("auto", [tmp_path / "new.json"])
    newer = written("llmsess")
    other(tmp_path, template)
    transfer.run("auto", [tmp_path / "old.json"])
    older = written("llmsess")
    assert restore(tmp_path, newer).totals()["merged"] == 2
    assert [message.content for message in sessions.path("New")] == ["q", "new"]
    assert restore(tmp_path, older).totals()["merged"] == 0
    assert [message.content for message in sessions.path("New")] == ["q", "new"]


def test_a_name_that_cannot_be_a_file_is_one_line(process: Command, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in (str(tmp_path / "loop"), "x" * 300):
        ran = process("export", "csv", "--yes", "-o", name)
        assert ran.status == 1 and "cannot be written" in ran.err and ran.err.count("\n") == 1
    assert process("export", "csv", "-o", "-").out.startswith("session_id")
