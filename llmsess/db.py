"""The one database of a process: opening, pragmas, schema versions.

Only this module opens databases. `connect()` is idempotent and migrates; `open_foreign()` opens another tool's file
read-only. Every write transaction is `with database.atomic():`, which begins IMMEDIATE and so never has to upgrade a
lock. Errors of the driver become ours here (`DatabaseLocked`, `DatabaseCorrupt`, ...), except IntegrityError, which
the areas turn into what it means.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import random
import sqlite3 as standard_sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import peewee
from peewee import IntegrityError, SqliteDatabase

from llmsess import crashpoints, errors
from llmsess.filesystems import file_system, is_network
from llmsess.settings import Settings

log = logging.getLogger("llmsess")

SCHEMA_VERSION = 6  # the number of the newest migration
APPLICATION_ID = 0x6C6C6D73  # "llms"
PAGE_SIZE_BYTES = 8192
BUSY_TIMEOUT_S = 30
BACKUPS_KEPT = 5  # automatic ones, made before an upgrade
MIGRATIONS = Path(__file__).parent / "migrations"
PRAGMAS = (
    ("synchronous", 2),  # FULL: NORMAL loses acknowledged commits in a power cut
    ("foreign_keys", 1),
    ("cache_size", -16000),  # 16 MB
    ("temp_store", 2),  # memory
    ("trusted_schema", 0),
    ("mmap_size", 0),  # an I/O error must not become a signal
    ("journal_size_limit", 64 * 1024 * 1024),
)
driver: Any = vars(peewee)["sqlite3"]  # pysqlite3 where it is installed and newer
DRIVER_ERRORS: tuple[type[Exception], ...] = (
    peewee.DatabaseError, driver.Error, standard_sqlite3.Error, UnicodeDecodeError,  # the last of a damaged schema
)  # fmt: skip
TROUBLES: tuple[type[Exception], ...] = (errors.DatabaseProblem, *DRIVER_ERRORS)
_MEANINGS = (
    (("locked", "busy"), errors.DatabaseLocked, "the database {path} stayed locked for {timeout} s"),
    (("malformed", "not a database", "corrupt", "vtable constructor failed", "decode"), errors.DatabaseCorrupt,
     "the database {path} is damaged or not a database: {text}"),
    (("readonly",), errors.DatabaseReadOnly, "the database {path} cannot be written"),
    (("full", "disk i/o error"), errors.DatabaseFull, "the database {path} could not be written: {text}"),
    (("unable to open",), errors.DatabaseProblem, "the database {path} cannot be opened"),
)  # fmt: skip


class Database(SqliteDatabase):
    """peewee's SqliteDatabase, whose errors are ours and whose rollback survives a rollback by SQLite itself."""

    inode = 0  # of the open file

    def translate(self, error: Exception) -> Exception:
        """Return our error for one of the driver's, or the error itself where it has no meaning to a person."""
        text = str(error)
        if isinstance(error, (IntegrityError, driver.IntegrityError)):
            return error
        for words, kind, message in _MEANINGS:
            if any(word in text.lower() for word in words):
                return kind(message.format(path=self.database, text=text, timeout=BUSY_TIMEOUT_S))
        return error

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Run a block whose driver errors shall be ours."""
        try:
            yield
        except DRIVER_ERRORS as error:
            ours = self.translate(error)
            if ours is error:
                raise
            raise ours from error

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        try:
            return super().execute_sql(sql, params)  # type: ignore[no-untyped-call]
        except DRIVER_ERRORS as error:
            ours = self.translate(error)
            if ours is error:
                raise
            raise ours from error

    def driver_connection(self) -> Any:
        """Return the driver's connection of this thread, for what peewee has no word for, as executemany."""
        return self.connection()  # type: ignore[no-untyped-call]

    def connect(self, reuse_if_open: bool = False) -> bool:
        if self.deferred:
            raise errors.DatabaseProblem("no database is open", hint="call llmsess.connect() first")
        return bool(super().connect(reuse_if_open))

    def _connect(self) -> Any:
        if not os.path.exists(self.database):  # _open() has made it: SQLite would make another, readable to all
            raise errors.DatabaseProblem(f"the database {self.database} is gone")
        with self.translated():
            return super()._connect()  # type: ignore[misc]

    def is_there(self) -> bool:
        """Return whether the open file is still the one of that name."""
        try:
            return os.stat(self.database).st_ino == self.inode
        except OSError:
            return False

    def begin(self, lock_type: str | None = None) -> None:
        if not self.deferred and not self.is_there():  # what a file without a name holds is lost with the process
            raise errors.DatabaseProblem(f"the database {self.database} was deleted or replaced while it was open")
        with self.translated():
            super().begin(lock_type)

    def commit(self) -> None:
        with self.translated():
            super().commit()

    def rollback(self) -> None:
        if not self.is_closed() and self.driver_connection().in_transaction:  # a full disk has rolled back already
            super().rollback()

    def close(self) -> bool:
        if not self.is_closed() and not self.in_transaction():
            with contextlib.suppress(errors.DatabaseProblem, *DRIVER_ERRORS):  # a hint to the planner, no promise
                self.execute_sql("PRAGMA optimize")
        return bool(super().close())


