"""llmsess' own format: JSON lines that give the same database again.

The first line names the format and its version; each further line is a row, named by `type`: project, model, blob,
session, message, snapshot. References are uuids (of attachments: hashes), and what is NULL is left out. Rows come
before those that refer to them as far as that is possible. Ledger and tags go with their messages and sessions. The raw
records of imports stay in the database.
"""

from __future__ import annotations

from typing import IO

from llmsess.exporters.base import Archive, Losses, line

NAME = "llmsess"
DESCRIPTION = "llmsess' own format: everything, to be imported again without loss (JSON lines)"
SUFFIX = ".jsonl"
LOSES = "only the raw records of imports"


def write(archive: Archive, out: IO[str], losses: Losses) -> None:
    """Write every row of the archive."""
    for row in archive.rows():
        out.write(line(row))
