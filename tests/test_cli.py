"""The command, as a person and as a program use it: formats, exit statuses, references, streams, errors."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from llmsess import db, sessions
from llmsess.cli import output, root
from llmsess.cli.options import moment
from tests.conftest import Command
from tests.server import ChatServer

SESSION_KEYS = [
    "id", "title", "type", "status", "project", "model", "tags", "messages", "input_tokens", "cached_input_tokens",
    "cache_write_tokens", "output_tokens", "cost_usd", "unpriced_messages", "source", "external_id", "parent", "started_at",
    "last_activity_at",
]  # fmt: skip
MESSAGE_KEYS = [
    "id", "sequence", "position", "parent", "role", "origin", "status", "content", "reasoning", "parts", "model",
    "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost_usd", "latency_ms",
    "ttft_ms", "finish_reason", "error", "external_id", "created_at",
]  # fmt: skip


def every_command() -> list[tuple[str, click.Command]]:
    from docs import generate

    return [(path, command) for path, command, _ in generate.every_command()]


@pytest.mark.parametrize(
    ("path", "command"), every_command(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_has_help_with_an_example_that_parses(path: str, command: click.Command) -> None:
    assert command.help
    if isinstance(command, click.Group) and command is not root:
        return
    examples = re.findall(r"^\s+(llmsess .*|.*\| llmsess .*|.*\$\(llmsess .*)$", command.help, re.MULTILINE)
    assert examples, f"{path} has no example"


def test_the_reference_of_commands_is_up_to_date() -> None:
    from docs.generate import PAGE, page

    assert PAGE.read_text() == page()


def test_the_documented_keys_are_those_that_are_printed(run: Command) -> None:
    page = (Path(__file__).parent.parent / "docs" / "json.md").read_text()
    assert ", ".join(SESSION_KEYS) in page
    assert ", ".join(MESSAGE_KEYS) in page
    run("chat", "x", "-m", "echo/echo")
    run("template", "add", "t", "--prompt", "hi")
    shown = ["stats summary", "model show echo/echo", "project create p", "template show t"]
    for args in map(str.split, shown):
        assert ", ".join(json.loads(run(*args, "--json").out)) in page, args


def test_chat_list_show_search_stats(run: Command) -> None:
    assert run("chat", "why is the sky blue?", "-m", "echo/echo").out == "why is the sky blue?\n"
    [session] = json.loads(run("session", "list", "--json").out)
    assert list(session) == SESSION_KEYS
    assert (session["messages"], session["cost_usd"], session["unpriced_messages"], session["tags"]) == (2, None, 1, [])
    shown = json.loads(run("session", "show", session["id"][:4], "--json").out)
    assert list(shown) == [*SESSION_KEYS, "system_prompt", "parameters"], "messages is a list here"
    assert list(shown["messages"][0]) == MESSAGE_KEYS
    assert shown["messages"][1]["parent"] == shown["messages"][0]["id"]
    [first, _] = json.loads(run("search", "sky", "--json").out)
    assert list(first) == [
        "session_id",
        "session_title",
        "message_id",
        "position",
        "role",
        "created_at",
        "snippet",
        "score",
    ]
    summary = json.loads(run("stats", "summary", "--json").out)
    assert (summary["sessions"], summary["messages"], summary["cost_usd"], summary["unpriced_messages"]) == (
        1,
        2,
        None,
        1,
    )


def test_piped_text_is_joined_with_the_prompt_and_an_empty_pipe_adds_nothing(run: Command) -> None:
    assert run("chat", "review this", "-m", "echo/echo", stdin="a diff\n").out == "a diff\n\nreview this\n"
    assert run("chat", "-m", "echo/echo", stdin="only piped").out == "only piped\n"
    assert run("chat", "only said", "-m", "echo/echo", stdin="").out == "only said\n"
    assert run("chat", "-m", "echo/echo").status == 2


def test_chat_continues_and_does_not_store_when_told(run: Command) -> None:
    run("chat", "one", "-m", "echo/echo", "--title", "Talk", "--tag", "x", "--project", "p")
    run("chat", "-c", "two")
    run("chat", "--session", "Talk", "three")
    assert [m["content"] for m in json.loads(run("show", "Talk", "--json").out)["messages"]][::2] == [
        "one",
        "two",
        "three",
    ]
    assert run("chat", "secret", "-m", "echo/echo", "--no-store").out == "secret\n"
    assert len(json.loads(run("list", "--json").out)) == 1
    assert run("chat", "x", "-c", "--no-store", "-m", "echo/echo").status == 2
    assert run("chat", "x", "-c", "--session", "Talk").status == 2


def test_chat_as_json(run: Command) -> None:
    reply = json.loads(run("chat", "hi", "-m", "echo/echo", "--json").out)
    assert (reply["content"], reply["model"], reply["status"], len(reply["session_id"])) == (
        "hi",
        "echo/echo",
        "complete",
        32,
    )
    bare = json.loads(run("chat", "hi", "-m", "echo/echo", "--json", "--no-store").out)
    assert (bare["content"], bare["session_id"], bare["output_tokens"]) == ("hi", None, 1)
    assert list(bare) == list(reply)
    assert (bare["id"], bare["model"], bare["latency_ms"] is not None) == (None, "echo/echo", True)


def test_no_store_keeps_not_even_the_model(run: Command, server: ChatServer) -> None:
    ran = run("chat", "hi", "-m", "openai/early", "--no-store")
    assert (ran.status, ran.out) == (4, "Light scatters \n")
    assert json.loads(run("chat", "hi", "-m", "openai/cost", "--no-store", "--json").out)["cost_usd"] == "0.00125"
    assert json.loads(run("model", "list", "--json").out) == []
    assert json.loads(run("stats", "summary", "--json").out)["calls"] == 0


def test_a_continued_session_keeps_the_model_that_answered_and_what_a_turn_was_sent_with(
    run: Command, server: ChatServer
) -> None:
    run("chat", "one", "-m", "echo/echo", "-s", "Be kind.", "-o", "seed", "1")
    assert run("chat", "-c", "two", "-m", "openai/500").status == 4
    assert run("chat", "-c", "three").out == "three\n"
    assert (
        run(
            "chat", "-c", "four", "-m", "openai/echo", "-s", "Be brief.", "-o", "seed", "1", "-o", "top_p", "0.5"
        ).status
        == 0
    )
    assert run("chat", "-c", "five").out == "five\n"
    assert [request["model"] for request in server.requests] == ["500", "echo", "echo"]
    shown = run("show", "@last").out
    assert '(sent with {"system_prompt": "Be brief.", "parameters": {"top_p": 0.5}})' in shown
    assert shown.count("sent with") == 1
    assert json.loads(run("show", "@last", "--json").out)["system_prompt"] == "Be kind."


def test_options_of_a_chat_reach_the_server_and_the_session(run: Command, server: ChatServer, tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("From a file.")
    run(
        "chat",
        "hi",
        "-m",
        "openai/echo",
        "-s",
        f"@{tmp_path / 'system.txt'}",
        "-o",
        "temperature",
        "0.3",
        "-o",
        "seed",
        "7",
        "-o",
        "user",
        "me",
    )
    body = server.requests[-1]
    assert body["messages"][0] == {"role": "system", "content": "From a file."}
    assert (body["temperature"], body["seed"], body["user"]) == (0.3, 7, "me")
    run("chat", "-c", "more")
    assert server.requests[-1]["temperature"] == 0.3
    assert server.requests[-1]["seed"] == 7
    run("chat", "x", "-m", "openai/echo", "-s", "@@handle")
    assert server.requests[-1]["messages"][0]["content"] == "@handle"
    assert run("chat", "x", "-m", "openai/echo", "-s", "@/absent").status == 2
    assert run("chat", "x", "-m", "openai/echo", "-o", "temperature", "hot").status == 2


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["show", "nope"], 3, 'no session "nope"'),
        (["show", ""], 2, "empty reference"),
        (["show", "@last"], 3, "there is none yet"),
        (["list", "--project", "nope"], 3, 'no project "nope"'),
        (["list", "--since", "whenever"], 2, "no time"),
        (["list", "--cursor", "x"], 2, "no cursor"),
        (["list", "--limit", "0"], 2, "0 is not in the range"),
        (["chat", "x"], 2, "no model is chosen"),
        (["chat", "x", "-m", "opnai/gpt"], 2, 'did you mean "openai"'),
        (["chat", "x", "-m", "gpt"], 3, 'no model "gpt"'),
        (["chat", "x", "-m", "openai/gpt-5"], 4, "OPENAI_API_KEY"),
        (["chat", "x", "-m", "scripted/absent.yaml"], 2, "cannot be read"),
        (["import", "nope", "."], 2, "no format"),
        (["import", "auto", "/absent"], 3, "no file"),
        (["import", "auto"], 1, "import auto PATH"),
        (["import"], 2, "FORMAT"),
        (["export"], 2, "FORMAT"),
        (["export", "marcdown"], 2, 'did you mean "markdown"'),
        (["export", "csv", "abcd"], 3, "no session"),
        (["export", "csv", "abcd", "--tag", "x"], 2, "not both"),
        (["lst"], 2, 'Did you mean "list"'),
        (["session", "shwo"], 2, 'Did you mean "show"'),
        (["what is the sky"], 2, "No command"),
        (["--db", "/proc/nope/x.db", "list"], 5, "cannot be made"),
        (["session", "edit", "abcd"], 3, "no message"),
        (["model", "add", "x"], 2, "provider/name"),
        (["model", "add", "lab/x", "--base-url", "gpu"], 2, "no address"),
        (["model", "add", "lab/x", "--api-key-env", "sk-123"], 2, "NAME"),
        (["model", "add", "lab/x", "--input-price", "cheap"], 2, "no price"),
        (["model", "default"], 2, "no default model"),
        (["project", "create", " "], 2, "cannot be empty"),
        (["search", "x", "--in", "dreams"], 2, "dreams"),
    ],
)
def test_bad_input_is_one_clear_line_and_the_right_status(
    run: Command, args: list[str], status: int, words: str
) -> None:
    ran = run(*args)
    assert ran.status == status, ran
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""
    as_json = run(*args, "--json") if args[0] not in ("what is the sky", "lst") and "edit" not in args else None
    if as_json is not None and as_json.err.startswith("{"):
        error = json.loads(as_json.err)
        assert list(error)[:4] == ["kind", "message", "hint", "retryable"]
        assert as_json.status == status


def test_empty_lists_are_empty_in_every_format(run: Command) -> None:
    assert run("list", "--json").out == "[]\n"
    assert run("search", "x", "--json").out == "[]\n"
    assert run("project", "list", "--format", "jsonl").out == ""
    assert run("list").out == ""
    assert run("list", "--format", "table").out == ""


def test_every_format_of_a_list(run: Command) -> None:
    run("create", "=SUM(A1)|x", "--tag", "t")
    row: Any = json.loads(run("list", "--json").out)[0]
    assert json.loads(run("list", "--format", "jsonl").out) == row
    cells = list(csv.DictReader(io.StringIO(run("list", "--format", "csv").out)))
    assert cells[0]["title"] == "'=SUM(A1)|x", "a cell cannot start a formula"
    assert "=SUM(A1)\\|x" in run("list", "--format", "markdown").out
    assert "last activity" in run("list", "--format", "table").out
    assert run("list", "--format", "plain").out.count("\t") == 6


def test_text_on_a_terminal_has_no_control_sequences(run: Command) -> None:
    run("create", "\x1b]0;owned\x07ti\x1b[31mtle")
    run("add", "@last", "body \x1b[2J\x1b]8;;http://x\x1b\\link\x07 end\ttab")
    for args in (["list"], ["show", "@last"], ["session", "tree", "@last"], ["search", "body"]):
        assert "\x1b" not in run(*args).out
        assert "\x07" not in run(*args).out
    run("create", "c1 \x9b31m bidi \u202e end")
    assert "\x9b" not in run("list", "--json").out
    assert "\u202e" not in run("list").out
    run("session", "delete", "@last", "--yes")
    assert json.loads(run("show", "@last", "--json").out)["title"] == "\x1b]0;owned\x07ti\x1b[31mtle"


def test_words_of_a_query_may_begin_with_a_dash(run: Command) -> None:
    run("create", "Sky")
    run("add", "@last", "the sky is blue")
    run("add", "@last", "the sky has clouds")
    assert len(json.loads(run("search", "sky", "-clouds", "--json").out)) == 1
    assert len(json.loads(run("search", "sky", "-has", "--json").out)) == 1
    assert run("search", "-h").out.startswith("Usage")
    assert run("search", "sky", "--limt", "3").status == 2


def test_lists_end_with_how_to_go_on(run: Command) -> None:
    for i in range(3):
        run("create", f"s{i}")
    ran = run("list", "--limit", "2", "--json")
    assert [row["title"] for row in json.loads(ran.out)] == ["s2", "s1"]
    found = re.fullmatch(r"2 of 3; next: --cursor (\S+)\n", ran.err)
    assert found
    rest = run("list", "--cursor", found[1], "--json")
    assert [row["title"] for row in json.loads(rest.out)] == ["s0"]
    assert rest.err == ""
    assert len(json.loads(run("list", "--all", "--json").out)) == 3


def test_projects_and_models_are_paged_too(run: Command) -> None:
    for name in ("a b", "c", "d"):
        run("project", "create", name, "--meta", f"first={name[0]}")
    for name in ("x", "y", "z"):
        run("model", "add", f"lab/{name}")
    ran = run("project", "list", "--limit", "1", "--json")
    assert ([row["name"] for row in json.loads(ran.out)], ran.err) == (["a b"], "1 of 3; next: --cursor 'a b'\n")
    ran = run("project", "list", "--cursor", "a b", "--json")
    assert ([row["name"] for row in json.loads(ran.out)], ran.err) == (["c", "d"], "")
    assert len(json.loads(run("project", "list", "--all", "--json").out)) == 3
    assert [row["name"] for row in json.loads(run("project", "list", "--meta", "first=c", "--json").out)] == ["c"]
    run("project", "edit", "c", "--meta", "last=z")
    assert json.loads(run("project", "show", "c", "--json").out)["metadata"] == {"first": "c", "last": "z"}
    ran = run("model", "list", "--limit", "2", "--json")
    assert ([row["model"] for row in json.loads(ran.out)], ran.err) == (
        ["lab/x", "lab/y"],
        "2 of 3; next: --cursor lab/y\n",
    )
    assert [row["model"] for row in json.loads(run("model", "list", "--cursor", "lab/y", "--json").out)] == ["lab/z"]


def test_what_deletes_asks_first(run: Command) -> None:
    run("create", "Doomed")
    ran = run("session", "delete", "Doomed")
    assert (ran.status, "needs a yes" in ran.err) == (2, True)
    assert run("session", "delete", "Doomed", "--dry-run").status == 0
    assert run("show", "Doomed").status == 0
    assert run("session", "delete", "Doomed", "--yes").status == 0
    assert run("show", "Doomed").status == 3


def test_projects(run: Command) -> None:
    assert json.loads(run("project", "create", "thesis", "--description", "drafts", "--json").out)["name"] == "thesis"
    assert run("project", "create", "thesis").status == 1
    run("create", "Chapter", "--project", "thesis")
    assert json.loads(run("project", "show", "thesis", "--json").out)["sessions"] == 1
    run("project", "edit", "thesis", "--name", "book")
    run("project", "archive", "book")
    assert json.loads(run("project", "list", "--json").out) == []
    assert len(json.loads(run("project", "list", "--archived", "--json").out)) == 1
    run("project", "archive", "book", "--undo")
    assert run("project", "delete", "book", "--yes").status == 0
    assert json.loads(run("show", "Chapter", "--json").out)["project"] is None


def test_models(run: Command, server: ChatServer) -> None:
    added = run(
        "model",
        "add",
        "lab/small",
        "--base-url",
        server.url,
        "--input-price",
        "0.5",
        "--output-price",
        "1.5",
        "-o",
        "seed",
        "1",
        "--json",
    )
    assert json.loads(added.out)["input_usd_per_million"] == "0.5"
    assert run("model", "add", "lab/small", "--base-url", server.url).status == 1
    price = json.loads(run("model", "price", "lab/small", "--json").out)
    assert (price["source"], price["output_usd_per_million"]) == ("model", "1.5")
    assert [row["model"] for row in json.loads(run("model", "list", "--remote", "lab", "--json").out)] == [
        "lab/large",
        "lab/small",
    ]
    run("model", "edit", "lab/small", "--context-window", "4096")
    assert json.loads(run("model", "show", "lab/small", "--json").out)["context_window"] == 4096
    assert run("model", "default", "lab/small").out == "lab/small\n"
    assert run("chat", "hello").status == 0
    assert run("model", "remove", "lab/small", "--yes").status == 0
    assert json.loads(run("model", "list", "--json").out) == []
    assert json.loads(run("model", "list", "--removed", "--json").out)[0]["is_active"] is False
    rows = json.loads(run("model", "providers", "--json").out)
    assert {row["provider"] for row in rows} >= {"echo", "scripted", "openai", "ollama"}
    unknown = run("model", "price", "nobody/nothing", "--json")
    assert json.loads(unknown.out)["source"] is None


def test_the_catalogue_prices_known_models(run: Command) -> None:
    price = json.loads(run("model", "price", "openai/gpt-4o-mini", "--json").out)
    assert price["source"] == "catalog"
    assert (price["input_usd_per_million"], price["output_usd_per_million"]) == (
        "0.15",
        "0.6",
    )  # openai.com/api/pricing


def test_sessions_are_changed(run: Command) -> None:
    run(
        "create", "Talk", "-m", "echo/echo", "-s", "be kind", "--meta", "k=v", "-o", "seed", "1", "--temperature", "0.5"
    )
    run("add", "Talk", "one")
    run("add", "Talk", "--role", "assistant", stdin="two from a pipe")
    assert run("add", "Talk").status == 2
    fork = json.loads(run("session", "fork", "Talk", "--title", "Other", "--json").out)
    assert fork["messages"] == 2
    first = json.loads(run("show", "Talk", "--json").out)["messages"][0]["id"]
    edited = run("session", "edit", first[:8], "ONE", "--json")
    assert json.loads(edited.out)["content"] == "ONE"
    assert len(json.loads(run("show", "Talk", "--nodes", "--json").out)["messages"]) == 3
    assert [m["content"] for m in json.loads(run("show", "Talk", "--at", first, "--json").out)["messages"]] == ["one"]
    assert run("session", "retry", "Talk").out == "ONE\n"
    assert json.loads(run("session", "retry", "Talk", "--json").out)["content"] == "ONE"
    assert run("session", "tag", "Talk", "a", "b", "--remove", "a").out == "b\n"
    assert run("session", "rename", "Talk", "Walk").status == 0
    assert run("session", "move", "Walk", "work").status == 0
    assert run("session", "close", "Walk").status == 0
    assert json.loads(run("list", "--status", "completed", "--json").out)[0]["title"] == "Walk"
    assert json.loads(run("list", "--meta", "k=v", "--project", "work", "--json").out)[0]["title"] == "Walk"
    assert run("session", "archive", "Walk").status == 0
    assert [row["title"] for row in json.loads(run("list", "--json").out)] == ["Other"]
    assert "◆" in run("session", "tree", "Other").out
    assert json.loads(run("session", "recover", "--json").out) == []


def test_import_and_its_report(run: Command, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "a"}]}\n{bad\n')
    ran = run("import", "auto", str(file), "--json")
    assert ran.status == 6
    report = json.loads(ran.out)
    [source] = report["sources"]
    assert list(source) == ["path", "format", "sessions", "messages", "records", "problems"]
    assert source["records"] == {"imported": 1, "merged": 0, "duplicate": 0, "ignored": 0, "bad": 1}
    assert source["problems"][0]["line"] == 2
    assert report["totals"]["bad"] == 1
    again = run("import", "openai-chat", str(file))
    assert again.status == 6
    assert "1 duplicate, 1 bad" in again.out
    assert "line 2" in again.err
    assert "claude-code" in run("import", "--formats").out


def test_db_commands(run: Command, path: Path, tmp_path: Path) -> None:
    assert run("db", "path").out == f"{path}\n"
    assert json.loads(run("db", "info", "--json").out)["schema_version"] == 6
    whole = run("db", "check", "--json")
    assert (whole.status, json.loads(whole.out)["ok"]) == (0, True)
    assert run("db", "rollback").status == 2
    assert run("db", "rollback", "--yes").status == 0
    assert json.loads(run("db", "info", "--json").out)["schema_version"] == 5
    assert run("db", "migrate").status == 0
    assert run("--db", str(tmp_path / "absent.db"), "db", "check").status == 3
    assert not (tmp_path / "absent.db").exists()


@pytest.mark.parametrize(
    ("damage", "check"),
    [
        ("UPDATE messages SET position = 7", "tree"),
        ("UPDATE sessions SET total_input_tokens = 99", "totals"),
        ("INSERT INTO messages_fts (messages_fts) VALUES ('delete-all')", "search index"),
        ("DELETE FROM texts", "texts"),
        ("DROP TABLE calls", "schema"),
        ("DROP TABLE texts", "hashes"),
        ("UPDATE messages SET model_id = 999", "foreign keys"),
        ("UPDATE texts SET content = 'other'", "hashes"),
        ("UPDATE messages SET created_at = 'yesterday'", "values"),
        ("UPDATE sessions SET last_activity_at = 'x'", "values"),
        ("UPDATE messages SET usage = '{'", "values"),
        ("UPDATE messages SET role = 'emperor'", "values"),
        ("UPDATE calls SET outcome = 'fine'", "values"),
        ("UPDATE messages SET status = 'pending'", "tree"),
        ("UPDATE sessions SET head_id = 1 WHERE title = 'Empty'", "tree"),
        ("UPDATE texts SET content = CAST(x'fffe' AS TEXT)", "hashes"),
    ],
)
def test_damage_is_found_and_exits_5(run: Command, path: Path, damage: str, check: str) -> None:
    run("create", "Empty")
    run("chat", "word " * 20_000, "-m", "echo/echo")
    raw = db.driver.connect(str(path), isolation_level=None)
    raw.execute("PRAGMA foreign_keys = 0")
    raw.execute(damage)
    raw.close()
    ran = run("db", "check", "--json")
    assert ran.status == 5
    assert check in {finding["check"] for finding in json.loads(ran.out)["findings"]}


def test_a_page_of_zeroes_is_found(run: Command, path: Path) -> None:
    run("chat", "hello", "-m", "echo/echo")
    raw = db.driver.connect(str(path), isolation_level=None)
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()[0]
    raw.close()
    with path.open("rb+") as file:
        file.seek((page - 1) * 8192)
        file.write(b"\0" * 8192)
    for args in (["db", "check"], ["list"], ["search", "hello"], ["show", "@last"]):
        ran = run(*args)
        assert ran.status == 5 or args == ["list"], (args, ran)
        assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T13:00", "2026-01-31T13:00:00+00:00"),
        ("2026-01-31T13:00+02:00", "2026-01-31T11:00:00+00:00"),
    ],
)
def test_times_that_people_write(text: str, iso: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    time.tzset()
    found = moment(text)
    assert found is not None and found.isoformat() == iso
    for words in ("7d", "12h", "yesterday", "today", "now", "3w"):
        assert moment(words) is not None


@pytest.mark.parametrize(
    ("nano", "unpriced", "shown", "text"),
    [
        (None, 0, "unpriced", None), (0, 0, "$0", "0"), (0, 2, "unpriced", None), (1, 0, "$0.000000001", "0.000000001"),
        (12_345_678, 1, "≥$0.0123", "0.012345678"), (2_500_000_000, 0, "$2.50", "2.5"), (100_000_000_000, 0, "$100.00", "100"),
    ],
)  # fmt: skip
def test_money(nano: int | None, unpriced: int, shown: str, text: str | None) -> None:
    assert output.money(nano, unpriced) == shown
    assert output.cost_usd(nano, unpriced) == text


def test_no_key_is_stored_logged_or_shown(server: ChatServer, path: Path, process: Command) -> None:
    key = "sk-test-0123456789abcdef"
    texts = ""
    for args in (
        ["chat", "hi", "-m", "openai/echo"],
        ["chat", "hi", "-m", "openai/401"],
        ["chat", "hi", "-m", "openai/reset"],
        ["chat", "x", "-m", "openai/not-json"],
    ):
        ran = process("--debug", *args)
        texts += ran.out + ran.err
    assert "INSERT INTO" in texts, "--debug logs the statements"
    assert key not in texts
    for file in path.parent.glob("test.db*"):
        assert key.encode() not in file.read_bytes()


def on_terminal(*args: str, path: Path, columns: int = 100, typed: bytes = b"") -> str:
    """Run a command on a terminal of its own, with what is typed there, and return what it wrote."""
    leader, follower = pty.openpty()
    env = os.environ | {"LLMSESS_DB": str(path), "PAGER": "", "TERM": "xterm", "COLUMNS": str(columns)}
    process = subprocess.Popen(
        [sys.executable, "-m", "llmsess", *args], stdin=follower, stdout=follower, stderr=follower, env=env
    )
    os.close(follower)
    os.write(leader, typed)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # the other end has closed
            break
        if not piece:
            break
        shown += piece
    process.wait()
    os.close(leader)
    return shown.decode()


def test_a_terminal_gets_a_table_in_colour_unless_told_otherwise(
    path: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("create", "Talk")
    shown = on_terminal("list", path=path)
    assert "last activity" in shown and "-----" in shown and "\x1b[1m" in shown
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1m" not in on_terminal("list", path=path)


def test_a_long_conversation_goes_through_the_pager(
    path: Path, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db.connect(path)
    sessions.extend(sessions.create("Long"), [("user", f"line {i}") for i in range(200)])
    db.database.close()
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ncat > {tmp_path}/paged\n")
    pager.chmod(0o755)
    leader, follower = pty.openpty()
    env = os.environ | {"LLMSESS_DB": str(path), "PAGER": str(pager), "TERM": "xterm"}
    subprocess.run(
        [sys.executable, "-m", "llmsess", "show", "Long"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=env,
        timeout=30,
    )
    os.close(follower)
    os.close(leader)
    assert "line 199" in (tmp_path / "paged").read_text()


def test_completion_covers_sessions_models_projects_and_tags(process: Command, run: Command) -> None:
    run("create", "Talk", "-m", "echo/echo", "--project", "thesis", "--tag", "bug")
    for shell in ("bash", "zsh", "fish"):
        assert "_LLMSESS_COMPLETE" in process("completion", shell).out

    def completed(words: str, word: int) -> str:
        return process(_LLMSESS_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(word)).out

    with_id = json.loads(run("list", "--json").out)[0]["id"]
    assert with_id[:8] in completed("llmsess show ", 2)
    assert "@last" in completed("llmsess show @", 2)
    assert "echo/echo" in completed("llmsess chat -m e", 3)
    assert "thesis" in completed("llmsess list --project t", 3)
    assert "bug" in completed("llmsess list --tag ", 3)
    assert "session" in completed("llmsess ses", 1)


def test_bare_llmsess_shows_first_commands_and_histories(process: Command, tmp_path: Path) -> None:
    folder = tmp_path / ".claude" / "projects" / "-work"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text("")
    ran = process()
    assert (ran.status, ran.out.count("  llmsess ")) == (0, 3)
    assert "llmsess import auto\n" in ran.out
    assert f"claude-code: {tmp_path}/.claude/projects (1 file)" in ran.out


@pytest.mark.parametrize("args", [["list"], ["chat", "hi", "-m", "echo/echo"], ["show", "@last", "--json"]])
def test_output_that_cannot_be_written_is_told(process: Command, path: Path, run: Command, args: list[str]) -> None:
    run("create", "🚀 title")
    command = " ".join([sys.executable, "-m", "llmsess", *args])
    for redirected, status in ((">/dev/full", 1), (">&-", 0)):
        done = subprocess.run(
            ["sh", "-c", f"{command} {redirected}"],
            capture_output=True,
            text=True,
            env=os.environ | {"LLMSESS_DB": str(path)},
        )
        assert (done.returncode, "Traceback" in done.stderr) == (status, False), (redirected, done.stderr)
        assert status == 0 or "No space left" in done.stderr


def test_an_encoding_that_lacks_a_character_gets_an_escape(process: Command, run: Command) -> None:
    run("create", "🚀 title")
    ran = process("list", PYTHONIOENCODING="latin-1")
    assert (ran.status, "\\U0001f680 title" in ran.out) == (0, True)


@pytest.mark.parametrize(
    "args",
    [
        ["chat", "x", "-m", "echo/echo", "-o", "k", "NaN"], ["chat", "x", "-m", "openai/echo", "-o", "k", "NaN"],
        ["chat", "x", "-m", "openai/echo", "-o", "k", '"\\ud800"'], ["model", "edit", "echo/echo", "-o", "a", '"\\ud800"'],
        ["session", "create", "x", "-o", "k", "[" * 60_000], ["list", "--meta", 'a"b=c'], ["list", "--cursor", "2026-01-01T00:00:00Z~" + "9" * 40],
        ["list", "--since", "9" * 5_000 + "d"], ["search", "x", "--until", "9" * 5_000 + "d"], ["list", "--type", "nope"],
        ["search", "x", "--role", "nope"], ["session", "edit", "abcd", ""],
    ],
    ids=lambda args: " ".join(args)[:40],
)  # fmt: skip
def test_odd_values_of_options_are_taken_or_told_in_one_line(run: Command, server: ChatServer, args: list[str]) -> None:
    run("model", "add", "echo/echo")
    ran = run(*args, "--json")
    assert ran.status in (0, 2, 3)
    assert ran.err.count("\n") <= 1
    assert run("model", "list", "--json").status == 0


def test_a_group_without_a_command_shows_its_help(run: Command) -> None:
    ran = run("session")
    assert (ran.status, ran.err.startswith("Usage: llmsess session")) == (2, True)
    assert ran.err.count("\n") > 10
    assert 'llmsess chat "..."' in run("why", "is", "the", "sky").err


def test_forks_are_drawn_as_forks(run: Command) -> None:
    for text in ("one", "two"):
        run("create", "T") if text == "one" else None
        run("add", "T", text)
    run("session", "fork", "T", "--title", "F")
    run("add", "F", "in F")
    run("add", "T", "in T")
    lines = [re.sub(r"[0-9a-f]{8} ", "", line) for line in run("session", "tree", "T").out.splitlines()]
    assert lines == ["user: one", "user: two", "├─ user: in F", "│  ◆ F", "└─ user: in T", "   ◆ T (this)"]
    drawn = json.loads(run("session", "tree", "T", "--json").out)
    assert [(m["content"], len(m["sessions"])) for m in drawn] == [("one", 0), ("two", 0), ("in F", 1), ("in T", 1)]
    run("create", "Empty")
    assert run("session", "tree", "Empty").out.startswith("◆ ")
    assert run("session", "tree", "Empty", "--json").out == "[]\n"
    run("session", "delete", "T", "--yes")
    ran = run("session", "delete", "F", "--dry-run")
    assert "F: 3 messages" in ran.err, "its own and those that T kept for it"
    assert "Deleted 3 messages" in run("session", "delete", "F", "--yes").err


def test_every_value_has_its_formats(run: Command, path: Path) -> None:
    assert json.loads(run("db", "path", "--json").out) == {"path": str(path)}
    run("model", "default", "echo/echo")
    assert json.loads(run("model", "default", "--json").out) == {"model": "echo/echo"}
    assert run("model", "default").out == "echo/echo\n"
    assert run("import", "--formats", "--format", "csv").out.startswith("format,reads\n")
    run("create", "Talk")
    run("session", "archive", "Talk")
    run("session", "close", "Talk")
    assert json.loads(run("list", "--json").out) == []


def test_times_at_the_ends_of_the_calendar_are_shown(process: Command, path: Path, tmp_path: Path) -> None:
    for uuid, moment_ in (("u1", "0001-01-01T00:00:00Z"), ("u2", "9999-12-31T23:59:59.999999Z")):
        line = {
            "type": "user",
            "uuid": uuid,
            "parentUuid": None,
            "sessionId": uuid,
            "timestamp": moment_,
            "message": {"content": "sky"},
        }
        (tmp_path / f"{uuid}.jsonl").write_text(json.dumps(line))
    assert process("import", "auto", str(tmp_path)).status == 0
    for zone in ("Asia/Tokyo", "America/New_York", "UTC"):
        for args in (["list"], ["show", "@last"], ["search", "sky"]):
            assert process(*args, TZ=zone).status == 0


def test_an_unreadable_or_oddly_named_file_does_not_stop_a_folder(run: Command, tmp_path: Path) -> None:
    folder = tmp_path / "imp"
    folder.mkdir()
    line = json.dumps({"messages": [{"role": "user", "content": "sky"}]})
    (folder / "good.jsonl").write_text(line)
    Path(os.fsdecode(os.fsencode(folder) + b"/odd\xff.jsonl")).write_text(line.replace("sky", "cloud"))
    (folder / "loop.jsonl").symlink_to("loop.jsonl")
    os.mkfifo(folder / "fifo.jsonl")
    report = json.loads(run("import", "auto", str(folder), "--json").out)
    assert report["totals"]["imported"] == 2
    assert any("\\udcff" in source["path"] for source in report["sources"])
    if os.geteuid():  # root reads everything
        (folder / "secret.jsonl").touch(0o000)
        ran = run("import", "auto", str(folder), "--json")
        assert (ran.status, json.loads(ran.out)["totals"]["bad"]) == (6, 1)


def test_a_question_shows_no_control_sequences(path: Path, run: Command) -> None:
    run("project", "create", "evil\x1b[31m\u202e")
    assert "\x1b[31m" not in on_terminal("project", "delete", "evil\x1b[31m\u202e", path=path, typed=b"n\n")
    assert "\u202e" not in run("project", "list", "--json").out
    assert json.loads(run("project", "list", "--json").out)[0]["name"] == "evil\x1b[31m\u202e"


def test_python_dash_m_and_version(process: Command) -> None:
    from llmsess import __version__

    assert process("--version").out == f"llmsess {__version__}\n"
    assert process("-h").status == 0


def test_invalid_utf8_on_standard_input_is_kept_as_far_as_it_is_text(run: Command) -> None:
    assert run("chat", "-m", "echo/echo", stdin=b"caf\xe9 ol\xc3\xa9").out == "caf\ufffd olé\n"
