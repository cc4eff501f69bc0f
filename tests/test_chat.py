"""One turn: written ahead, streamed, settled; failed, interrupted; continued; priced; kept aside when the disk is full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmsess import catalog, chat, db, errors, maintenance, owners, search, sessions, settling
from llmsess.models import Call, Message, now
from llmsess.writing import growing
from tests.conftest import Command
from tests.server import Answer, ChatServer


def calls() -> list[tuple[str, str | None, int | None]]:
    return [(call.outcome, call.error_kind, call.http_status) for call in Call.select().order_by(Call.id)]


def test_a_turn_is_stored_with_its_figures(database: db.Database) -> None:
    session = sessions.create("Debug", model="echo/echo", system_prompt="be brief")
    reply = chat.ask(session, "why is the sky blue?")
    assert (reply.content, reply.status, reply.origin) == ("why is the sky blue?", "complete", "model")
    assert (reply.input_tokens, reply.output_tokens) == (7, 5)
    assert (reply.cost, reply.cost_source, reply.owner, reply.lease_expires_at) == (None, None, None, None)
    assert reply.usage == {"input_tokens": 7, "output_tokens": 5}
    assert reply.latency_ms is not None and reply.ttft_ms is not None and reply.completed_at is not None
    assert calls() == [("ok", None, None)]
    assert [message.role for message in sessions.path(session)] == ["user", "assistant"]
    assert len(search.find("sky")) == 2
    assert maintenance.check().findings == []


def test_the_prompt_and_a_pending_reply_are_committed_before_the_request_leaves(
    server: ChatServer, database: db.Database
) -> None:
    session = sessions.create("x", model="openai/slow")
    stream = chat.stream(session, "hello")
    next(stream)
    other = db.driver.connect(database.database)
    rows = other.execute("SELECT role, status, content FROM messages ORDER BY id").fetchall()
    assert rows[0] == ("user", "complete", "hello")
    assert rows[1][:2] in (("assistant", "pending"), ("assistant", "streaming"))
    assert other.execute("SELECT outcome FROM calls").fetchall() == [("sent",)]
    other.close()
    assert "".join(stream) == "scatters in the air."
    assert sessions.path(session)[-1].content == "Light scatters in the air."


@pytest.mark.parametrize("tokens", [2**53 - 1, -3, 10**400, 1.5, "7", True])
def test_odd_usage_costs_nothing_and_loses_nothing(server: ChatServer, database: db.Database, tokens: object) -> None:
    catalog.add_model("openai/odd", cost_per_1k_input_tokens=3_000_000, cost_per_1k_output_tokens=10_000_000)
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens, "cost": tokens}
    events = [
        {"choices": [{"delta": {"content": "paid for"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": usage},
    ]
    data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
    server.answers["odd"] = Answer("text/event-stream", data.encode())
    reply = chat.ask(sessions.create("x", model="openai/odd"), "hi")
    assert (reply.content, reply.status, reply.input_tokens) == ("paid for", "complete", None)
    assert reply.cost in (None, 1_500_000_000)
    assert maintenance.check().findings == []


def script(tmp_path: Path, words: int, delay_s: float) -> str:
    file = tmp_path / "slow.yaml"
    answer = {"content": " ".join(f"word{i}" for i in range(words)), "chunk_delay_s": delay_s}
    file.write_text(json.dumps([answer]))
    return f"scripted/{file}"


FORKED = """
import os, sys, time, threading, llmsess
from llmsess import chat, sessions, recording
llmsess.connect(sys.argv[1])
recording.FLUSH_S = 0.1
session = sessions.create("parent", model=sys.argv[2])
thread = threading.Thread(target=lambda: chat.ask(session, "hi"))
thread.start()
time.sleep(0.5)
child = os.fork()
if child == 0:
    time.sleep(1.0)
    chat.ask(sessions.create("child", model="echo/echo"), "in the child")
    time.sleep(0.5)
    os._exit(0)
