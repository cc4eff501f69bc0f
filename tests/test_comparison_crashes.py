"""Kills of a comparison at every point and in flight, and two processes at once: all its cells, each paid once."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest

from llmsess import comparisons, crashpoints, db, maintenance
from llmsess.models import ComparisonResult
from tests.conftest import FUZZ
from tests.server import ChatServer
from tests.workers import Worker


def write(folder: Path, *, cases: int, repeats: int, variants: int = 3, judge: bool = False) -> str:
    """Write a definition whose every request is another prompt, and return its path."""
    value = {
        "name": "grid", "variants": [{"name": f"v{n}", "model": "openai/echo", "prompt": f"v{n}: {{{{ q }}}}"} for n in range(variants)],
        "cases": [{"q": f"question {n}"} for n in range(cases)], "repeats": repeats, "limits": {"concurrency": 4},
        "scorers": ["contains: question", "starts-with: v1"],
    }  # fmt: skip
    if judge:
        value |= {"judge": "openai/echo", "scorers": ["llm-rubric: good"]}
    path = folder / "grid.json"
    path.write_text(json.dumps(value))
    return str(path)


def finished(path: Path, spec: str) -> None:
    status, err = Worker(path, "compare", "run", spec).ended()
    assert (status, "Traceback" in err) == (0, False), err


def checked(path: Path, cells: int, scores: int) -> None:
    """Look whether the comparison is whole: its cells, their answers and scores, and the database."""
    db.connect(path)
    found = comparisons.summary("grid")
    assert (found.cells, found.answered, found.failed, found.group.status) == (cells, cells, 0, "done")
    for cell in comparisons.stream_cells(found.group):
        case = comparisons.case_of(found.group, cell.case)
        assert cell.content == f"{cell.variant}: {case.variables['q']}"
    assert ComparisonResult.select().count() == scores
    assert db.database.execute_sql("SELECT count(*) FROM comparison_sessions WHERE session_id IS NULL").fetchone() == (
        0,
    )
    assert db.database.execute_sql("SELECT count(*) FROM comparison_sessions WHERE item_id IS NULL").fetchone() == (0,)
    assert maintenance.check().findings == []
    db.database.close()


POINTS = [*crashpoints.POINTS["comparison"][:-1], "batch.staged", "batch.entering", "batch.intended", "batch.settling"]


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_each_point_is_mended_by_the_same_command(
    path: Path, server: ChatServer, tmp_path: Path, point: str
) -> None:
    spec = write(tmp_path, cases=5, repeats=1)
    assert Worker(path, "compare", "run", spec, crash=f"{point}:KILL").ended()[0] == -signal.SIGKILL
    finished(path, spec)
    checked(path, 15, 30)
    calls = server.calls()
    assert sum(count - 1 for count in calls.values()) <= (4 if point in ("batch.intended", "batch.settling") else 0)
    paid = calls.total()
    finished(path, spec)
    assert server.calls().total() == paid


def test_three_variants_by_fifty_cases_by_two_repeats_survive_kills_and_end_with_300_cells(
    path: Path, server: ChatServer, tmp_path: Path
) -> None:
    spec, chance = write(tmp_path, cases=50, repeats=2), random.Random(7)
    for stop in sorted(chance.sample(range(5, 280), 3 * min(FUZZ, 4))):
        worker = Worker(path, "compare", "run", spec)
        server.on_request = lambda number, worker=worker, stop=stop: worker.kill() if number == stop else None
        assert worker.ended()[0] == -signal.SIGKILL
    server.on_request = None
    finished(path, spec)
    checked(path, 300, 600)
    assert 300 <= server.calls().total() <= 300 + 4 * 3 * min(FUZZ, 4)


def test_two_processes_share_one_comparison(path: Path, server: ChatServer, tmp_path: Path) -> None:
    spec = write(tmp_path, cases=20, repeats=1)
    for status, err in [one.ended() for one in [Worker(path, "compare", "run", spec) for _ in range(3)]]:
        assert (status, "Traceback" in err, "locked" in err) == (0, False, False), err
    checked(path, 60, 120)
    assert set(server.calls().values()) == {1}


def test_ctrl_c_keeps_what_is_paid(path: Path, server: ChatServer, tmp_path: Path) -> None:
    spec = write(tmp_path, cases=30, repeats=1)
    worker = Worker(path, "compare", "run", spec)
    server.on_request = lambda number: worker.send_signal(signal.SIGINT) if number == 20 else None
    assert worker.ended()[0] == 130
    server.on_request = None
    db.connect(path)
    assert comparisons.get("grid").status == "paused"
    assert 20 <= comparisons.summary("grid").answered < 90
    db.database.close()
    finished(path, spec)
    checked(path, 90, 180)
    assert set(server.calls().values()) == {1}


def test_a_kill_while_judging_asks_no_judge_twice(path: Path, server: ChatServer, tmp_path: Path) -> None:
    spec = write(tmp_path, cases=4, repeats=1, judge=True)
    worker = Worker(path, "compare", "run", spec)
    server.on_request = lambda number: worker.kill() if number == 18 else None  # 12 answers come first
    assert worker.ended()[0] == -signal.SIGKILL
    server.on_request = None
    status, err = Worker(path, "compare", "run", spec).ended()
    assert (status, "Traceback" in err) == (0, False), err
    calls = server.calls()
    assert len(calls) == 24 and sum(count - 1 for count in calls.values()) <= 8
    db.connect(path)
    found = comparisons.summary("grid")
    assert [side.metrics[0].errors for side in found.sides] == [4, 4, 4]  # an echo is no verdict
    db.database.close()


def test_a_kill_while_votes_of_a_judge_are_kept_leaves_none_or_all(
    path: Path, server: ChatServer, tmp_path: Path
) -> None:
    spec = write(tmp_path, cases=3, repeats=1)
    finished(path, spec)
    judge = tmp_path / "judge.json"
    judge.write_text(json.dumps([{"match": "", "content": '{"winner": "second"}'}]))
    command = ("compare", "judge", "grid", "-m", f"scripted/{judge}")
    assert Worker(path, *command, crash="comparison.voting:KILL").ended()[0] == -signal.SIGKILL
    assert votes(path) == 0
    assert Worker(path, *command).ended()[0] == 0
    assert votes(path) == 12  # three cases, two variants against the baseline, both orders


def votes(path: Path) -> int:
    db.connect(path)
    found = len(comparisons.votes(comparisons.get("grid")))
    db.database.close()
    return found
