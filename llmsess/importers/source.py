"""Where an importer's bytes come from: a file, gzipped or not, a member of a zip archive, another tool's database.

A folder and an archive are the same to an importer: `files()` lists what lies near a source. Nothing of an archive is
written to disk; a member that expands too far is refused. `head()` is the beginning of a source, by whose shape its
format is told.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import json
import lzma
import os
import posixpath
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from llmsess import errors
from llmsess.errors import InvalidInput

if sys.version_info >= (3, 14):
    import zipfile

    from compression.zstd import ZstdError
else:  # the standard library's reads zstd from 3.14 on
    from backports.zstd import ZstdError, zipfile

HEAD_BYTES = 4 * 1024 * 1024  # how much of a file is looked at to tell its format
HEAD_RECORDS = 300
BUFFER_BYTES = 1024 * 1024
PIECE_BYTES = 64 * 1024  # of a compressed file: what is read when damage is met is lost
HEAD_CHARACTERS = 4096  # of a file that is no JSON
MAX_LINE_BYTES = 256 * 1024 * 1024  # a longer line is reported as bad, so that a wrong file cannot fill the memory
MAX_MEMBER_BYTES = 16 * 1024**3  # of an archive, expanded
SUSPICIOUS_BYTES = 64 * 1024 * 1024  # of a member, expanded: from here on it may not be
MAX_RATIO = 200  # times as large as it is compressed; text that people and models write reaches about 20
DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile, lzma.LZMAError, ZstdError)
SQLITE = b"SQLite format 3\0"
NUL = "\0"


@dataclass
class Meter:
    """How many bytes have been read."""

    bytes: int = 0


class _Expanding(io.RawIOBase):
    """A compressed file that ends where it is cut off or damaged; `problem` then says so."""

    def __init__(self, file: Any, around: IO[bytes] | zipfile.ZipFile, meter: Meter | None = None) -> None:
        self.file, self.around, self.meter, self.problem = file, around, meter, ""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.file.read1(min(len(buffer), PIECE_BYTES))
        except (*DAMAGE, OSError) as error:
            self.problem = f"the compressed file is damaged: {error}"
            return 0
        buffer[: len(data)] = data
        if self.meter is not None:
            self.meter.bytes += len(data)
        return len(data)

    def close(self) -> None:
        self.file.close()
        self.around.close()
        super().close()


class _Metered(io.FileIO):
    """A file whose read bytes are counted."""

    def __init__(self, path: Path, meter: Meter | None) -> None:
        super().__init__(path)
        self.meter = meter

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        if self.meter is not None:
            self.meter.bytes += count
        return count


def damage(file: IO[bytes]) -> str:
    """Return why a file that was read to its end has ended early, "" where it has not."""
    return str(getattr(getattr(file, "raw", None), "problem", ""))


@dataclass(frozen=True)
class Head:
    """The beginning of a source: its first JSON objects, or its text, or the tables of a database."""

    objects: list[dict[str, Any]] = field(default_factory=list)  # lines, or elements of an array, or the document
    text: str = ""
    tables: dict[str, frozenset[str]] = field(default_factory=dict)  # with their columns


@dataclass(frozen=True)
class Source:
    """Something to read: a file, or the `member` of a zip archive."""

    path: Path
    member: str | None = None
    meter: Meter | None = field(default=None, compare=False)  # counts what is read

    @property
    def name(self) -> str:
        """Return the path as text that can be stored and shown."""
        full = str(self.path) if self.member is None else f"{self.path}/{self.member}"
        return full.encode(errors="backslashreplace").decode().replace(NUL, "")

    @property
    def stem(self) -> str:
        """Return the name of the file without its folder and its suffixes."""
        return posixpath.basename(self.member or self.path.name).split(".")[0]

    def size(self) -> int:
        """Return how many bytes there are to read: of a file as it lies there, of a member expanded."""
        if self.member is None:
            return self.path.stat().st_size
        with zipfile.ZipFile(self.path) as archive:
            return archive.getinfo(self.member).file_size

    def mtime(self) -> datetime:
        """Return when the file, or the archive, was last changed."""
        return datetime.fromtimestamp(max(self.path.stat().st_mtime, 0), UTC)

    def sha256(self) -> str:
        """Return the hash of the bytes as they lie there (of a member: expanded)."""
        with self.path.open("rb") if self.member is None else replace(self, meter=None).open() as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def open(self) -> io.BufferedReader[Any]:
        """Return the bytes, decompressed where they are compressed; raises InvalidInput for what expands too far."""
        if self.member is not None:
            return self._open_member(self.member)
        file = io.BufferedReader(_Metered(self.path, self.meter), BUFFER_BYTES)
        if file.peek(2)[:2] == b"\x1f\x8b":
            return io.BufferedReader(_Expanding(gzip.GzipFile(fileobj=file), file), BUFFER_BYTES)
        return file

    def _open_member(self, member: str) -> io.BufferedReader[Any]:
        archive = zipfile.ZipFile(self.path)
        try:
            refuse_bomb(archive.getinfo(member))
            opened = archive.open(member)
        except (*DAMAGE, KeyError, RuntimeError, NotImplementedError) as error:  # damaged, gone, encrypted, exotic
            archive.close()
            raise InvalidInput(f"{self.name} cannot be read: {error}") from error
        except InvalidInput:
            archive.close()
            raise
        return io.BufferedReader(_Expanding(opened, archive, self.meter), BUFFER_BYTES)

    @contextmanager
    def database(self) -> Iterator[Any]:
        """Open another tool's SQLite file for reading only; yields a driver connection."""
        from llmsess import db

        with tempfile.TemporaryDirectory(prefix="llmsess-") as folder:
            try:
                opened = db.open_foreign(self.path)
            except errors.DatabaseProblem:  # its write-ahead log can only be read where files may be made beside it
                try:
                    opened = db.open_foreign(self._copy(Path(folder)))
                except (errors.DatabaseProblem, OSError) as error:
                    raise InvalidInput(f"{self.name} cannot be read: it is a damaged database") from error
            with closing(opened) as connection:
                connection.text_factory = lambda data: data.decode(errors="replace")
                try:
                    yield connection
                except db.driver.Error as error:
                    raise InvalidInput(f"{self.name} cannot be read: {error}") from error

    def _copy(self, folder: Path) -> Path:
        """Copy a database with its write-ahead log."""
        for suffix in ("", "-wal"):
            beside = Path(f"{self.path}{suffix}")
            if beside.exists():
                shutil.copy(beside, folder / f"copy.db{suffix}")
        return folder / "copy.db"

    def near(self) -> list[Source]:
        """Return the files of the same archive, or of the same folder and those directly in it."""
        if self.member is not None:
            return [Source(self.path, name) for name in members(self.path)]
        try:
            folders = sorted(entry.name for entry in os.scandir(self.path.parent) if entry.is_dir())
        except OSError:
            folders = []
        return [file for folder in (".", *folders) for file in self.files(folder)]

    def files(self, folder: str = ".") -> list[Source]:
        """Return the files of a folder that is given relative to the source's own, sorted; [] where there is none."""
        if self.member is not None:
            wanted = posixpath.normpath(posixpath.join(posixpath.dirname(self.member), folder))
            prefix = "" if wanted == "." else f"{wanted}/"
            found = [name for name in members(self.path) if name.startswith(prefix) and "/" not in name[len(prefix) :]]
            return [Source(self.path, name) for name in sorted(found)]
        try:
            entries = sorted(os.scandir(self.path.parent / folder), key=lambda entry: entry.name)
        except OSError:
            return []
        return [Source(Path(os.path.normpath(entry.path))) for entry in entries if entry.is_file()]

    def read(self, limit: int) -> bytes | None:
        """Return all bytes, None where there are more than `limit` or they cannot be read to the end."""
        with self.open() as file:
            data = file.read(limit + 1)
            return None if len(data) > limit or damage(file) else data

    def head(self) -> Head:
        """Return the beginning, to tell the format by its shape."""
        return _head(replace(self, meter=None), self.path.stat().st_mtime_ns)

    def start(self) -> bytes:
        """Return the first bytes, without a byte order mark and white space."""
        with self.open() as file:
            return file.read(64 * 1024).lstrip(b"\xef\xbb\xbf \t\r\n")


