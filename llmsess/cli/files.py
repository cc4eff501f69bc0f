"""Files that a command writes: each appears, readable by its owner only, when it is whole."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from llmsess.cli import output
from llmsess.errors import LlmsessError


@contextlib.contextmanager
def opened(file: str | None) -> Iterator[IO[str]]:
    """Open what is written to: a file, compressed where its name ends in .gz, or standard output."""
    if file is None:
        yield cast(IO[str], output.DataStream())
        return
    try:
        path = Path(file).expanduser().resolve()
        if path.is_symlink():  # Python before 3.13 refuses it by itself
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if path.exists() and not path.is_file():  # a pipe or a device is written to as it is
            with path.open("wb") as raw, _text(raw, path) as out:
                yield out
            return
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except (OSError, RuntimeError, ValueError) as error:  # also a link that leads to itself, a name with a NUL
        raise LlmsessError(f"{file[:100]} cannot be written: {getattr(error, 'strerror', error)}") from error
    try:
        with os.fdopen(handle, "wb") as raw, _text(raw, path) as out:
            yield out
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def _text(raw: IO[bytes], path: Path) -> Iterator[IO[str]]:
    packed: Any = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
    with packed, io.TextIOWrapper(packed, encoding="utf-8", errors="replace", newline="\n") as out:
        yield out
