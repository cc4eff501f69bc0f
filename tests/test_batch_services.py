"""Providers' own batch services: submitted before anything is known, adopted after a crash, fetched once, reconciled."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from llmsess import batches, db, sessions
from llmsess.errors import Conflict, InvalidInput, ProviderError
from tests.conftest import Command
from tests.server import ChatServer
from tests.test_batch_crashes import checked, ended, worker

PROMPTS = [f"prompt {i}" for i in range(5)]
MODELS = {"openai": "openai/gpt-4o-mini", "anthropic": "anthropic/claude-sonnet-4-5"}
END = {"openai": "completed", "anthropic": "ended"}
both = pytest.mark.parametrize("service", ["openai", "anthropic"])


def plan(service: str, prompts: list[str] = PROMPTS, **more: Any) -> None:
    batches.create("job", prompts, model=MODELS[service], **more)


@both
def test_what_is_submitted_comes_back_at_half_the_price(
    database: db.Database, server: ChatServer, service: str
) -> None:
    plan(service)
    (shard,) = batches.submit("job")
    assert (shard.status, shard.items, shard.service) == ("created", 5, service)
    state = batches.status("job")
    assert (state.status, state.counts["sent"], state.calls) == ("running", 5, 5)
    assert (batches.fetch("job").waiting, batches.status("job").counts["sent"]) == (1, 5)
    server.services.status = END[service]
    came = batches.fetch("job")
    assert (came.ended, came.answered, came.failed, came.missing, came.odd) == (1, 5, 0, 0, ())
    state = batches.status("job")
    assert (state.status, state.counts["done"], state.reserved, state.tokens) == ("done", 5, 0, 90)
    whole = {"openai": 11 * 150 + 7 * 600, "anthropic": 11 * 3_000 + 7 * 15_000}[service]
    assert state.cost == 5 * round(whole * 0.5)
    for item in batches.stream_items("job"):
        assert item.content == f"answer to {item.input['prompt']}"
        assert [said.content for said in sessions.path(item.session or "")] == [item.input["prompt"], item.content]
    outcomes = database.execute_sql("SELECT outcome, count(*), count(message_id) FROM calls GROUP BY 1").fetchall()
    assert outcomes == [("ok", 5, 5)]
    assert batches.fetch("job") == batches.Fetched()
    assert state.error is None


def test_openai_gets_a_file_of_requests_with_our_id(database: db.Database, server: ChatServer) -> None:
    plan("openai", ["why?"], system="be brief", parameters={"temperature": 0.5, "max_tokens": 9})
    (shard,) = batches.submit("job")
    ((name, data),) = server.services.files.items() if len(server.services.files) == 1 else [("file-1", b"")]
    assert server.services.names[name] == f"llmsess-{shard.uuid}.jsonl"
    (request,) = server.services.requests["batch_1"]
    assert data or request
    assert request == {
        "custom_id": f"{shard.uuid[:12]}-0", "method": "POST", "url": "/v1/chat/completions",
        "body": {"model": "gpt-4o-mini", "temperature": 0.5, "max_completion_tokens": 9,
                 "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why?"}]},
    }  # fmt: skip
    assert server.services.batches["batch_1"]["metadata"] == {"llmsess": shard.uuid}


@both
def test_each_kind_of_result_is_told_apart(database: db.Database, server: ChatServer, service: str) -> None:
    told = {"prompt 1": "status 400", "prompt 2": "expired", "prompt 3": "missing", "prompt 4": "canceled"}
    if service == "openai":
        told["prompt 4"] = "status 500"
    server.services.answer = lambda key, prompt: told.get(prompt, "fine")
    server.services.status = END[service]
    plan(service)
    batches.submit("job")
    came = batches.fetch("job")
    assert (came.answered, came.failed, came.missing) == (1, 3, 1)
    kinds = [(item.status, item.error_kind) for item in batches.stream_items("job")]
    last = "server" if service == "openai" else "cancelled"
    assert kinds == [
        ("done", None), ("failed", "bad_request"), ("failed", "expired"), ("unknown", "missing"), ("failed", last)
    ]  # fmt: skip
    if service == "openai":
        assert came.odd == ("batch_1: 5 requests, 4 results",)


def test_every_line_may_have_failed(database: db.Database, server: ChatServer) -> None:
    server.services.answer = lambda key, prompt: "status 500"
    server.services.status = "completed"
    plan("openai")
    batches.submit("job")
    assert batches.fetch("job").failed == 5
    assert batches.status("job").counts["failed"] == 5


@pytest.mark.parametrize(
    ("status", "kind", "item"), [("failed", "bad_request", "failed"), ("expired", "expired", "failed")]
)
def test_a_batch_that_the_service_gives_up(
    database: db.Database, server: ChatServer, status: str, kind: str, item: str
) -> None:
    server.services.status, server.services.answer = status, lambda key, prompt: "missing"
    plan("openai", budget_usd=1)
    batches.submit("job")
    assert batches.fetch("job").missing == 5
    assert batches.status("job").reserved == 0
    assert {(one.status, one.error_kind) for one in batches.stream_items("job")} == {(item, kind)}
    if status == "failed":
        assert batches.item("job", next(batches.stream_items("job")).key).error == "no such model"
    assert batches.retry("job") == 5


@both
def test_results_that_break_off_come_with_the_next_fetch(
    database: db.Database, server: ChatServer, service: str
) -> None:
    plan(service, [f"prompt {i}" for i in range(450)])
    batches.submit("job")
    server.services.status, server.services.cut = END[service], 300
    with pytest.raises(ProviderError):
        batches.fetch("job")
    assert 200 <= batches.status("job").counts["done"] <= 300
    server.services.cut = None
    batches.fetch("job")
    assert batches.status("job").counts["done"] == 450
    assert database.execute_sql("SELECT count(*) FROM calls WHERE outcome = 'ok'").fetchone() == (450,)


def crashed(path: Path, *command: str, crash: str) -> None:
    assert ended(worker(path, *command, crash=f"{crash}:KILL"))[0] == -signal.SIGKILL


@pytest.mark.parametrize(
    ("service", "point"),
    [
        ("openai", "batch.sharded"),
        ("openai", "batch.uploaded"),
        ("openai", "batch.submitted"),
        ("anthropic", "batch.sharded"),
        ("anthropic", "batch.submitted"),
    ],
)
def test_a_kill_while_submitting_makes_one_batch(path: Path, server: ChatServer, service: str, point: str) -> None:
    db.connect(path)
    plan(service)
    db.database.close()
    crashed(path, "batch", "submit", "job", "--yes", crash=point)
    server.services.status = END[service]
    assert ended(worker(path, "batch", "fetch", "job", "--wait", "--every", "1"))[0] == 0
    assert server.services.created == 1
    assert checked(path).counts["done"] == 5


def test_anthropics_batch_in_progress_is_not_submitted_again(path: Path, server: ChatServer) -> None:
    db.connect(path)
    plan("anthropic")
    db.database.close()
    crashed(path, "batch", "submit", "job", "--yes", crash="batch.submitted")
    assert ended(worker(path, "batch", "fetch", "job"))[0] == 6
    assert ended(worker(path, "batch", "submit", "job", "--yes"))[0] == 0
    assert server.services.created == 1
    server.services.status = "ended"
    assert ended(worker(path, "batch", "fetch", "job"))[0] == 0
    assert server.services.created == 1
    assert checked(path).counts["done"] == 5


@both
def test_a_lost_answer_to_the_creation_is_looked_for(database: db.Database, server: ChatServer, service: str) -> None:
    plan(service)
    server.services.lose = True
    with pytest.raises(ProviderError):
        batches.submit("job")
    server.services.lose = False
    assert batches.status("job").counts["sent"] == 5
    server.services.status = END[service]
    assert batches.fetch("job").answered == 5
    assert server.services.created == 1


def test_what_the_service_refuses_is_to_do_again(
    database: db.Database, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan("openai")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(ProviderError):
        batches.submit("job")
    state = batches.status("job")
    assert (state.counts["todo"], state.reserved, batches.shards("job")) == (5, 0, [])


def test_a_kill_while_items_are_gathered_leaves_them_to_do(path: Path, server: ChatServer) -> None:
    db.connect(path)
    plan("openai", budget_usd=1)
    db.database.close()
    crashed(path, "batch", "submit", "job", "--yes", crash="batch.sharded")
    db.connect(path)
    db.database.execute_sql("UPDATE batch_shards SET status = 'planning'")
    db.database.close()
    assert ended(worker(path, "batch", "submit", "job", "--yes"))[0] == 0
    assert server.services.created == 1
    server.services.status = "completed"
    assert ended(worker(path, "batch", "fetch", "job"))[0] == 0
    state = checked(path)
    assert (state.counts["done"], state.reserved) == (5, 0)


def test_a_kill_between_two_groups_of_results(path: Path, server: ChatServer) -> None:
    db.connect(path)
    plan("openai", [f"prompt {i}" for i in range(450)])
    batches.submit("job")
    db.database.close()
    server.services.status = "completed"
    crashed(path, "batch", "fetch", "job", crash="batch.fetching")
    assert ended(worker(path, "batch", "fetch", "job"))[0] == 0
    assert checked(path).counts["done"] == 450


def test_an_equal_request_is_not_submitted_if_asked(database: db.Database, server: ChatServer) -> None:
    batches.create("first", ["prompt 0"], model=MODELS["openai"].replace("gpt-4o-mini", "echo"))
    batches.run("first")
    batches.create("job", PROMPTS[:2], model="openai/echo", cache=True)
    (shard,) = batches.submit("job")
    assert shard.items == 1
    assert batches.status("job").counts["done"] == 1


def test_nothing_is_fetched_that_was_not_submitted(database: db.Database, server: ChatServer) -> None:
    plan("openai")
    with pytest.raises(Conflict, match="was submitted"):
        batches.fetch("job")


def test_a_budget_bounds_what_is_submitted(database: db.Database, server: ChatServer) -> None:
    plan("openai", budget_requests=3)
    (shard,) = batches.submit("job")
    assert shard.items == 3
    assert batches.status("job").counts["todo"] == 2


def test_cancelling_asks_the_service_and_keeps_what_it_answered(database: db.Database, server: ChatServer) -> None:
    server.services.answer = lambda key, prompt: "fine" if prompt < "prompt 2" else "missing"
    plan("openai")
    batches.submit("job")
    assert batches.cancel("job") == 0
    with pytest.raises(Conflict, match="at the provider's batch service"):
        batches.delete("job")
    came = batches.fetch("job")
    assert (came.answered, came.missing) == (2, 3)
    assert [item.error_kind for item in batches.stream_items("job", status="failed")] == ["cancelled"] * 3


def test_a_service_takes_one_model(database: db.Database, server: ChatServer) -> None:
    batches.create("job", [{"prompt": "a", "model": "openai/a"}, {"prompt": "b", "model": "openai/b"}])
    with pytest.raises(InvalidInput, match="several"):
        batches.submit("job")
    assert batches.status("job").counts["todo"] == 2


def test_a_provider_without_a_service_says_so(database: db.Database) -> None:
    batches.create("job", ["a"], model="echo/echo")
    with pytest.raises(ProviderError, match="no batch service"):
        batches.submit("job")


def test_the_commands(run: Command, server: ChatServer, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(PROMPTS))
    assert run("batch", "create", "job", str(prompts), "-m", "openai/gpt-4o-mini").status == 0
    assert run("batch", "submit", "job").status == 2
    submitted = run("batch", "submit", "job", "--yes")
    assert (submitted.status, submitted.out.split("\t")[:3]) == (0, ["openai", "created", "5"])
    fetched = run("batch", "fetch", "job")
    assert fetched.status == 6
    assert "1 shard not ended" in fetched.err
    server.services.status = "completed"
    assert run("batch", "fetch", "job", "--json").status == 0
