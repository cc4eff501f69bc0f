"""Import: what becomes of records, twice, grown, in any order, cut short; trees, late parents, circles; bad input."""

from __future__ import annotations

import gzip
import json
import os
import random
import zlib
from pathlib import Path
from typing import Any

import pytest

from llmsess import catalog, db, errors, maintenance, sessions, transfer
from llmsess.importers import claude_code
from llmsess.importers.base import chunks
from llmsess.models import ImportRecord, Message, Session
from tests.specimens import SESSION, chat, line, talk

OTHER = "0a1b2c3d-0000-4000-8000-000000000002"


def write(path: Path, *lines: Any) -> Path:
    path.write_text("".join((item if isinstance(item, str) else json.dumps(item)) + "\n" for item in lines))
    return path


def said(reference: str = SESSION) -> list[tuple[str, str]]:
    session = Session.get(Session.external_id == reference)
    return [(message.role, message.content) for message in sessions.path(session)]


def whole() -> None:
    assert maintenance.check().findings == []


def counts(report: transfer.ImportReport) -> dict[str, int]:
    return {name: n for name, n in report.totals().items() if n and name in transfer.DISPOSITIONS}


def everything() -> list[Any]:
    run = db.database.execute_sql
    return [
        run(
            "SELECT uuid, parent_id, position, content, output_tokens, external_id FROM messages ORDER BY id"
        ).fetchall(),
        run(
            "SELECT uuid, title, head_id, total_messages, total_input_tokens, last_activity_at FROM sessions ORDER BY id"
        ).fetchall(),
        run("SELECT line, disposition, message_id FROM import_records ORDER BY id").fetchall(),
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / f"{SESSION}.jsonl", *talk())


def test_a_transcript_becomes_a_session(database: db.Database, file: Path) -> None:
    report = transfer.run("auto", [file])
    assert counts(report) == {"imported": 4, "merged": 2}
    assert said() == [("user", "Fix the bug"), ("assistant", "Looking."), ("tool", ""), ("assistant", "Done.")]
    row = sessions.find().rows[0]
    assert (row["title"], row["project"], row["model"], row["type"]) == (
        "Fix the bug",
        "/work/app",
        "anthropic/claude-x",
        "imported",
    )
    assert (row["input_tokens"], row["cached_input_tokens"], row["cache_write_tokens"], row["output_tokens"]) == (
        226,
        200,
        20,
        55,
    )
    reply = sessions.path("@last")[1]
    assert (reply.reasoning, reply.output_tokens, reply.tool_text) == ("Hm.", 50, 'Read {"p":"/a"}')
    assert [block["type"] for block in sessions.blocks(reply) or []] == ["thinking", "text", "tool_use"]
    assert reply.model is not None and reply.model.reference == "anthropic/claude-x"
    whole()


def test_the_same_file_twice_changes_nothing(database: db.Database, file: Path, tmp_path: Path) -> None:
    transfer.run("auto", [file])
    before = everything()
    assert counts(transfer.run("auto", [file])) == {"duplicate": 6}
    assert everything() == before
    (tmp_path / "x").mkdir()
    named = file.rename(tmp_path / "x" / file.name)
    assert counts(transfer.run("auto", [named])) == {"duplicate": 6}
    assert everything()[:2] == before[:2]


def test_a_grown_file_adds_what_is_new(database: db.Database, file: Path) -> None:
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:3]) + "\n")
    transfer.run("auto", [file])
    assert said() == [("user", "Fix the bug"), ("assistant", "Looking.")]
    file.write_text("\n".join(lines) + "\n")
    report = transfer.run("auto", [file])
    assert counts(report) == {"imported": 2, "merged": 3, "duplicate": 1}
    assert said()[-1] == ("assistant", "Done.")
    assert sessions.path("@last")[1].output_tokens == 50
    assert Message.select().count() == 4
    whole()


