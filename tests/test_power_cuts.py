"""A power cut at any moment: what was acknowledged is there, and the file is whole."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from llmsess import chat, db, maintenance, sessions, snapshots
from tests import powercut
from tests.conftest import FUZZ

CUTS = 500 * FUZZ
CHECKED = 10  # one of so many images is checked as `db check` does
Acknowledged = list[tuple[int, str, str]]  # length of the log then, table, uuid


def work(rng: random.Random, log: Sequence[object]) -> Acknowledged:
    """Do what people do, and note what was acknowledged when."""
    done: Acknowledged = []

    def note(table: str, uuid: str) -> None:
        done.append((len(log), table, uuid))

    session = sessions.create("Talk", model="echo/echo")
    note("sessions", session.uuid)
    for i in range(60):
        choice = rng.random()
        if choice < 0.5:
            note("messages", sessions.append(session, "user", f"{i} " + "word " * rng.randrange(400)).uuid)
        elif choice < 0.65:
            note("messages", chat.ask(session, f"prompt {i}").uuid)
        elif choice < 0.85:
            note("session_snapshots", snapshots.create(session).uuid)
        elif choice < 0.95 and snapshots.count():
            before = snapshots.restore("@last", in_place=True).before
            if before is not None:
                note("session_snapshots", before.uuid)
        else:
            note("sessions", sessions.fork(session).uuid)
    return done


@contextlib.contextmanager
def on_disk(path: Path, monkeypatch: pytest.MonkeyPatch, name: str, **pragmas: int) -> Iterator[powercut.Disk]:
    """Open the database on a disk of its own."""
    disk = powercut.Disk(name)
    with monkeypatch.context() as patched:
        powercut.put_on(disk, patched, {"wal_autocheckpoint": 30} | pragmas)
        db.connect(path)
        yield disk
        db.database.close()
    disk.unregister()


def lost(files: dict[str, bytes], acknowledged: list[tuple[str, str]], folder: Path, *, whole: bool) -> int:
    """Return how many acknowledged rows are not there; the file must be whole."""
    path = powercut.put_back(files, folder)
    raw = db.driver.connect(str(path))
    try:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        there = {
            table: {row[0] for row in raw.execute(f"SELECT uuid FROM {table}").fetchall()}
            for table in ("messages", "sessions", "session_snapshots")
        }
    finally:
        raw.close()
    if whole:
        db.connect(path)
        chat.recover()
        assert maintenance.check().findings == []
        db.database.close()
    return sum(uuid not in there[table] for table, uuid in acknowledged)


def cut_everywhere(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, cuts: int, **pragmas: int
) -> int:
    """Work on a disk, cut the power at random places, and return how many acknowledged rows were lost in all."""
    rng = random.Random(seed)
    start = {str(path): path.read_bytes()}
    with on_disk(path, monkeypatch, f"powercut{seed}{len(pragmas)}", **pragmas) as disk:
        acknowledged = work(rng, disk.log)
        log = list(disk.log)
    assert sum(event[1] == "sync" for event in log) > 5
    folder = tmp_path / "image"
    folder.mkdir(exist_ok=True)
    missing = 0
    places = [*(place for place, _, _ in acknowledged), *(rng.randrange(1, len(log)) for _ in range(cuts))]
    for number, place in enumerate(rng.sample(places, min(cuts, len(places)))):
        files = powercut.image(start, log[:place], rng if number % 3 else None)
        before = [(table, uuid) for when, table, uuid in acknowledged if when <= place]
        missing += lost(files, before, folder, whole=number % CHECKED == 0)
    return missing


def test_a_power_cut_loses_nothing_that_was_acknowledged(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    assert cut_everywhere(path, tmp_path, monkeypatch, seed, CUTS) == 0


def test_the_disk_shows_what_would_be_lost_without_full(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cut_everywhere(path, tmp_path, monkeypatch, 1, 60, synchronous=1) > 0, "NORMAL loses: the disk forgets"