thread.join()
os.waitpid(child, 0)
print(sessions.path(session)[-1].status, len(sessions.path(session)[-1].content.split()))
"""


def test_a_forked_child_leaves_its_parents_reply_alone(path: Path, tmp_path: Path) -> None:
    model = script(tmp_path, 20, 0.04)
    done = subprocess.run([sys.executable, "-c", FORKED, str(path), model], capture_output=True, text=True)
    assert done.stdout == "complete 20\n", done.stderr
    db.connect(path)
    assert maintenance.check().findings == []
    db.database.close()


def test_a_child_that_leaves_inside_a_callback_settles_nothing(path: Path, tmp_path: Path) -> None:
    code = f"""
import os, sys, llmsess
from llmsess import chat, sessions
llmsess.connect({str(path)!r})
def leave(delta, forked=[]):
    if not forked:
        forked.append(os.fork())
        if forked[0] == 0:
            sys.exit(0)
        os.waitpid(forked[0], 0)
chat.ask(sessions.create("x", model={script(tmp_path, 3, 0.01)!r}), "hi", on_delta=leave)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    db.connect(path)
    assert (sessions.get("@last").status, sessions.path("@last")[-1].status) == ("active", "complete")
    assert [call.outcome for call in Call.select()] == ["ok"]
    db.database.close()