def test_a_torn_last_line_that_is_whole_later_is_bad_no_more(database: db.Database, file: Path) -> None:
    text = file.read_text()
    file.write_text(text[:-40])
    assert counts(transfer.run("auto", [file]))["bad"] == 1
    assert ImportRecord.select().where(ImportRecord.disposition == "bad").count() == 1
    file.write_text(text)
    assert counts(transfer.run("auto", [file])) == {"imported": 1, "duplicate": 5}
    rows = database.execute_sql("SELECT line, disposition FROM import_records ORDER BY line").fetchall()
    assert rows == [(1, "imported"), (2, "imported"), (3, "merged"), (4, "merged"), (5, "imported"), (6, "imported")]


def test_conversations_without_times_are_as_old_as_their_file(database: db.Database, tmp_path: Path) -> None:
    sessions.create("mine")
    old = write(tmp_path / "x.jsonl", chat("a", "b"))
    os.utime(old, (1_700_000_000, 1_700_000_000))
    transfer.run("auto", [old])
    assert sessions.get("@last").title == "mine"
    row = sessions.find().rows[1]
    assert (row["started_at"], row["last_activity_at"]) == (None, "2023-11-14T22:13:20.000000Z")


def test_a_resumed_file_shares_what_it_repeats_in_either_order(template: Path, tmp_path: Path) -> None:
    first = write(tmp_path / f"{SESSION}.jsonl", *talk())
    again = [item | {"sessionId": OTHER} if item["type"] == "assistant" else item for item in talk()]
    more = [line("u9", "a4", "user", "Thanks", OTHER), line("a9", "u9", "assistant", "Welcome.", OTHER, id="msg_9")]
    second = write(tmp_path / f"{OTHER}.jsonl", *again, *more)
    for order in ((first, second), (second, first)):
        path = tmp_path / "order.db"
        path.write_bytes(template.read_bytes())
        db.connect(path)
        transfer.run("auto", order)
        assert Message.select().count() == 6, "nothing is stored twice"
        assert len(said(SESSION)) == 4
        assert len(said(OTHER)) == 6
        assert said(OTHER)[:4] == said(SESSION)
        child, parent = Session.get(Session.external_id == OTHER), Session.get(Session.external_id == SESSION)
        assert (child.relation, child.parent_session_id) == ("resume", parent.id)
        whole()
        db.database.close()
        for leftover in tmp_path.glob("order.db*"):
            leftover.unlink()


def test_a_sub_agent_is_a_child_session_whichever_comes_first(database: db.Database, tmp_path: Path) -> None:
    agent = [
        line("s1", None, "user", "Search the code", isSidechain=True, agentId="77"),
        line("s2", "s1", "assistant", "Found.", isSidechain=True, agentId="77", id="msg_s"),
    ]
    transfer.run("auto", [write(tmp_path / "agent-77.jsonl", *agent)])
    transfer.run("auto", [write(tmp_path / f"{SESSION}.jsonl", *talk())])
    child = Session.get(Session.external_id == f"{SESSION}/agent-77")
    assert (child.relation, child.parent_session.external_id) == ("subagent", SESSION)
    assert [message.origin for message in sessions.path(child)] == ["model", "model"]


def test_old_sidechains_in_the_same_file_are_sessions_of_their_own(database: db.Database, tmp_path: Path) -> None:
    lines = [
        *talk(),
        line("s1", None, "user", "First task", isSidechain=True),
        line("s2", "s1", "assistant", "One.", isSidechain=True),
        line("s3", None, "user", "Second task", isSidechain=True),
    ]
    report = transfer.run("auto", [write(tmp_path / f"{SESSION}.jsonl", *lines)])
    assert report.sources[0].sessions == 3
    assert len(said()) == 4


