"""Kills of a batch at every point: what is paid, what is recorded, what is told; under both policies, in any mix."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from llmsess import batches, crashpoints, db, maintenance
from llmsess.batches import Status
from tests.conftest import FUZZ
from tests.server import ChatServer
from tests.workers import Worker

ITEMS = [f"prompt {i}" for i in range(10)]
AT = 5  # the request, or the passing of a point, at which the process is killed


class Left(NamedTuple):
    """What a job came to: requests that came to the server, further ones for an item, results, unknown items."""

    calls: int
    again: int
    results: int
    unknown: int


def plan(path: Path, policy: str, *, concurrency: int = 1, prompts: list[str] = ITEMS, model: str = "echo") -> None:
    db.connect(path)
    batches.create("job", prompts, model=f"openai/{model}", on_unknown=policy, concurrency=concurrency)
    db.database.close()


worker = Worker


def ended(process: Worker) -> tuple[int, str]:
    """Wait for a process and return its status and what it said on standard error."""
    status, err = process.ended()
    assert "Traceback" not in err, err
    assert "locked" not in err, err
    return status, err


def checked(path: Path) -> Status:
    """Return where the job is, after a look whether everything holds together."""
    db.connect(path)
    state = batches.status("job")
    assert sum(state.counts.values()) == state.total
    run = db.database.execute_sql
    counted = dict(run("SELECT status, count(*) FROM batch_items GROUP BY status").fetchall())
    assert {name: count for name, count in state.counts.items() if count} == counted
    assert run("SELECT count(*) FROM calls").fetchone() == (state.calls,)
    assert run("SELECT count(*) FROM calls WHERE outcome = 'sent'").fetchone() == (0,)
    held = "SELECT count(*) FROM batch_items WHERE lease_owner IS NOT NULL OR status IN ('claimed', 'sent')"
    assert run(held).fetchone() == (0,)
    twice = "SELECT count(*) FROM batch_items WHERE attempts > 0 GROUP BY result_id HAVING count(*) > 1 AND result_id IS NOT NULL"
    assert run(twice).fetchone() is None
    assert run(AFTER_ITS_RESULT).fetchone() == (0,)
    assert maintenance.check().findings == []
    db.database.close()
    return state


AFTER_ITS_RESULT = """
    SELECT count(*) FROM batch_items i JOIN messages r ON r.id = i.result_id
    JOIN messages m ON m.session_id = r.session_id JOIN calls c ON c.message_id = m.id
    WHERE i.status = 'done' AND i.attempts > 0 AND c.started_at > r.completed_at