database = Database(None, lock_type="IMMEDIATE", field_types={"TIMESTAMPTZ": "TEXT"})

_inherited: list[Any] = []  # a parent's connections: closing one in the child would take the parent's file apart


def _forget_connection() -> None:
    """Leave the parent's connection alone after a fork; the child opens its own with its first statement."""
    if not database.deferred and not database.is_closed():
        _inherited.append(database.driver_connection())
        vars(database)["_state"].reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_connection)


# Opening


def connect(path_or_url: str | os.PathLike[str] | None = None) -> Database:
    """Open the database, making or upgrading it where needed, and return it.

    None means the one of the environment (`LLMSESS_DB`, `LLMSESS_HOME`) or the platform's data folder; also accepted
    are a path and `sqlite:///path`. Calling it again with the same path does nothing. Raises DatabaseNewer,
    DatabaseForeign, DatabaseCorrupt, DatabaseReadOnly, DatabaseLocked.
    """
    with _file_troubles(path_or_url):
        path = _resolve(path_or_url)
        if database.database == str(path) and not database.is_closed() and database.is_there():
            return database
        _open(path)
        version = schema_version()
        if version < SCHEMA_VERSION:
            migrate()
        else:
            _set_journal_mode()
    return database


@contextlib.contextmanager
def _file_troubles(path: object) -> Iterator[None]:
    """Run a block in which trouble with files is trouble with the database."""
    try:
        yield
    except OSError as error:
        name = "of the environment" if path is None else path
        raise errors.DatabaseProblem(f"the database {name} cannot be used: {error}") from error


def open_unchecked(path_or_url: str | os.PathLike[str] | None = None) -> Database:
    """Open an existing database without upgrading it, as `db info`, `db check` and `db rollback` do; return it.

    Raises NotFound if there is no file.
    """
    with _file_troubles(path_or_url):
        path = _resolve(path_or_url)
        if not path.exists():
            raise errors.NotFound("database", str(path), hint="the first command that writes makes it")
        _open(path)
        schema_version()
    return database


def _resolve(path_or_url: str | os.PathLike[str] | None) -> Path:
    text = os.fspath(path_or_url) if path_or_url is not None else None
    if text and "\0" in text:
        raise errors.InvalidInput("a path has no NUL in it")
    if text and "://" in text:
        scheme, _, text = text.partition("://")
        if scheme != "sqlite":
            raise errors.InvalidInput(f"databases of the kind {scheme}:// are not supported", hint="use a file")
        text = text[1:] if text.startswith("/") else text
    return Settings.load(text).db.resolve()  # one name, so that one lock guards it


def _open(path: Path) -> None:
    if not database.deferred:
        database.close()
    _prepare_file(path)
    database.init(str(path), pragmas=PRAGMAS, timeout=BUSY_TIMEOUT_S)
    database.inode = path.stat().st_ino
    database.connect()