def test_branches_stay_branches_and_ignored_lines_do_not_cut_the_tree(database: db.Database, tmp_path: Path) -> None:
    lines = [
        line("u1", None, "user", "one"),
        {"type": "progress", "uuid": "p1", "parentUuid": "u1", "sessionId": SESSION},
        line("a1", "p1", "assistant", "two", id="m1"),
        line("u2", "a1", "user", "three"),
        line("u3", "a1", "user", "instead of three"),
        {
            "type": "system",
            "subtype": "compact_boundary",
            "uuid": "c1",
            "parentUuid": None,
            "logicalParentUuid": "u3",
            "sessionId": SESSION,
        },
        line("u4", "c1", "user", "summary", isCompactSummary=True),
    ]
    transfer.run("auto", [write(tmp_path / f"{SESSION}.jsonl", *lines)])
    assert [content for _, content in said()] == ["one", "two", "instead of three", "summary"]
    assert len(sessions.nodes("@last")) == 5
    assert sessions.path("@last")[-1].origin == "harness"


def test_parallel_tool_calls_of_one_reply_are_one_message(database: db.Database, tmp_path: Path) -> None:
    def use(n: int) -> list[Any]:
        return [{"type": "tool_use", "id": f"t{n}", "name": "Read", "input": {"n": n}}]

    def result(n: int) -> list[Any]:
        return [{"type": "tool_result", "tool_use_id": f"t{n}", "content": f"r{n}"}]

    lines = [
        line("u1", None, "user", "go"), line("a1", "u1", "assistant", use(1), id="m"), line("r1", "a1", "user", result(1)),
        line("a2", "a1", "assistant", use(2), id="m"), line("r2", "a2", "user", result(2)),
    ]  # fmt: skip
    transfer.run("auto", [write(tmp_path / f"{SESSION}.jsonl", *lines)])
    assert [message.role for message in sessions.nodes("@last")] == ["user", "assistant", "tool", "tool"]
    assert len(sessions.blocks(sessions.nodes("@last")[1]) or []) == 2


def test_who_wrote_a_user_line(database: db.Database, tmp_path: Path) -> None:
    lines = [
        line("1", None, "user", "a real prompt"),
        line("2", "1", "user", "<command-name>/clear</command-name>"),
        line("3", "2", "user", "Caveat: The messages below were generated by the user"),
        line("4", "3", "user", "meta", isMeta=True),
        line(
            "5",
            "4",
            "user",
            [
                {"type": "text", "text": "<system-reminder>x</system-reminder>"},
                {"type": "text", "text": "and a prompt"},
            ],
        ),
    ]
    transfer.run("auto", [write(tmp_path / f"{SESSION}.jsonl", *lines)])
    assert [message.origin for message in sessions.path("@last")] == ["human", "harness", "harness", "harness", "human"]
    assert sessions.get("@last").title == "a real prompt"
    again = [lines[4] | {"uuid": "6", "parentUuid": None, "sessionId": OTHER}]
    transfer.run("auto", [write(tmp_path / f"{OTHER}.jsonl", *again)])
    assert Session.get(Session.external_id == OTHER).title == "and a prompt"


def test_titles_told_before_or_after_or_in_another_file(database: db.Database, tmp_path: Path) -> None:
    summary = {"type": "summary", "summary": "A bug, fixed", "leafUuid": "a4"}
    transfer.run("auto", [write(tmp_path / "first.jsonl", summary)])
    file = write(tmp_path / f"{SESSION}.jsonl", *talk())
    transfer.run("auto", [file])
    assert sessions.get("@last").title == "A bug, fixed"
    sessions.rename("@last", "Mine")
    transfer.run("auto", [tmp_path / "first.jsonl", file])
    assert sessions.get("@last").title == "Mine", "a person's title survives the next import"


def test_bad_lines_are_reported_with_their_place_and_drop_nothing_else(database: db.Database, tmp_path: Path) -> None:
    good = talk()
    file = tmp_path / f"{SESSION}.jsonl"
    file.write_bytes(
        b"\xef\xbb\xbf" + json.dumps(good[0]).encode() + b"\n{torn\n42\n\n" + b'{"type": "new-kind", "x": 1}\n'
        + b'{"type":"user","message":{"content":"\xff\xfe"}}\n' + "\n".join(map(json.dumps, good[1:])).encode()
        + b'\n{"type": "user", "mess'
    )  # fmt: skip
    report = transfer.run("auto", [file])
    assert counts(report) == {"imported": 4, "merged": 2, "ignored": 1, "bad": 4}
    assert [place for place, _ in report.sources[0].problems] == [2, 3, 6, 12]
    assert report.failed
    assert len(said()) == 4
    assert ImportRecord.select().count() == 11


