"""Automatic snapshots: only of what changed, never in the way, never a traceback, ended with their block."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmsess import chat, db, errors, maintenance, sessions, snapshots
from llmsess.models import Session

PATIENCE_S = 10.0  # for a busy machine
EVERY_S = 0.05


def until(true: Callable[[], object]) -> None:
    """Wait for something that a thread does."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def talk(database: db.Database) -> Session:
    session = sessions.create("Talk", model="echo/echo")
    chat.ask(session, "one")
    return session


def types() -> list[str]:
    return [row["type"] for row in snapshots.find()]


def test_only_what_changed_is_saved_and_only_the_newest_stay(talk: Session) -> None:
    with snapshots.autosave(talk, every_s=EVERY_S, keep=2) as saver:
        time.sleep(EVERY_S * 4)
        assert types() == [], "nothing was said since it began"
        for prompt in ("two", "three", "four"):
            chat.ask(talk, prompt)
            until(lambda: saver.latest is not None and saver.latest.head_id == sessions.get(talk).head_id)
        time.sleep(EVERY_S * 4)
        assert types() == ["auto_save"] * 2, "and none of the same twice"
        sessions.tag(talk, "x")
        snapshots.create(talk, name="mine")
        time.sleep(EVERY_S * 4)
        assert types() == ["manual", "auto_save", "auto_save"]
        chat.undo(talk)
        until(lambda: types() == ["auto_save", "manual", "auto_save"])
    assert saver.error is None and saver.thread is not None and not saver.thread.is_alive()
    assert [len(snapshots.path(row["uuid"])) for row in snapshots.find()] == [6, 8, 8]
    assert maintenance.check().findings == []


def test_a_reply_that_was_coming_is_saved_when_it_is_whole(talk: Session) -> None:
    with snapshots.autosave(talk, every_s=EVERY_S):
        turn = chat.stream(talk, "two three four")
        next(turn)
        until(lambda: snapshots.count() == 1)
        assert [message.content for message in snapshots.path("@last")] == ["one", "one", "two three four"]
        list(turn)
        until(lambda: snapshots.count() == 2)
    assert [message.content for message in snapshots.path("@last")][-1] == "two three four"
    assert len(snapshots.path("@last")) == 4


def test_damage_is_no_traceback_and_no_end(talk: Session, capfd: pytest.CaptureFixture[str]) -> None:
    with snapshots.autosave(talk, every_s=EVERY_S) as saver:
        message = chat.ask(talk, "two")
        for odd in (
            '{"context" bad',
            '"context"',
            '{"sent_with": {"context": "last:x"}}',
            '{"sent_with": {"context": 5}}',
        ):
            db.database.execute_sql("UPDATE messages SET metadata = ? WHERE id = ?", (odd, message.id))
            snapshots.prune(types=["auto_save"])
            saver.seen = None
            until(lambda: snapshots.count() == 1)
        db.database.execute_sql("UPDATE messages SET metadata = NULL")
    assert capfd.readouterr().err == ""
    with saver:
        assert saver.thread is not None and saver.thread.is_alive(), "it can be used again"


def test_what_a_person_saved_just_now_is_not_saved_again(talk: Session) -> None:
    with snapshots.autosave(talk, every_s=EVERY_S):
        chat.ask(talk, "two")
        snapshots.create(talk)
        time.sleep(EVERY_S * 6)
    assert types() in (["manual"], ["manual", "auto_save"])
    saver = snapshots.Autosave(lambda: talk, 1, 1)
    assert saver.save() is None and types() in (["manual"], ["manual", "auto_save"])


def test_it_ends_with_its_block_also_by_an_error(talk: Session) -> None:
    with pytest.raises(ZeroDivisionError), snapshots.autosave(talk, every_s=1000) as saver:
        _ = 1 / 0
    assert saver.thread is not None and not saver.thread.is_alive()
    assert [thread.name for thread in threading.enumerate() if "autosave" in thread.name] == []


def test_a_deleted_session_and_a_closed_database_are_no_traceback(
    talk: Session, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with snapshots.autosave(talk, every_s=EVERY_S) as saver:
        chat.ask(talk, "two")
        until(lambda: saver.latest)
        sessions.delete(talk)
        until(lambda: saver.error)
        assert isinstance(saver.error, errors.NotFound)
        db.connect(tmp_path / "other.db")
        time.sleep(EVERY_S * 3)
        assert snapshots.count() == 0
    assert capfd.readouterr().err == ""


def test_it_waits_for_no_lock_and_holds_none_up(talk: Session, path: Path) -> None:
    with snapshots.autosave(talk, every_s=EVERY_S) as saver:
        chat.ask(talk, "two")
        until(lambda: saver.latest)
        other = db.driver.connect(str(path), isolation_level=None)
        sessions.append(talk, "user", "three")
        other.execute("BEGIN IMMEDIATE")
        until(lambda: saver.error)
        assert isinstance(saver.error, errors.DatabaseLocked)
        other.execute("ROLLBACK")
        other.close()
        until(lambda: saver.error is None)
        until(lambda: len(snapshots.path("@last")) == 5)
        began = time.monotonic()
    assert time.monotonic() - began < 5


def test_it_is_not_in_the_way_of_writers(talk: Session) -> None:
    with snapshots.autosave(talk, every_s=0.001, keep=3) as saver:
        for i in range(200):
            sessions.append(talk, "user", f"more {i}")
        until(lambda: saver.latest)
    assert saver.error is None or isinstance(saver.error, errors.DatabaseLocked)
    assert len(sessions.path(talk)) == 202
    assert 1 <= snapshots.count() <= 3
    assert maintenance.check().findings == []


@pytest.mark.parametrize("given", [{"every_s": 0}, {"every_s": -1}, {"every_s": float("nan")}, {"every_s": "5"},
                                   {"every_s": 10.0**12}, {"every_s": 1e-9}, {"keep": 0}, {"keep": -1}, {"keep": 1.5}])  # fmt: skip
def test_odd_values_are_refused(talk: Session, given: dict[str, float]) -> None:
    with pytest.raises(errors.InvalidInput):
        snapshots.autosave(talk, **given)  # type: ignore[arg-type]


LEFT = """
import sys, time, llmsess
from llmsess import sessions, snapshots
llmsess.connect(sys.argv[1])
saver = snapshots.autosave(sessions.get("Talk"), every_s=0.01)
saver.__enter__()
sessions.append("Talk", "user", "more")
while saver.latest is None: time.sleep(0.01)
{end}
"""


@pytest.mark.parametrize(("end", "status"), [("", 0), ("raise SystemExit(3)", 3), ("import os; os._exit(4)", 4)])
def test_a_process_ends_at_once_though_its_block_did_not(talk: Session, path: Path, end: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEFT.format(end=end), str(path)], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (status, "")
