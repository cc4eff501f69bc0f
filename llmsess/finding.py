"""What there is to import: files of folders and archives, their formats, and the places where tools keep history."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llmsess import importers
from llmsess.errors import InvalidInput, NotFound, Unrecognised
from llmsess.importers.base import Importer
from llmsess.importers.source import Source, is_archive, members

IN_ARCHIVES = (".json", ".jsonl", ".ndjson", ".gz", ".md", ".txt", ".log")  # endings of files worth a look
ARCHIVES = (".zip", ".eval")
IN_FOLDERS = (*IN_ARCHIVES, *ARCHIVES, ".db", ".sqlite", ".sqlite3")


@dataclass
class Plan:
    """What an import will read, looked at before anything is read."""

    sources: list[tuple[Source, Importer]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # files of no known format, in the folders and archives
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # what cannot be looked at, and why


def plan(format: str, paths: str | Path | Iterable[str | Path]) -> Plan:
    """Return the files to read with their importers; raises NotFound, Unrecognised, InvalidInput."""
    wanted = None if format == "auto" else importers.get(format)
    made = Plan()
    for path in map(Path, [paths] if isinstance(paths, (str, Path)) else paths):
        if not _exists(path):
            raise NotFound("file", str(path), hint="check the path")
        if path.is_file() and not is_archive(path):
            source = Source(path.absolute())
            made.sources.append((source, _of_file(source, wanted)))
            continue
        before, skipped, unreadable = len(made.sources), len(made.skipped), len(made.unreadable)
        _search(path, wanted, made)
        if len(made.sources) == before and len(made.unreadable) == unreadable:
            kind = "a known format" if wanted is None else wanted.NAME
            found = made.skipped[skipped:]
            told = f"; found: {', '.join(found[:5])}" if found else ""
            raise Unrecognised(f"{path} has no file of {kind} in it{told}", hint="llmsess import --formats")
    return made


def _exists(path: Path) -> bool:
    try:
        return "\0" not in str(path) and path.exists()
    except OSError as error:
        raise InvalidInput(f"{str(path)[:200]} cannot be read: {error.strerror}") from error


def _search(path: Path, wanted: Importer | None, made: Plan) -> None:
    """Add to the plan the files of a folder or an archive that are of the wanted format, or of any."""
    for source in _inside(path, made):
        try:
            importer = _looked_at(source)
            known = importer is not None and wanted in (None, importer)
            if known and importer is not None:
                made.sources.append((source, importer))
            elif not importers.is_part(source):
                made.skipped.append(source.name)
        except InvalidInput as error:
            made.unreadable.append((source.name, error.message))


def _inside(path: Path, made: Plan) -> Iterator[Source]:
    """Yield the files of an archive, or below a folder, that may be of a format; links to folders are not followed."""
    if path.is_file():
        try:
            names = members(path)
        except InvalidInput as error:
            made.unreadable.append((str(path), error.message))
            return
        made.skipped += [f"{path}/{name}" for name in names if name.lower().endswith(ARCHIVES)]
        yield from (Source(path.absolute(), name) for name in names if name.lower().endswith(IN_ARCHIVES))
        return
    for file in _files(path, made):
        if is_archive(file):
            yield from _inside(file, made)
        else:
            yield Source(file.absolute())


def _files(folder: Path, made: Plan) -> list[Path]:
    def unreadable(error: OSError) -> None:
        made.unreadable.append((str(error.filename), f"the folder cannot be read: {error.strerror}"))

    found = []
    for parent, _, names in os.walk(folder, onerror=unreadable):
        files = (Path(parent, name) for name in names if name.lower().endswith(IN_FOLDERS))
        found += [file for file in files if os.path.isfile(file)]
    return sorted(found)


def _of_file(source: Source, wanted: Importer | None) -> Importer:
    """Return the importer for a file that was named: the wanted one, unless the file is plainly of another format."""
    try:
        looked_at = _looked_at(source)
    except InvalidInput as error:
        raise Unrecognised(error.message, hint=error.hint) from error
    if wanted is None:
        if looked_at is None:
            several = ", ".join(importers.fitting(source))
            if several:
                raise Unrecognised(f"{source.path} may be of several formats: {several}", hint="name the one it is")
            found = importers.describe(source.head())
            raise Unrecognised(f"{source.path} has no format that is known: {found}", hint="llmsess import --formats")
        return looked_at
    if looked_at not in (None, wanted) and not wanted.matches(source.head()):
        raise Unrecognised(f"{source.path} is no {wanted.NAME} but {looked_at.NAME}", hint="llmsess import auto PATH")
    return wanted


def _looked_at(source: Source) -> Importer | None:
    try:
        return importers.detect(source)
    except OSError as error:
        raise InvalidInput(f"{source.name} cannot be read: {error.strerror or error}") from error


# Places


@dataclass(frozen=True)
class Place:
    """A folder or file where a tool keeps its history on this machine."""

    format: str
    path: Path
    files: int
    size_bytes: int


def places(format: str = "auto") -> list[Place]:
    """Return where the tools whose formats can be read keep their history here, with what lies there."""
    found: dict[Path, Place] = {}
    for name in importers.names() if format == "auto" else [format]:
        for pattern in importers.get(name).PLACES:
            for path in map(Path, sorted(glob.glob(_expanded(pattern)))):
                if path.resolve() not in found and (place := _measured(name, path)) is not None:
                    found[path.resolve()] = place
    return list(found.values())


def _expanded(pattern: str) -> str:
    return os.path.expandvars(os.path.expanduser(pattern))


def _measured(name: str, path: Path) -> Place | None:
    """Return a place with the number and size of its files, None where it has none."""
    files = _files(path, Plan()) if path.is_dir() else [path]
    sizes = [file.stat().st_size for file in files]
    return Place(name, path, len(files), sum(sizes)) if files else None