def test_late_dangling_and_circular_parents(database: db.Database, tmp_path: Path) -> None:
    lines = [
        line("child", "parent", "user", "child first"),
        line("parent", None, "user", "then its parent"),
        line("lost", "never", "user", "dangling"),
        line("x", "y", "user", "circle one"),
        line("y", "x", "user", "circle two"),
        line("self", "self", "user", "its own parent"),
    ]
    report = transfer.run("auto", [write(tmp_path / f"{SESSION}.jsonl", *lines)])
    nodes = {message.external_id: message for message in sessions.nodes("@last")}
    assert nodes["child"].parent_id == nodes["parent"].id
    assert (nodes["parent"].position, nodes["child"].position) == (1, 2)
    assert (nodes["lost"].parent_id, nodes["lost"].parent_external_id) == (None, "never")
    assert nodes["y"].parent_id == nodes["x"].id and nodes["x"].parent_id is None
    assert [line for line, _ in report.sources[0].problems] == [4, 6]
    assert all("its own ancestor" in problem for _, problem in report.sources[0].problems)
    whole()
    before = everything()
    transfer.run("auto", [tmp_path / f"{SESSION}.jsonl"])
    assert everything() == before


def test_a_late_parent_in_a_grown_file_moves_the_whole_subtree(database: db.Database, tmp_path: Path) -> None:
    lines = [line("b", "a", "user", "b"), line("c", "b", "user", "c"), line("d", "c", "user", "d")]
    file = write(tmp_path / f"{SESSION}.jsonl", *lines)
    transfer.run("auto", [file])
    write(file, *lines, line("a", None, "user", "a"))
    transfer.run("auto", [file])
    assert [m.position for m in sorted(sessions.nodes("@last"), key=lambda m: m.content)] == [1, 2, 3, 4]
    whole()


def test_any_order_of_lines_gives_the_same_tree(template: Path, tmp_path: Path) -> None:
    lines = [*talk(), line("u3", "a4", "user", "more"), line("u4", "u1", "user", "a branch")]
    lines = [item | {"timestamp": f"2026-01-31T13:00:{i:02}.000Z"} for i, item in enumerate(lines)]
    seen = set()
    for seed in range(6):
        path = tmp_path / f"{seed}.db"
        path.write_bytes(template.read_bytes())
        db.connect(path)
        shuffled = lines.copy()
        random.Random(seed).shuffle(shuffled)
        folder = tmp_path / str(seed)
        folder.mkdir()
        transfer.run("auto", [write(folder / f"{SESSION}.jsonl", *shuffled)])
        rows = db.database.execute_sql(
            "SELECT m.external_id, p.external_id, m.position FROM messages m LEFT JOIN messages p ON p.id = m.parent_id"
        ).fetchall()
        head = Session.get(Session.external_id == SESSION).head.external_id
        seen.add((head, tuple(sorted((row[0], row[1] or "", row[2]) for row in rows))))
        whole()
        db.database.close()
    assert [head for head, _ in seen] == ["u4"]


def test_a_file_in_any_order_is_one_path(database: db.Database, tmp_path: Path) -> None:
    lines = [
        line(f"m{i}", f"m{i - 1}" if i else None, "user", str(i)) | {"timestamp": f"2026-01-31T13:{i // 60:02}:{i % 60:02}Z"}
        for i in range(500)
    ]  # fmt: skip
    orders = {"backwards": lines[::-1], "shuffled": random.Random(3).sample(lines, len(lines))}
    for name, order in orders.items():
        session = OTHER if name == "shuffled" else SESSION
        renamed = [item | {"sessionId": session, "uuid": f"{name}{item['uuid']}"} for item in order]
        for item in renamed:
            item["parentUuid"] = item["parentUuid"] and f"{name}{item['parentUuid']}"
        transfer.run("auto", write(tmp_path / f"{session}.jsonl", *renamed))
        assert [content for _, content in said(session)] == [str(i) for i in range(500)], name
    whole()


