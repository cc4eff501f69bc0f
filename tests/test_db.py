"""Opening: new, newer, foreign, corrupt, read-only, on a network; versions, backups, locks."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import llmsess
from llmsess import db, errors, filesystems
from llmsess.settings import Settings


def test_a_new_database_is_private_and_has_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "new.db"
    database = llmsess.connect(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    found = {name: database.pragma(name) for name in ("journal_mode", "synchronous", "foreign_keys", "page_size")}
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "page_size": 8192}
    assert database.pragma("application_id") == 0x6C6C6D73
    assert (database.pragma("trusted_schema"), database.pragma("mmap_size")) == (0, 0)
    database.close()


def test_connect_twice_is_one_connection(path: Path) -> None:
    first = llmsess.connect(path).connection()  # type: ignore[no-untyped-call]
    assert llmsess.connect(path).connection() is first  # type: ignore[no-untyped-call]
    assert llmsess.connect(f"sqlite:///{path}").connection() is first  # type: ignore[no-untyped-call]
    db.database.close()


def test_settings_prefer_option_over_environment_over_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLMSESS_DB", "/env.db")
    assert Settings.load("/option.db").db == Path("/option.db")
    assert Settings.load().db == Path("/env.db")
    monkeypatch.delenv("LLMSESS_DB")
    assert Settings.load().db == tmp_path / "home" / "llmsess.db"
    monkeypatch.delenv("LLMSESS_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert Settings.load().db.name == "llmsess.db"


def refused(path: Path, kind: type[errors.DatabaseProblem], words: str) -> None:
    with pytest.raises(kind) as caught:
        llmsess.connect(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 5
    db.database.close()


def test_a_newer_schema_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version = 99")
    raw.close()
    refused(path, errors.DatabaseNewer, "upgrade llmsess")


def test_a_database_of_another_program_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE theirs (x)")
    raw.close()
    before = path.read_bytes()
    refused(path, errors.DatabaseForeign, "another program")
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database at all, but long enough to have a header" * 20)
    before = path.read_bytes()
    refused(path, errors.DatabaseCorrupt, "not a database")
    assert path.read_bytes() == before


def test_a_read_only_file_is_refused(path: Path) -> None:
    path.chmod(0o444)
    refused(path, errors.DatabaseReadOnly, "check the permissions")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, errors.DatabaseForeign, "folder")


def test_a_truncated_file_is_refused_or_found(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    done = subprocess.run(
        [sys.executable, "-m", "llmsess", "--db", str(path), "db", "check"], capture_output=True, text=True
    )
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr


def test_an_upgrade_copies_the_database_first_and_keeps_five(path: Path) -> None:
    llmsess.connect(path)
    for _ in range(4):
        db.rollback()
        db.migrate()
    backups = sorted((path.parent / "backups").iterdir())
    assert len(backups) == 5  # of four times down and up, the first removed
    for _ in range(3):
        db.rollback()
        db.migrate()
    backups = sorted((path.parent / "backups").iterdir())
    assert len(backups) == db.BACKUPS_KEPT
    assert stat.S_IMODE(backups[0].stat().st_mode) == 0o600
    db.database.close()
    copy = llmsess.connect(backups[-1])
    assert db.schema_version() in (5, 6)
    copy.close()


def test_rollback_of_nothing_is_a_conflict(path: Path) -> None:
    llmsess.connect(path)
    for _ in range(db.SCHEMA_VERSION):
        db.rollback()
    with pytest.raises(errors.Conflict, match="no migration"):
        db.rollback()
    db.database.close()


def test_wal_is_set_again_on_a_copy_that_lost_it(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA journal_mode = delete")
    raw.close()
    assert llmsess.connect(path).pragma("journal_mode") == "wal"
    db.database.close()


@pytest.mark.parametrize(
    ("kind", "network"),
    [
        ("nfs4", True),
        ("cifs", True),
        ("fuse.sshfs", True),
        ("virtiofs", True),
        ("9p", True),
        ("ext4", False),
        ("apfs", False),
    ],
)
def test_network_file_systems_are_told_from_the_mounts(tmp_path: Path, kind: str, network: bool) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x /mnt/the\\040share {kind} rw 0 0\n")
    found = filesystems.file_system("/mnt/the share/llm.db", str(mounts))
    assert found == kind
    assert filesystems.is_network(found) is network
    assert filesystems.file_system("/mnt/theother/llm.db", str(mounts)) == "ext4"


def test_on_a_network_file_system_the_journal_is_the_safe_one(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    llmsess.connect(path)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/x {tmp_path} nfs rw 0 0\n")
    db._set_journal_mode(str(mounts))
    assert db.database.pragma("journal_mode") == "delete"
    assert "network file system" in caplog.text
    db.database.close()


def test_open_foreign_reads_and_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "their logs #1.db"
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE theirs (x)")
    raw.close()
    theirs = db.open_foreign(path)
    assert theirs.execute("SELECT count(*) FROM theirs").fetchone() == (0,)
    with pytest.raises(db.driver.OperationalError, match="readonly"):
        theirs.execute("INSERT INTO theirs VALUES (1)")
    theirs.close()
    with pytest.raises(errors.NotFound):
        db.open_foreign(tmp_path / "absent.db")
    (tmp_path / "bad.db").write_text("x" * 5000)
    with pytest.raises(errors.DatabaseCorrupt):
        db.open_foreign(tmp_path / "bad.db")


def test_a_new_file_under_two_names_is_made_once(tmp_path: Path) -> None:
    real = tmp_path / "real.db"
    real.touch()
    (tmp_path / "link.db").symlink_to(real)
    command = [sys.executable, "-m", "llmsess"]
    running = [
        subprocess.Popen([*command, "--db", str(tmp_path / name), "create", f"{name} {i}"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        for i in range(4)
        for name in ("real.db", "link.db")
    ]  # fmt: skip
    assert [process.communicate()[1] for process in running] == [b""] * 8
    database = llmsess.connect(tmp_path / "link.db")
    assert database.execute_sql("SELECT count(*) FROM sessions").fetchone() == (8,)
    database.close()


def test_damage_to_the_schema_is_told(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE", b"\x8d\xff" * 6))
    for args in (["list"], ["db", "check"], ["db", "info"], ["stats", "summary"], ["chat", "x", "-m", "echo/echo"]):
        done = subprocess.run(
            [sys.executable, "-m", "llmsess", "--db", str(path), *args], capture_output=True, text=True
        )
        assert (done.returncode, "Traceback" in done.stderr) == (5, False), done


@pytest.mark.parametrize(
    ("name", "args", "status"),
    [
        ("~nosuchuser/x.db", ["list"], 2), ("x" * 5_000, ["list"], 5), ("x" * 5_000, ["db", "info"], 5), ("x" * 5_000, ["db", "check"], 5),
        ("locked.db", ["list"], 5), ("x.db", ["import", "auto", "y" * 5_000], 2), ("x.db", ["chat", "hi", "-m", "echo/echo", "-s", "@~nosuchuser/x"], 2),
        ("x.db", ["chat", "hi", "-m", "scripted/~nosuchuser/x"], 2),
    ],
)  # fmt: skip
def test_paths_that_cannot_be_are_one_line(tmp_path: Path, name: str, args: list[str], status: int) -> None:
    (tmp_path / "locked.db.lock").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "llmsess", "--db", name, *args], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr[:500]


def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    code = f"import os; os.chdir({str(folder)!r}); os.rmdir({str(folder)!r}); from llmsess import cli; cli.main(['--db', 'x.db', 'list'])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (5, 1), done.stderr


def test_other_urls_are_refused() -> None:
    with pytest.raises(errors.InvalidInput, match="postgresql"):
        llmsess.connect("postgresql://localhost/x")


def test_a_locked_database_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "BUSY_TIMEOUT_S", 0.2)
    database = llmsess.connect(path)
    other = db.driver.connect(str(path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(errors.DatabaseLocked, match="stayed locked"), database.atomic():
        pass
    other.close()
    database.close()


def test_a_full_disk_is_told_and_nothing_saved_is_lost(path: Path) -> None:
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
import llmsess
from llmsess import errors, sessions
llmsess.connect({str(path)!r})
session = sessions.create("full")
size = 3_000_000
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
saved = 0
try:
    for i in range(10_000):
        sessions.append(session, "user", "word " * 400)
        saved += 1
except errors.DatabaseFull as error:
    print(saved, len(sessions.path(session)), error.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    saved, read, status = map(int, done.stdout.split())
    assert saved == read > 10
    assert status == 5
    llmsess.connect(path)
    from llmsess import maintenance

    assert maintenance.check().findings == []
    db.database.close()
