"""`llmsess batch` as a person meets it: what it prints, its exit status, its progress, what it asks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command
from tests.server import ChatServer

STATUS = [
    "id", "name", "status", "total", "todo", "claimed", "sent", "done", "failed", "unknown", "cancelled", "skipped",
    "calls", "cost_usd", "budget_usd", "reserved_usd", "unpriced", "tokens", "error",
]  # fmt: skip


@pytest.fixture
def prompts(tmp_path: Path) -> str:
    file = tmp_path / "prompts.txt"
    file.write_text("Name a cat.\nName a dog.\nName a fish.\n")
    return str(file)


def test_a_batch_from_its_file_to_its_answers(run: Command, prompts: str) -> None:
    made = run("batch", "create", "names", prompts, "-m", "echo/echo", "--json")
    assert made.status == 0
    state = json.loads(made.out)
    assert list(state) == STATUS
    assert (state["status"], state["total"], state["todo"]) == ("created", 3, 3)
    ran = run("batch", "run", "names")
    assert ran.status == 0
    assert "3: 3 done" in ran.out
    state = json.loads(run("batch", "status", "--json").out)
    assert (state["status"], state["done"], state["calls"], state["cost_usd"]) == ("done", 3, 3, None)
    assert [line.split("\t")[-1] for line in run("batch", "show", "names").out.splitlines()] == [
        "Name a cat.", "Name a dog.", "Name a fish.",
    ]  # fmt: skip
    item = json.loads(run("batch", "show", "names", "--json").out)["items"][0]
    shown = run("batch", "show", "names", item["key"][:6])
    assert shown.out.endswith("\nName a cat.\n")
    assert run("batch", "list").out.split("\t")[:4] == ["names", "done", "3", "3"]
    assert run("search", "fish").status == 0
    assert len(json.loads(run("list", "--type", "batch", "--json").out)) == 3


def test_the_same_command_goes_on(run: Command, prompts: str) -> None:
    assert run("batch", "run", "names", prompts, "-m", "echo/echo").status == 0
    again = run("batch", "run", "names", prompts)
    assert (again.status, "0 new items, 3 known." in again.err) == (0, True)
    Path(prompts).write_text("Name a bird.\nName a cat.\n")
    assert "1 new item, 1 known." in run("batch", "run", "names", prompts).err
    assert run("batch", "run", "names", "-m", "echo/other").status == 1
    assert run("batch", "run", "nothing").status == 3


def test_failures_say_why_and_what_to_do(run: Command, server: ChatServer, prompts: str) -> None:
    failed = run("batch", "run", "names", prompts, "-m", "openai/500")
    assert failed.status == 6
    assert "server: openai answered 500: it broke" in failed.err
    assert "llmsess batch show names --status failed" in failed.err
    assert failed.err.endswith("Error: 3 failed of 3 items\n")
    shown = run("batch", "show", "names", "--status", "failed")
    assert shown.out.count("server: openai answered 500: it broke") == 3
    assert run("batch", "retry", "names", "--kind", "rate_limit").status == 3
    assert "3 items to do again" in run("batch", "retry", "names").err


def test_unknown_items_are_resolved(run: Command, server: ChatServer, prompts: str) -> None:
    assert run("batch", "run", "names", prompts, "-m", "openai/drop").status == 6
    assert "llmsess batch resolve names --resend, or --skip" in run("batch", "status", "names").err
    assert run("batch", "resolve", "names", "--yes").status == 2
    assert run("batch", "resolve", "names", "--resend", "--skip", "--yes").status == 2
    assert run("batch", "resolve", "names", "--resend").status == 2  # needs a yes
    assert run("batch", "resolve", "names", "--item", "nothing", "--skip", "--yes").status == 3
    assert "3 items skipped" in run("batch", "resolve", "names", "--skip", "--yes").err
    assert json.loads(run("batch", "status", "names", "--json").out)["skipped"] == 3


def test_a_wrong_key_is_a_providers_error(run: Command, server: ChatServer, prompts: str) -> None:
    assert run("batch", "run", "names", prompts, "-m", "openai/401").status == 4
    assert json.loads(run("batch", "status", "names", "--json").out)["todo"] == 3


def test_a_budget_pauses_with_a_way_on(run: Command, server: ChatServer, prompts: str) -> None:
    paused = run("batch", "run", "names", prompts, "-m", "openai/echo", "--budget-requests", "2")
    assert paused.status == 6
    assert "is paused: the budget of 2 requests is used up" in paused.err
    assert run("batch", "run", "names", "--budget-requests", "5").status == 0


def test_options_that_do_nothing_are_refused(run: Command, prompts: str) -> None:
    assert "--role goes with --stored" in run("batch", "create", "a", prompts, "--role", "user", "-m", "echo/echo").err
    assert run("batch", "create", "a", prompts, "--stored", "-m", "echo/echo").status == 2
    assert run("batch", "create", "a", "-m", "echo/echo").status == 2
    assert run("batch", "run", "a", prompts, "-m", "echo/echo", "--project", "p").status == 0
    assert run("batch", "run", "a", "--project", "q").status == 2
    assert run("batch", "list", "--status", "bogus").status == 2


def test_a_dry_run_says_what_it_would_cost(run: Command, prompts: str) -> None:
    dry = run("batch", "create", "a", prompts, "-m", "openai/gpt-4o-mini", "-o", "max_tokens", "10", "--dry-run")
    assert dry.status == 0
    assert dry.err == "3 items to openai/gpt-4o-mini: up to 60 tokens in, up to 30 out, $0.000009 to $0.000027\n"
    told = run("batch", "create", "a", prompts, "-m", "openai/gpt-4o-mini", "--dry-run", "--json")
    assert json.loads(told.out)["bounded"] is False
    bad = run("batch", "create", "a", prompts, "-m", "echo/echo", "-t", "{{ 1 / (prompt|length - 11) }}", "--dry-run")
    assert "item 1: the template cannot be filled" in bad.err
    assert json.loads(run("batch", "list", "--json").out) == []


def test_what_is_deleted_or_cancelled_is_asked_first(run: Command, prompts: str) -> None:
    run("batch", "create", "a", prompts, "-m", "echo/echo")
    assert run("batch", "cancel", "a").status == 2
    assert "Would: Cancel 3 items" in run("batch", "cancel", "a", "--dry-run").err
    assert "3 items cancelled" in run("batch", "cancel", "a", "--yes").err
    assert run("batch", "run", "a").status == 1
    assert run("batch", "delete", "a").status == 2
    assert run("batch", "delete", "a", "--yes").status == 0
    assert run("batch", "status", "a").status == 3


def test_control_sequences_of_a_batch_are_not_shown(run: Command, server: ChatServer, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"custom_id": "a\x1b[31mb", "prompt": "x\x1b]0;t\x07\u202ey"}) + "\n")
    assert run("batch", "run", "job", str(rows), "-m", "echo/echo").status == 0
    for command in (("batch", "show", "job"), ("batch", "show", "job", "a\x1b[31mb"), ("batch", "list")):
        out = run(*command, "--format", "plain").out
        assert "\x1b" not in out
        assert "\u202e" not in out


def test_a_terminal_shows_the_progress(terminal: Callable[..., Any], server: ChatServer, tmp_path: Path) -> None:
    server.on_request = lambda number: time.sleep(0.05)
    many = tmp_path / "many.txt"
    many.write_text("\n".join(f"prompt {i}" for i in range(60)))
    shell = terminal("batch", "run", "job", str(many), "-m", "openai/echo", "-j", "4")
    shell.shows("/60 ·")
    shell.shows("60: 60 done")
    assert "█" not in shell.text()


def test_ctrl_c_at_a_terminal_says_what_it_does(
    terminal: Callable[..., Any], server: ChatServer, tmp_path: Path
) -> None:
    server.on_request = lambda number: time.sleep(0.4)
    many = tmp_path / "many.txt"
    many.write_text("\n".join(f"prompt {i}" for i in range(60)))
    shell = terminal("batch", "run", "job", str(many), "-m", "openai/echo", "-j", "2")
    shell.shows("/60 ·")
    shell.type("\x03")
    shell.shows("Ctrl-C again stops now")
    shell.shows("Go on with: llmsess batch run job")