def test_unrelated_sessions_may_use_the_same_ids(database: db.Database, tmp_path: Path) -> None:
    transfer.run("auto", [write(tmp_path / f"{SESSION}.jsonl", line("u1", None, "user", "one"))])
    transfer.run("auto", [write(tmp_path / f"{OTHER}.jsonl", line("u1", None, "user", "something else", OTHER))])
    assert said(SESSION) == [("user", "one")]
    assert said(OTHER) == [("user", "something else")]


def test_costs_of_old_versions_and_minimal_lines(database: db.Database, tmp_path: Path) -> None:
    usage = {"input_tokens": 1, "output_tokens": 2}
    minimal = {
        "timestamp": "2026-01-09T10:00:00.000Z",
        "sessionId": "s",
        "message": {"role": "assistant", "id": "m1", "model": "claude-x", "usage": usage},
        "costUSD": 0.12,
    }
    transfer.run("auto", [write(tmp_path / "chat.jsonl", minimal)])
    [reply] = sessions.path("@last")
    assert (reply.cost, reply.cost_source, reply.output_tokens) == (120_000_000, "provider", 2)


def test_imported_tokens_are_priced_by_the_model(database: db.Database, file: Path) -> None:
    catalog.add_model(
        "anthropic/claude-x",
        cost_per_1k_input_tokens=1000,
        cost_per_1k_output_tokens=5000,
        cost_per_1k_cached_tokens=100,
    )
    transfer.run("auto", [file])
    reply = sessions.path("@last")[1]
    assert reply.cost == (13 * 1000 + 100 * 100 + 50 * 5000 + 500) // 1000


def test_a_made_up_reply_is_no_models(database: db.Database, tmp_path: Path) -> None:
    lines = [
        line("u", None, "user", "x"),
        line("a", "u", "assistant", "API Error", id="m", model="<synthetic>", isApiErrorMessage=True),
    ]
    transfer.run("auto", [write(tmp_path / f"{SESSION}.jsonl", *lines)])
    reply = sessions.path("@last")[1]
    assert (reply.origin, reply.status, reply.model_id, reply.error) == ("harness", "failed", None, "API Error")
    assert sessions.get("@last").unpriced_messages == 0


def test_a_deleted_session_does_not_come_back(database: db.Database, file: Path) -> None:
    transfer.run("auto", [file])
    sessions.delete("@last")
    assert counts(transfer.run("auto", [file])) == {"ignored": 6}
    assert sessions.find().rows == []
    assert Message.select().count() == 0


def test_a_deleted_session_comes_back_when_asked(database: db.Database, file: Path) -> None:
    transfer.run("auto", file)
    sessions.delete("@last")
    report = transfer.run("auto", file)
    assert [problem for _, problem in report.sources[0].problems] == [
        f"session {SESSION} was deleted here; --undelete brings it back"
    ]
    assert counts(transfer.run("auto", file, undelete=True, dry_run=True)) == {"imported": 4, "merged": 2}
    assert counts(transfer.run("auto", file, undelete=True)) == {"imported": 4, "merged": 2}
    assert len(said()) == 4
    assert sessions.get("@last").title == "Fix the bug"
    whole()


def test_a_dry_run_says_what_the_run_does(database: db.Database, tmp_path: Path) -> None:
    full = [*talk(), line("u3", "a4", "user", "more"), {"type": "summary", "summary": "T", "leafUuid": "a4"}, "{torn"]
    other = tmp_path / "log.jsonl"
    file = tmp_path / f"{SESSION}.jsonl"
    for lines, log in ((3, 1), (7, 2), (9, 3), (9, 3)):
        write(file, *full[:lines])
        write(other, *[chat("a", "b"), chat("a", "b", "c"), chat("x"), chat("a", "b")][: log + 1])
        before = everything()
        dry = [counts(transfer.run("auto", path, dry_run=True)) for path in (file, other)]
        assert everything() == before
        assert dry == [counts(transfer.run("auto", path)) for path in (file, other)]


