"""A power cut: a file system that forgets what was not synced, and llmsess' own database on it.

SQLite (apsw's) runs on a VFS that logs every write, sync and cut of length. `image()` rebuilds the files as a power cut at
some place of the log may leave them: what was synced is there; of what was not, any part may be, or none.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import pytest

from llmsess import db

SECTOR_BYTES = 512
Event = tuple[str, str, int, bytes]  # file, what (write, truncate, sync), offset or length, data


class Disk(apsw.VFS):
    """The VFS; `log` is what reached the files, in order."""

    def __init__(self, name: str) -> None:
        self.name, self.log = name, list[Event]()
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> Any:
        return _File(self.log, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.log.append((filename, "truncate", 0, b""))
        super().xDelete(filename, syncdir)


class _File(apsw.VFSFile):
    def __init__(self, log: list[Event], name: Any, flags: list[int]) -> None:
        self.log = log
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:
        self.log.append((self.path, "write", offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, size: int) -> None:
        self.log.append((self.path, "truncate", size, b""))
        super().xTruncate(size)

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self.log.append((self.path, "sync", 0, b""))


@dataclass
class _Cursor:
    """What peewee wants of a cursor, by apsw's."""

    connection: Any
    cursor: Any
    lastrowid: int = 0
    rowcount: int = -1
    description: Any = None
    rows: list[Any] = field(default_factory=list)

    def execute(self, sql: str, values: Any = ()) -> _Cursor:
        before = self.connection.total_changes()
        found = self.cursor.execute(sql, values)
        try:
            self.description = found.get_description()
        except apsw.ExecutionCompleteError:
            self.description = None
        self.rows = list(found)
        self.lastrowid = self.connection.last_insert_rowid()
        self.rowcount = self.connection.total_changes() - before
        return self

    def fetchone(self) -> Any:
        return self.rows.pop(0) if self.rows else None

    def fetchall(self) -> list[Any]:
        rows, self.rows = self.rows, []
        return rows

    def close(self) -> None:
        self.cursor.close()


class _Connection:
    """What llmsess wants of a connection, by apsw's; alone with its file, for then WAL needs no shared memory."""

    def __init__(self, path: str, vfs: str) -> None:
        self.apsw = apsw.Connection(path, vfs=vfs)
        self.apsw.execute("PRAGMA locking_mode = EXCLUSIVE")

    @property
    def in_transaction(self) -> bool:
        return bool(self.apsw.in_transaction)

    def cursor(self) -> _Cursor:
        return _Cursor(self.apsw, self.apsw.cursor())

    def execute(self, sql: str, values: Any = ()) -> _Cursor:
        return self.cursor().execute(sql, values)

    def close(self) -> None:
        self.apsw.close()


def put_on(disk: Disk, monkeypatch: pytest.MonkeyPatch, pragmas: dict[str, int]) -> None:
    """Let llmsess open its database on the disk, with some pragmas after its own."""

    def connected(self: Any) -> Any:
        connection = _Connection(self.database, disk.name)
        for name, value in (dict(db.PRAGMAS) | pragmas).items():
            connection.execute(f"PRAGMA {name} = {value}")
        return connection

    monkeypatch.setattr(db.Database, "_connect", connected)


def image(start: dict[str, bytes], log: list[Event], rng: random.Random | None) -> dict[str, bytes]:
    """Return the files after a power cut at the end of the log; a generator chooses which unsynced sectors are there."""
    files: dict[str, bytearray] = {path: bytearray(data) for path, data in start.items()}
    last_sync: dict[str, int] = {}
    for place, (path, what, _, _) in enumerate(log):
        if what == "sync":
            last_sync[path] = place
    for place, (path, what, offset, data) in enumerate(log):
        is_synced = place < last_sync.get(path, -1)
        content = files.setdefault(path, bytearray())
        if what == "truncate" and (is_synced or (rng is not None and rng.random() < 0.5)):
            del content[offset:]
        elif what == "write" and is_synced:
            _write(content, offset, data)
        elif what == "write" and rng is not None:
            for first in range(0, len(data), SECTOR_BYTES):
                if rng.random() < 0.5:
                    _write(content, offset + first, data[first : first + SECTOR_BYTES])
    return {path: bytes(content) for path, content in files.items()}


def _write(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def put_back(files: dict[str, bytes], folder: Path) -> Path:
    """Write the files of an image into a folder, made empty, and return the database's path."""
    for old in folder.iterdir():
        old.unlink()
    for path, content in files.items():
        if content:
            (folder / Path(path).name).write_bytes(content)
    return folder / min((Path(path).name for path in files), key=len)