def _prepare_file(path: Path) -> None:
    """Make the folder (0700) and the file (0600) where missing; refuse what cannot be written."""
    try:
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # another process may have made it
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        mode = path.stat().st_mode
    except OSError as error:
        raise errors.DatabaseReadOnly(f"the database {path} cannot be made: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        raise errors.DatabaseForeign(f"{path} is a folder, not a database")
    if not mode & 0o222 or not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise errors.DatabaseReadOnly(f"the database {path} is read-only")


_IDENTITY = """
    SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
        (SELECT count(*) FROM sqlite_master)
"""  # in one statement: another process may be making the file at this moment


def schema_version() -> int:
    """Return the schema version of the open database, 0 for an empty file.

    Raises DatabaseForeign, DatabaseNewer or DatabaseCorrupt.
    """
    application_id, version, things = database.execute_sql(_IDENTITY).fetchone()
    if application_id != APPLICATION_ID and (application_id or things):
        raise errors.DatabaseForeign(f"{database.database} is a database of another program")
    if version > SCHEMA_VERSION:
        raise errors.DatabaseNewer(
            f"{database.database} was written by a newer llmsess (schema {version}, this one knows {SCHEMA_VERSION})"
        )
    return int(version)


def _set_journal_mode(mounts: str = "/proc/mounts") -> None:
    """Set WAL where it is not set yet, and DELETE on a network file system, with retries: setting it takes a lock."""
    kind = file_system(database.database, mounts)
    wanted = "delete" if is_network(kind) else "wal"
    if is_network(kind):
        log.warning("%s lies on a network file system (%s): slower, safe journal in use", database.database, kind)
    if database.journal_mode == wanted:
        return
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            if database.pragma("journal_mode", wanted) == wanted:
                return
        except errors.DatabaseLocked:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise errors.DatabaseLocked(f"the journal mode of {database.database} could not be set")
        time.sleep(random.uniform(0.005, 0.05))


def open_foreign(path: str | os.PathLike[str]) -> Any:
    """Return a read-only driver connection to another tool's SQLite file; raises NotFound, DatabaseCorrupt."""
    file = Path(path).absolute()
    if not file.is_file():
        raise errors.NotFound("file", str(path), hint="check the path")
    connection = driver.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except driver.DatabaseError as error:
        connection.close()
        raise errors.DatabaseCorrupt(f"{file} is not a readable SQLite database: {error}") from error
    return connection


# Schema versions


def migrate() -> list[str]:
    """Bring the open database to the newest schema; return the names of the migrations applied.

    Runs under a lock beside the file, so that several processes may call it, and copies an existing database first.
    """
    return _versioned(lambda runner: runner.up(), until=SCHEMA_VERSION)


def rollback() -> list[str]:
    """Undo the newest migration, after a copy of the database; return its name. Raises Conflict if there is none."""
    return _versioned(lambda runner: runner.down(), until=None)


def _versioned(change: Callable[[Any], list[str]], until: int | None) -> list[str]:
    from filelock import FileLock  # here: only a change of the schema needs them
    from playhouse.migrations import Runner

    path = Path(database.database)
    with _file_troubles(path), FileLock(f"{path}.lock", mode=0o600):
        crashpoints.reach("migration.locked")
        database.close()  # what was read before the lock may be old
        database.connect()
        version = schema_version()
        if version == until:
            _set_journal_mode()
            return []
        if version == 0 and until is None:
            raise errors.Conflict(f"{path} has no migration to undo")
        if version:
            _backup(path, version)
            crashpoints.reach("migration.copied")
        else:
            database.pragma("page_size", PAGE_SIZE_BYTES)
            _set_journal_mode()
            database.pragma("application_id", APPLICATION_ID)
        with database.translated(), _noticed_statements():
            names = change(Runner(database, str(MIGRATIONS), table_name="schema_migrations"))
        crashpoints.reach("migration.written")
        database.close()  # measured: on the connection that made the schema every statement takes twice as long
        database.connect()
        return names


@contextlib.contextmanager
def _noticed_statements() -> Iterator[None]:
    """Run a block after each of whose statements a test may end the process."""

    def noticed(event: Any) -> None:
        crashpoints.reach("migration.statement")

    database.query_hooks.append(noticed)
    try:
        yield
    finally:
        database.query_hooks.remove(noticed)


def _backup(path: Path, version: int) -> Path:
    """Copy the database beside itself before its schema changes; keep the newest few copies."""
    folder = path.parent / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    copy = folder / f"{path.name}.v{version}.{stamp}"
    partial = copy.with_name(copy.name + ".partial")
    os.close(os.open(partial, os.O_CREAT | os.O_RDWR | os.O_EXCL, 0o600))
    try:
        database.execute_sql("VACUUM INTO ?", (str(partial),))
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.rename(copy)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    for old in backups(path)[:-BACKUPS_KEPT]:
        old.unlink()
    return copy


def backups(path: Path) -> list[Path]:
    """Return the automatic copies of a database, the oldest first."""
    found = (path.parent / "backups").glob(f"{glob.escape(path.name)}.v*")
    copies = [copy for copy in found if copy.suffix != ".partial"]
    return sorted(copies, key=lambda copy: copy.name.removeprefix(f"{path.name}.v").partition(".")[2])


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