def test_what_a_person_added_to_an_imported_session_stays_at_its_head(database: db.Database, file: Path) -> None:
    transfer.run("auto", [file])
    sessions.append("@last", "user", "my own words")
    write(file, *talk(), line("u5", "a4", "user", "said in the tool"))
    transfer.run("auto", [file])
    assert said()[-1] == ("user", "my own words")
    assert len(sessions.nodes("@last")) == 6


def test_raw_records_are_kept_or_not(database: db.Database, file: Path) -> None:
    transfer.run("auto", [file])
    raw = ImportRecord.select().order_by(ImportRecord.line).first().raw_record
    assert json.loads(zlib.decompress(raw)) == talk()[0]
    ImportRecord.delete().execute()
    sessions.delete("@last")
    Session.delete().execute()
    transfer.run("auto", [file], keep_raw=False)
    assert ImportRecord.select().where(ImportRecord.raw_record.is_null(False)).count() == 0
    assert ImportRecord.select().count() == 6


def test_a_dry_run_counts_and_writes_nothing(database: db.Database, file: Path) -> None:
    report = transfer.run("auto", [file], dry_run=True)
    assert counts(report) == {"imported": 4, "merged": 2}
    assert (report.sources[0].sessions, report.sources[0].messages) == (1, 4)
    assert Message.select().count() == 0