@functools.lru_cache(maxsize=4)
def _head(source: Source, mtime: int) -> Head:
    """Return the head of a source; asked for several times while a file is detected and read."""
    with source.open() as file:
        start = file.read(HEAD_BYTES)
        problem = damage(file)
    if start.startswith(SQLITE):
        return Head(tables=_tables(source))
    found = list(map(_json, start.split(b"\n")[:HEAD_RECORDS])) if is_lines(start) else _elements(start)
    found = [value for value in found if isinstance(value, dict)][:HEAD_RECORDS]
    if not found and (problem or start.startswith(b"PK\x03\x04")):
        raise InvalidInput(f"{source.name} cannot be read: {problem or 'the archive is damaged'}")
    return Head(found, "" if found else start[: HEAD_CHARACTERS * 4].decode(errors="replace")[:HEAD_CHARACTERS])


def is_lines(start: bytes) -> bool:
    """Return whether a file that begins so is JSON lines, and not one document on one line or on many."""
    start = start.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] == b"[":
        first, _, rest_of_it = start.partition(b"\n")
        return rest_of_it.lstrip().startswith(b"{") and _json(first) is not None
    first, *rest = start.split(b"\n", HEAD_RECORDS)
    return start[:1] != b"{" or _json(first) is not None or any(_json(line) for line in rest if line[:1] == b"{")


def _json(line: bytes) -> Any:
    try:
        return json.loads(line.strip().removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return None


def _elements(start: bytes) -> list[Any]:
    """Return the elements of an array, or the one document, of which only the beginning may be there."""
    from llmsess.importers import streaming

    document = streaming.beginning(start)
    return document if isinstance(document, list) else [document]


def _tables(source: Source) -> dict[str, frozenset[str]]:
    with source.database() as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
        return {
            name: frozenset(row[1] for row in connection.execute("SELECT * FROM pragma_table_info(?)", (name,)))
            for (name,) in names
        }


# Archives


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive, by its content."""
    try:
        return zipfile.is_zipfile(path)
    except OSError:
        return False


def members(path: Path) -> list[str]:
    """Return the names of the files in an archive; raises InvalidInput for one that is damaged."""
    return list(_members(path, path.stat().st_mtime_ns))


@functools.lru_cache(maxsize=4)
def _members(path: Path, mtime: int) -> tuple[str, ...]:
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(info.filename for info in archive.infolist() if not info.is_dir())
    except (*DAMAGE, NotImplementedError, ValueError) as error:
        raise InvalidInput(f"{path} is no readable archive: {error}") from error


def refuse_bomb(info: zipfile.ZipInfo) -> None:
    """Raise InvalidInput for a member that would expand suspiciously far."""
    too_large = info.file_size > MAX_MEMBER_BYTES
    too_dense = info.file_size > SUSPICIOUS_BYTES and info.file_size > MAX_RATIO * max(info.compress_size, 1)
    if too_large or too_dense:
        told = f"{info.filename!r} would expand from {info.compress_size:,} to {info.file_size:,} bytes"
        raise InvalidInput(f"{told}: the archive is refused", hint="unpack it by hand if you trust it")