"""


def left(path: Path, server: ChatServer) -> Left:
    """Return what the job came to; each answer is that of its own prompt."""
    state = checked(path)
    db.connect(path)
    for item in batches.stream_items("job", status="done"):
        assert item.content == item.input["prompt"]
    db.database.close()
    calls = server.calls()
    assert calls.total() <= state.calls
    again = sum(count - 1 for count in calls.values())
    return Left(calls.total(), again, state.counts["done"], state.counts["unknown"])


def killed(path: Path, server: ChatServer, where: str) -> None:
    """Run the job until it is killed there, and once more to its end."""
    first = worker(path, crash="" if where == "in flight" else f"{where}:KILL:{AT}")
    if where == "in flight":
        server.on_request = lambda number: first.kill() if number == AT else None
    assert ended(first)[0] == -signal.SIGKILL
    server.on_request = None
    ended(worker(path))


NOTHING_LOST, UNSENT = Left(10, 0, 10, 0), Left(9, 0, 9, 1)
AGAIN, HELD = Left(11, 1, 10, 0), Left(10, 0, 9, 1)


@pytest.mark.parametrize(
    ("where", "resend", "hold"),
    [
        ("batch.claimed", NOTHING_LOST, NOTHING_LOST),
        ("batch.intending", NOTHING_LOST, NOTHING_LOST),
        ("batch.intended", NOTHING_LOST, UNSENT),
        ("in flight", AGAIN, HELD),
        ("batch.replied", AGAIN, HELD),
        ("batch.settling", AGAIN, HELD),
        ("batch.settled", NOTHING_LOST, NOTHING_LOST),
    ],
)
@pytest.mark.parametrize("policy", ["resend", "hold"])
def test_a_kill_at_each_point_costs_what_the_policy_says(
    path: Path, server: ChatServer, where: str, policy: str, resend: Left, hold: Left
) -> None:
    plan(path, policy)
    killed(path, server, where)
    assert left(path, server) == (resend if policy == "resend" else hold)


def test_a_kill_while_another_recovers_loses_nothing(path: Path, server: ChatServer) -> None:
    plan(path, "resend", concurrency=4)
    assert ended(worker(path, crash="batch.intended:KILL:2"))[0] == -signal.SIGKILL
    assert ended(worker(path, crash="batch.recovering:KILL"))[0] == -signal.SIGKILL
    assert ended(worker(path, "batch", "status", "job", crash="batch.recovering:KILL"))[0] == -signal.SIGKILL
    assert ended(worker(path))[0] == 0
    assert left(path, server).results == 10


def test_a_kill_in_the_pause_after_a_refusal_pays_nothing_twice(path: Path, server: ChatServer) -> None:
    plan(path, "hold", model="busy-3-429", concurrency=2)
    assert ended(worker(path, crash="batch.refused:KILL:2"))[0] == -signal.SIGKILL
    ended(worker(path))
    state = checked(path)
    assert state.counts["done"] + state.counts["unknown"] == 10
    assert state.counts["unknown"] <= 2


def test_a_kill_at_a_renewal_of_leases(path: Path, server: ChatServer) -> None:
    script = "from llmsess import owners, cli; owners.RENEW_S = 0; cli.main(['batch', 'run', 'job'])"
    plan(path, "resend")
    env = os.environ | {"LLMSESS_DB": str(path), "LLMSESS_CRASH": "batch.renewed:KILL:3"}
    done = subprocess.run([sys.executable, "-c", script], env=env, stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert ended(worker(path))[0] == 0
    assert left(path, server).results == 10


@pytest.mark.parametrize("point", ["batch.staged", "batch.entering"])
def test_a_kill_while_a_batch_is_planned_leaves_none(path: Path, tmp_path: Path, point: str) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(ITEMS))
    create = ("batch", "create", "job", str(prompts), "-m", "echo/echo")
    assert ended(worker(path, *create, crash=f"{point}:KILL"))[0] == -signal.SIGKILL
    db.connect(path)
    assert batches.count() == 0
    db.database.close()
    assert ended(worker(path, *create))[0] == 0
    assert checked(path).total == 10


def test_a_kill_while_results_are_exported_leaves_the_old_file(path: Path, tmp_path: Path, server: ChatServer) -> None:
    plan(path, "hold")
    assert ended(worker(path))[0] == 0
    file = tmp_path / "out.jsonl"
    file.write_text("before")
    export = ("batch", "export", "job", "-o", str(file), "--yes")
    assert ended(worker(path, *export, crash="batch.exporting:KILL"))[0] == -signal.SIGKILL
    assert file.read_text() == "before"
    assert ended(worker(path, *export))[0] == 0
    assert len(file.read_text().splitlines()) == 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_is_on_its_way_come_back(path: Path, server: ChatServer, number: signal.Signals) -> None:
    plan(path, "hold", concurrency=2)
    process = worker(path)

    def interrupt(count: int) -> None:
        if count == 4:
            process.send_signal(number)
            time.sleep(0.3)

    server.on_request = interrupt
    assert ended(process)[0] == 130
    state = checked(path)
    assert state.counts["unknown"] == 0
    assert 4 <= state.counts["done"] < 10
    assert state.counts["done"] == server.calls().total()
    server.on_request = None
    assert ended(worker(path))[0] == 0
    assert left(path, server) == NOTHING_LOST


def test_a_second_ctrl_c_gives_up_what_is_on_its_way(path: Path, server: ChatServer) -> None:
    plan(path, "hold", concurrency=2)
    process = worker(path)

    def interrupt(count: int) -> None:
        if count == 2:
            for _ in range(2):
                process.send_signal(signal.SIGINT)
                time.sleep(0.3)
        time.sleep(5)

    server.on_request = interrupt
    began = time.monotonic()
    assert ended(process)[0] == 130
    assert time.monotonic() - began < 5
    state = checked(path)
    assert (state.counts["unknown"], state.counts["todo"]) == (2, 8)


def ran_with_kills(path: Path, kills: int, seed: int, longest_s: float, at_once: int = 1) -> int:
    """Run the job, killing its processes at random moments, until it has an end; return how many were killed."""
    moments, done = random.Random(seed), 0
    while True:
        running = [worker(path) for _ in range(at_once)]
        if done < kills:
            time.sleep(moments.uniform(0.2, longest_s))
            for process in running:
                process.kill()
        statuses = [ended(process)[0] for process in running]
        done += sum(status == -signal.SIGKILL for status in statuses)
        if not any(status == -signal.SIGKILL for status in statuses) and done >= kills:
            return done
        if all(status in (0, 6) for status in statuses):
            return done


def test_a_job_that_is_killed_ten_times_ends_with_all_results(path: Path, server: ChatServer) -> None:
    concurrency, prompts = 8, [f"prompt {i}" for i in range(1000)]
    plan(path, "resend", concurrency=concurrency, prompts=prompts)
    kills = ran_with_kills(path, 10, seed=7, longest_s=1.2)
    state, calls = checked(path), server.calls()
    assert calls.total() <= state.calls
    assert state.calls - calls.total() <= kills * concurrency
    assert kills == 10
    assert state.counts["done"] == 1000
    assert calls.total() <= 1000 + kills * concurrency
    db.connect(path)
    assert all(item.content == item.input["prompt"] for item in batches.stream_items("job", status="done"))
    db.database.close()


@pytest.mark.parametrize(("policy", "at_once"), [("resend", 2), ("hold", 2)])
def test_100_kills_of_workers_pay_for_no_result_twice(
    path: Path, server: ChatServer, policy: str, at_once: int
) -> None:
    kills, seed, concurrency = 100 * FUZZ, random.randrange(10**6), 4
    prompts = [f"prompt {i}" for i in range(600 * FUZZ)]
    plan(path, policy, concurrency=concurrency, prompts=prompts)
    command = [sys.executable, "-m", "tests.batchkilling", str(path), *map(str, (seed, kills, at_once))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300 * FUZZ)
    assert int(done.stdout) >= kills, f"seed {seed}: {done.stderr}"
    state, calls = checked(path), server.calls()
    told = f"seed {seed}, {done.stdout} kills, {state}, {calls.total()} requests"
    assert calls.total() <= state.calls <= calls.total() + int(done.stdout) * concurrency, told
    assert state.counts["done"] + state.counts["unknown"] == len(prompts), told
    if policy == "resend":
        assert state.counts["unknown"] == 0, told
    else:
        assert max(calls.values()) == 1, told
        assert state.counts["unknown"] <= int(done.stdout) * concurrency, told


def test_every_point_of_a_batch_is_tried() -> None:
    files = ("test_batch_crashes.py", "test_batch_services.py", "test_batch_results.py")
    here = "".join(Path(__file__).with_name(name).read_text() for name in files)
    assert [point for point in crashpoints.POINTS["batch"] if point not in here] == []