def test_folders_zipped_files_and_wrong_paths(database: db.Database, file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "projects" / "app"
    folder.mkdir(parents=True)
    (folder / f"{SESSION}.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
    (folder / "notes.json").write_text('{"a": 1}')
    (folder / "empty.jsonl").write_text("")
    report = transfer.run("auto", [tmp_path / "projects"])
    assert [Path(source.path).name for source in report.sources] == [f"{SESSION}.jsonl.gz"]
    with pytest.raises(errors.NotFound):
        transfer.run("auto", [tmp_path / "absent"])
    with pytest.raises(errors.Unrecognised, match="no format"):
        transfer.run("auto", [folder / "notes.json"])
    assert [Path(path).name for path in report.skipped] == ["empty.jsonl", "notes.json"]
    with pytest.raises(errors.Unrecognised, match="is no openai-chat but claude-code"):
        transfer.run("openai-chat", file)
    with pytest.raises(errors.InvalidInput, match='did you mean "claude-code"'):
        transfer.run("claude-cod", [file])
    (tmp_path / "none").mkdir()
    with pytest.raises(errors.Unrecognised, match="no file"):
        transfer.run("auto", [tmp_path / "none"])


# OpenAI chat


def test_a_log_that_repeats_its_history_is_one_conversation(database: db.Database, tmp_path: Path) -> None:
    log = [
        chat("a", "b", model="gpt-x"),
        chat("a", "b", "c", "d"),
        chat("a", "b", "c", "d", "e", "f"),
        chat("other", "b"),
    ]
    file = write(tmp_path / "log.jsonl", *log)
    report = transfer.run("auto", [file])
    assert counts(report) == {"imported": 4}
    assert (report.sources[0].sessions, Message.select().count()) == (2, 8)
    assert sorted(len(sessions.path(row)) for row in Session.select()) == [2, 6]
    assert counts(transfer.run("auto", [file])) == {"duplicate": 4}
    whole()


def test_two_answers_to_one_prompt_are_branches(database: db.Database, tmp_path: Path) -> None:
    transfer.run("openai-chat", [write(tmp_path / "x.jsonl", chat("a", "b"), chat("a", "c"))])
    assert [message.content for message in sessions.nodes("@last")] == ["a", "b", "c"]
    assert [message.content for message in sessions.path("@last")] == ["a", "c"]


def test_system_prompts_tools_images_and_names_come_along(database: db.Database, tmp_path: Path) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "see", "arguments": '{"x":1}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
        {"role": "assistant", "content": "A cat.", "weight": 1},
    ]  # fmt: skip
    transfer.run("auto", [write(tmp_path / "x.jsonl", {"messages": messages, "tools": [{"type": "function"}]})])
    path = sessions.path("@last")
    assert [message.role for message in path] == ["system", "user", "assistant", "tool", "assistant"]
    assert sessions.blocks(path[1]) == messages[1]["content"]
    assert sessions.blocks(path[2]) == messages[2]["tool_calls"]
    assert path[3].tool_text == "a cat"
    assert path[4].metadata == {"weight": 1}
    assert database.execute_sql("SELECT media_type, size_bytes FROM blobs").fetchall() == [("image/png", 8)]
    assert sessions.get("@last").metadata == {"tools": [{"type": "function"}]}


@pytest.mark.parametrize(
    "text",
    ['[{"messages": [{"role": "user", "content": "a"}]}]', '{"messages":\n [{"role": "user", "content": "a"}]}', '{"body": {"model": "gpt-x", "messages": [{"role": "user", "content": "a"}]}, "custom_id": "1"}'],
)  # fmt: skip
def test_arrays_objects_and_batch_lines(database: db.Database, tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert counts(transfer.run("auto", [tmp_path / "x.json"])) == {"imported": 1}
    assert [message.content for message in sessions.path("@last")] == ["a"]


def test_bad_conversations_are_reported(database: db.Database, tmp_path: Path) -> None:
    lines = [
        chat("a", "b"),
        {"messages": "no"},
        {"messages": [{"role": "emperor", "content": "x"}]},
        {"messages": []},
        "{",
        "[1]",
    ]
    report = transfer.run("openai-chat", [write(tmp_path / "x.jsonl", *lines)])
    assert counts(report) == {"imported": 1, "ignored": 1, "bad": 4}


def test_lone_surrogates_and_nul_in_a_file(database: db.Database, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"messages": [{"role": "user", "content": "a\\u0000b\\ud800c"}]}\n')
    transfer.run("auto", [tmp_path / "x.jsonl"])
    assert sessions.path("@last")[0].content == "a\ufffdb\ufffdc"


def test_chunks_are_small_in_number_and_bytes() -> None:
    from llmsess.importers import base

    items = [base.Ignored(base.InputRecord(i, b"x" * 1000)) for i in range(12_000)]
    sizes = [len(chunk) for chunk in chunks(iter(items))]
    assert sum(sizes) == 12_000 and max(sizes) <= base.CHUNK_RECORDS
    large = [base.Ignored(base.InputRecord(i, b"x" * 5_000_000)) for i in range(8)]
    assert max(len(chunk) for chunk in chunks(iter(large))) <= 4


def test_what_is_forgotten_of_a_large_file_is_found_in_the_database(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, Any]] = []
    above = None
    for turn in range(40):
        lines.append(line(f"u{turn}", above, "user", f"question {turn}"))
        for part in range(3):
            above = f"a{turn}-{part}"
            block = {"type": "text", "text": f"answer {turn} {part}"}
            lines.append(
                line(above, f"u{turn}" if part == 0 else f"a{turn}-{part - 1}", "assistant", [block], id=f"msg_{turn}")
            )
    lines.append(line("late", "a1-1", "user", "back to the second answer"))
    file = write(tmp_path / f"{SESSION}.jsonl", *lines)
    trees = []
    for recent in (50_000, 2):
        monkeypatch.setattr(claude_code, "RECENT", recent)
        monkeypatch.setattr(claude_code, "OPEN_REPLIES", 1)
        path = tmp_path / f"{recent}.db"
        path.write_bytes(template.read_bytes())
        db.connect(path)
        transfer.run("auto", [file])
        trees.append(
            [
                (m.content, m.position, m.parent and m.parent.content)
                for m in Message.select().order_by(Message.sequence_number)
            ]
        )
        whole()
        assert counts(transfer.run("auto", [file])) == {"duplicate": len(lines)}
        db.database.close()
    assert trees[0] == trees[1]
    assert trees[0][-1] == ("back to the second answer", 5, "answer 1 0\n\nanswer 1 1\n\nanswer 1 2")