@pytest.mark.parametrize("gone", ["session", "file"])
def test_a_reply_whose_place_is_gone_is_kept_aside(path: Path, tmp_path: Path, process: Command, gone: str) -> None:
    chatting = subprocess.Popen(
        [sys.executable, "-m", "llmsess", "--db", str(path), "chat", "hi", "-m", script(tmp_path, 20, 0.05)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert chatting.stdout is not None
    chatting.stdout.read(5)
    if gone == "session":
        assert process("session", "delete", "@last", "--yes").status == 0
    else:
        for file in path.parent.glob("test.db*"):
            file.unlink()
    _, err = chatting.communicate(timeout=20)
    assert chatting.returncode == 5, err
    assert "Traceback" not in err and "it is kept in" in err
    [aside] = path.parent.glob("llmsess-unsaved-*.json")
    assert "word0 word1" in aside.read_text() and "word19" in aside.read_text()
    assert gone == "session" or not path.exists(), "no other file is made in its place"


def test_a_reply_whose_session_is_deleted_never_becomes_anothers(database: db.Database, tmp_path: Path) -> None:
    model = script(tmp_path, 6, 0.01)
    doomed, other = sessions.create("doomed"), sessions.create("other")
    first = chat.stream(doomed, "secret", model=model)
    next(first)
    sessions.delete(doomed)
    second = chat.stream(other, "question", model="echo/echo")
    next(second)
    with pytest.raises(errors.UnsavedReply, match="deleted meanwhile"):
        list(first)
    list(second)
    assert [message.content for message in sessions.path(other)] == ["question", "question"]
    assert maintenance.check().findings == []


def test_a_live_reply_that_was_given_up_is_stored_all_the_same(database: db.Database, tmp_path: Path) -> None:
    session = sessions.create("x", model=script(tmp_path, 4, 0.01))
    stream = chat.stream(session, "hi")
    next(stream)
    database.execute_sql("UPDATE messages SET status = 'interrupted', owner = NULL WHERE role = 'assistant'")
    database.execute_sql("UPDATE sessions SET status = 'interrupted'")
    assert "".join(stream) == "word1 word2 word3"
    assert (sessions.path(session)[-1].status, sessions.get(session).status) == ("complete", "active")


def test_another_process_namespace_is_another_host(database: db.Database) -> None:
    host, pid, _ = owners.me().rsplit("/", 2)
    assert not owners.is_gone(owners.me(), None)
    assert owners.is_gone(f"{host}/{pid}/other", None)
    elsewhere = f"{host.partition('+')[0]}+4026539999/{pid}/other"
    assert not owners.is_gone(elsewhere, owners.lease())
    assert owners.is_gone(elsewhere, None)


def test_what_is_sent_is_the_path_with_the_settings(server: ChatServer, database: db.Database) -> None:
    session = sessions.create(
        "x", model="openai/echo", system_prompt="Be terse.", temperature=0.2, max_tokens=9, parameters={"seed": 1}
    )
    chat.ask(session, "one")
    chat.ask(session, "two", parameters={"top_p": 0.5})
    body = server.requests[-1]
    assert [(m["role"], m["content"]) for m in body["messages"]] == [
        ("system", "Be terse."), ("user", "one"), ("assistant", "one"), ("user", "two"),
    ]  # fmt: skip
    assert (body["temperature"], body["max_completion_tokens"], body["seed"], body["top_p"]) == (0.2, 9, 1, 0.5)


def test_a_failure_keeps_the_prompt_and_the_error_and_the_next_turn_goes_on(
    server: ChatServer, database: db.Database
) -> None:
    session = sessions.create("x", model="openai/500")
    with pytest.raises(errors.ProviderError):
        chat.ask(session, "hello")
    failed = sessions.path(session)[-1]
    assert (failed.status, failed.content, failed.error) == ("failed", "", "openai answered 500: it broke")
    assert calls() == [("error", "server", 500)]
    assert sessions.get(session).status == "failed"
    reply = chat.ask(session, "again", model="openai/echo")
    assert reply.content == "again"
    assert [m["content"] for m in server.requests[-1]["messages"]] == ["hello", "again"]
    assert sessions.get(session).status == "active"


def test_a_stream_that_breaks_keeps_what_came(server: ChatServer, database: db.Database) -> None:
    session = sessions.create("x", model="openai/reset")
    with pytest.raises(errors.ProviderError):
        chat.ask(session, "hello")
    broken = sessions.path(session)[-1]
    assert (broken.status, broken.content) == ("failed", "Light scatters ")
    assert len(search.find("scatters")) == 1


def test_a_closed_stream_is_interrupted_and_keeps_what_came(server: ChatServer, database: db.Database) -> None:
    session = sessions.create("x", model="openai/slow")
    stream = chat.stream(session, "hello")
    next(stream)
    stream.close()
    reply = sessions.path(session)[-1]
    assert (reply.status, reply.content, reply.owner) == ("interrupted", "Light ", None)
    assert calls() == [("cancelled", None, None)]


def test_tool_calls_and_reasoning_are_stored(server: ChatServer, database: db.Database) -> None:
    session = sessions.create("x", model="openai/tools")
    reply = chat.ask(session, "weather?")
    assert sessions.blocks(reply) == [
        {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}}
    ]
    assert reply.tool_text == 'weather {"city":"Oslo"}'
    assert chat.ask(session, "why?", model="openai/reasoning").reasoning == "Think first."


def test_retry_makes_a_sibling(database: db.Database) -> None:
    session = sessions.create("x", model="echo/echo")
    first = chat.ask(session, "one")
    second = chat.retry(session)
    assert second.parent_id == first.parent_id
    assert [message.content for message in sessions.path(session)] == ["one", "one"]
    assert len(sessions.nodes(session)) == 3
    with pytest.raises(errors.InvalidInput, match="no prompt"):
        chat.retry(sessions.create("empty", model="echo/echo"))


def test_once_stores_nothing(database: db.Database) -> None:
    assert chat.once("hello", model="echo/echo").content == "hello"
    assert Message.select().count() == Call.select().count() == 0


def test_the_model_is_the_options_then_the_sessions_then_the_environments_then_the_default(
    database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = sessions.create("x")
    with pytest.raises(errors.InvalidInput, match="no model"):
        chat.ask(session, "hi")
    catalog.set_default_model("echo/default")
    assert chat.choose_model(session, chat.Options()) == "echo/default"
    monkeypatch.setenv("LLMSESS_MODEL", "echo/environment")
    assert chat.choose_model(session, chat.Options()) == "echo/environment"
    chat.ask(session, "hi", model="echo/option")
    chosen = chat.choose_model(sessions.get(session), chat.Options())
    assert getattr(chosen, "reference", None) == "echo/option"


def test_a_missing_key_is_told_before_anything_is_written(database: db.Database) -> None:
    session = sessions.create("x")
    with pytest.raises(errors.MissingKey, match="OPENAI_API_KEY"):
        chat.ask(session, "hi", model="openai/gpt-5")
    assert Message.select().count() == 0


@pytest.mark.parametrize("key", ["k\nx", "kéy"])
def test_a_key_that_cannot_be_one_is_not_sent_and_not_shown(
    server: ChatServer, database: db.Database, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(errors.InvalidInput) as caught:
        chat.ask(sessions.create("x"), "hi", model="openai/echo")
    assert key not in str(caught.value)
    assert server.requests == []


def test_an_own_server_needs_no_key(server: ChatServer, database: db.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    catalog.add_model("lab/echo", base_url=server.url)
    assert chat.ask(sessions.create("x"), "hi", model="lab/echo").content == "hi"
    monkeypatch.setenv("LAB_KEY", "sk-lab")
    catalog.edit_model("lab/echo", api_key_env="LAB_KEY")
    chat.ask(sessions.create("y"), "hi", model="lab/echo")
    assert [body["_key"] for body in server.requests] == ["Bearer none", "Bearer sk-lab"]


def test_a_price_set_on_the_model_is_charged(database: db.Database) -> None:
    catalog.add_model("echo/paid", cost_per_1k_input_tokens=2_000_000, cost_per_1k_output_tokens=4_000_000)
    reply = chat.ask(sessions.create("x"), "one two three", model="echo/paid")
    assert (reply.cost, reply.cost_source) == (3 * 2_000 + 3 * 4_000, "model")


def test_a_reported_cost_comes_before_a_price(server: ChatServer, database: db.Database) -> None:
    catalog.add_model("openai/cost", cost_per_1k_input_tokens=1, cost_per_1k_output_tokens=1)
    reply = chat.ask(sessions.create("x"), "hi", model="openai/cost")
    assert (reply.cost, reply.cost_source) == (1_250_000, "provider")


def test_a_large_reply_is_stored_once_settled(database: db.Database) -> None:
    session = sessions.create("x", model="echo/echo")
    text = "large " * 20_000 + "end"
    assert chat.ask(session, text).content == text
    assert database.execute_sql("SELECT count(*) FROM texts").fetchone() == (1,)


# Recovery


def unfinished(owner: str, lease_s: float) -> Message:
    from datetime import timedelta

    session = sessions.create("x")
    sessions.append(session, "user", "hello")
    lease = now() + timedelta(seconds=lease_s)
    with growing(session.id) as end:
        held: Message = end.add("assistant", "half", status="streaming", owner=owner, lease_expires_at=lease)
    return held


def test_what_a_dead_process_left_is_recovered(database: db.Database) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = owners.me().rsplit("/", 2)[0]
    message = unfinished(f"{host}/{dead.pid}/1-1", 60)
    assert [found.id for found in chat.recover()] == [message.id]
    found = sessions.get_message(message.uuid)
    assert (found.status, found.content, found.owner) == ("interrupted", "half", None)
    assert sessions.by_id(found.session_id).status == "interrupted"
    assert chat.recover() == []


def test_a_live_owners_row_is_never_touched(database: db.Database) -> None:
    unfinished(owners.me(), -1000)
    assert chat.recover() == []


def test_a_reused_process_number_is_not_mistaken_for_its_owner(database: db.Database) -> None:
    host, pid, _ = owners.me().rsplit("/", 2)
    unfinished(f"{host}/{pid}/another-start", 60)
    assert len(chat.recover()) == 1


def test_another_hosts_row_is_taken_over_after_its_lease(database: db.Database) -> None:
    unfinished("elsewhere/1/1", 60)
    assert chat.recover() == []
    unfinished("elsewhere/1/1", -1)
    assert len(chat.recover()) == 1


def test_a_long_stream_renews_its_lease_and_commits_each_second(
    server: ChatServer, database: db.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second word comes while nobody reads, and is committed all the same."""
    from llmsess import recording

    monkeypatch.setattr(recording, "FLUSH_S", 0.1)
    session = sessions.create("x", model="openai/slow")
    stream = chat.stream(session, "hello")
    next(stream)
    other = db.driver.connect(database.database)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        status, content = other.execute("SELECT status, content FROM messages WHERE role = 'assistant'").fetchone()
        if content:
            break
        time.sleep(0.05)
    assert (status, content) == ("streaming", "Light ")
    other.close()
    assert "".join(stream).startswith("scatters")


def test_two_kibibytes_are_committed_at_once(server: ChatServer, database: db.Database) -> None:
    session = sessions.create("x", model="openai/long")
    other = db.driver.connect(database.database)
    received = 0
    for text in chat.stream(session, "hello"):
        received += len(text)
        stored = other.execute("SELECT length(content) FROM messages WHERE role = 'assistant'").fetchone()[0]
        assert received - stored <= 2048 + 10
        if received > 12_000:
            break
    other.close()


def test_on_a_full_disk_the_reply_is_kept_aside_and_can_be_restored(path: Path, server: ChatServer) -> None:
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import llmsess
from llmsess import chat, db, errors, sessions
llmsess.connect({str(path)!r})
session = sessions.create("full", model="echo/echo")
chat.ask(session, "warm up")
original = sessions.growing
stream = chat.stream(session, "word " * 8000)
first = next(stream)
import os
size = max(os.path.getsize(db.database.database), os.path.getsize(db.database.database + "-wal"))
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    for text in stream: pass
except errors.UnsavedReply as error:
    print(error.path, error.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    kept, status = done.stdout.split()
    assert status == "5"
    assert json.loads(Path(kept).read_text())["fields"]["content"] == "word " * 8000
    assert Path(kept).stat().st_mode & 0o777 == 0o600
    llmsess_connected = db.connect(path)
    chat.recover()
    message = settling.restore_aside(kept)
    assert (message.status, message.content) == ("complete", "word " * 8000)
    assert not Path(kept).exists()
    assert maintenance.check().findings == []
    llmsess_connected.close()


def test_a_side_file_that_is_none_is_refused(database: db.Database, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound):
        settling.restore_aside(tmp_path / "absent.json")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(errors.InvalidInput):
        settling.restore_aside(tmp_path / "x.json")


@pytest.mark.parametrize(
    "change",
    [
        {"fields": {}}, {"fields": 5}, {"message": 5}, {"completed_at": 5}, {"completed_at": "2026-01-01T00:00:00"}, {"status": None},
        {"status": "pending"}, {"content": {}}, {"colour": "red"}, {"input_tokens": "x"}, {"usage": []},
    ],
    ids=str,
)  # fmt: skip
def test_an_odd_side_file_is_refused_and_kept(database: db.Database, tmp_path: Path, change: dict[str, object]) -> None:
    session = sessions.create("x")
    reply = sessions.append(session, "assistant", "half", status="interrupted")
    fields = {
        "status": "complete",
        "content": "whole",
        "completed_at": "2026-01-01T00:00:00.000000Z",
        "usage": {"a": 1},
    }
    kept: dict[str, object] = {"message": reply.uuid, "fields": fields}
    kept |= change if change.keys() <= kept.keys() else {"fields": fields | change}
    file = tmp_path / "aside.json"
    file.write_text(json.dumps(kept))
    with pytest.raises(errors.InvalidInput, match=r"aside\.json is no unsaved reply|a reference to a message"):
        settling.restore_aside(file)
    assert file.exists() and sessions.path(session)[-1].content == "half"


def test_a_side_file_never_replaces_a_settled_reply(database: db.Database, tmp_path: Path) -> None:
    session = sessions.create("x")
    done, open_ = (
        sessions.append(session, "assistant", "half", status=status) for status in ("complete", "interrupted")
    )
    database.execute_sql("UPDATE sessions SET status = 'interrupted'")
    fields = {"status": "complete", "content": "whole", "completed_at": "2026-01-01T00:00:00.000000Z"}
    file = tmp_path / "aside.json"
    file.write_text(json.dumps({"message": done.uuid, "fields": fields}))
    with pytest.raises(errors.Conflict, match="settled already"):
        settling.restore_aside(file)
    file.write_text(json.dumps({"message": open_.uuid, "fields": fields}))
    assert settling.restore_aside(file).content == "whole"
    assert sessions.get(session).status == "active"
    assert not file.exists()


def test_a_session_deleted_while_it_streams_stays_deleted(database: db.Database, tmp_path: Path) -> None:
    session = sessions.create("gone", model=script(tmp_path, 4, 0.01))
    stream = chat.stream(session, "hi")
    next(stream)
    branch = sessions.fork(session)
    sessions.delete(session)
    stream.close()
    assert [row["title"] for row in sessions.find()] == ["gone (fork)"]
    assert sessions.path(branch)[-1].status == "interrupted"
    sessions.delete(branch)
    assert Message.select().count() == 0
