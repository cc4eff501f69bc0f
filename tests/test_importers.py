"""What every importer of the registry keeps: it says what it reads, knows its own, and survives anything."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import re
import sqlite3
from pathlib import Path

import pytest

from llmsess import db, errors, exporting, importers, maintenance, sessions, transfer
from llmsess.importers.source import Head, Source
from tests import specimens
from tests.conftest import FUZZ

NAMES = importers.names()
OF_RECORDS = list(specimens.RECORDS)


def whole() -> None:
    assert maintenance.check().findings == []
    for row in sessions.find(limit=None).rows:
        for message in sessions.nodes(row["uuid"]):
            sessions.blocks(message)


def test_every_importer_has_a_specimen() -> None:
    assert {*OF_RECORDS, "aider", "llm"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_importer_says_what_it_reads_and_knows_its_own(tmp_path: Path, name: str) -> None:
    importer = importers.get(name)
    assert name == importer.NAME
    assert importer.DESCRIPTION
    assert isinstance(importer.PLACES, tuple)
    source = Source(specimens.write(name, tmp_path / "specimen"))
    assert [other for other in NAMES if importers.get(other).matches(source.head())] == [name]
    assert not importer.matches(Head())
    assert not importer.matches(Head([{"a": 1}, {}], text="some text"))
    assert importers.detect(source) is importer


@pytest.mark.parametrize("name", NAMES)
def test_the_same_again_changes_nothing_and_a_dry_run_tells_the_truth(
    database: db.Database, tmp_path: Path, name: str
) -> None:
    file = specimens.write(name, tmp_path / "specimen")
    dry = transfer.run("auto", [file], dry_run=True)
    assert database.execute_sql("SELECT count(*) FROM sessions").fetchone() == (0,)
    first = transfer.run("auto", [file])
    [told], [did] = dry.sources, first.sources
    assert (told.sessions, told.messages, told.records) == (did.sessions, did.messages, did.records)
    assert did.records["bad"] == 0 and not first.failed, did.problems
    assert did.messages > 1 and did.sessions > 0
    stored = database.execute_sql(
        "SELECT m.uuid, m.content, s.head_id FROM messages m JOIN sessions s ON s.id = m.session_id"
    ).fetchall()
    again = transfer.run("auto", [file])
    assert again.totals()["imported"] == 0 and not again.failed
    assert sum(again.sources[0].records.values()) == sum(did.records.values())
    assert (
        database.execute_sql(
            "SELECT m.uuid, m.content, s.head_id FROM messages m JOIN sessions s ON s.id = m.session_id"
        ).fetchall()
        == stored
    )
    whole()


@pytest.mark.parametrize("name", OF_RECORDS)
def test_every_importer_survives_odd_values_in_every_place(database: db.Database, tmp_path: Path, name: str) -> None:
    records = [json.dumps(changed) for record in specimens.RECORDS[name] for changed in specimens.mutations(record)]
    records = random.Random(7).sample(records, min(len(records), 1_000 * FUZZ))
    named = re.compile(r'"((?:u|a|s|msg_|c-|d-|n|m|g-|t-|tr-|i-|v-|r-|e|ses_)\d|a|b)"')  # else all but the first were
    file = tmp_path / "odd.jsonl"  # duplicates, whatever is odd in them
    file.write_text("".join(named.sub(rf'"\1-{i}"', text) + "\n" for i, text in enumerate(records)))
    report = transfer.run(name, [file])
    assert sum(report.sources[0].records.values()) == len(records) > 100
    whole()
    again = transfer.run(name, [file])
    assert sum(again.sources[0].records.values()) == len(records)
    assert again.totals()["imported"] == 0
    for format_ in ("markdown", "html", "openai-chat", "anthropic-chat", "sharegpt", "csv", "llmsess"):
        with (tmp_path / format_).open("w", errors="replace") as out:
            exporting.run(format_, out, hidden=True)


def test_odd_values_in_a_database_of_llm(database: db.Database, tmp_path: Path) -> None:
    file = specimens.write("llm", tmp_path / "logs.db")
    tables = {"responses": 12, "conversations": 3, "tool_calls": 5, "tool_results": 5, "attachments": 5, "fragments": 3}
    with contextlib.closing(sqlite3.connect(file)) as connection:
        columns = [(table, row[1]) for table in tables for row in connection.execute(f"PRAGMA table_info({table})")]
    odd_values = (None, -1, 1e300, "", "x", "{", '["a"]', b"\xff\x00", "\x00")
    places = [(table, column, odd) for table, column in columns for odd in odd_values]
    for i, (table, column, odd) in enumerate(random.Random(7).sample(places, min(len(places), 80 * FUZZ))):
        changed = tmp_path / f"{i}.db"
        changed.write_bytes(file.read_bytes())
        connection = sqlite3.connect(changed)
        with contextlib.suppress(sqlite3.IntegrityError), connection:  # a key may be no integer
            connection.execute(f'UPDATE OR IGNORE "{table}" SET "{column}" = ?', (odd,))
        connection.close()
        transfer.run("llm", [changed])
        changed.unlink()
    whole()


def test_every_importer_on_every_other_specimen(database: db.Database, tmp_path: Path) -> None:
    files = {name: specimens.write(name, tmp_path / name) for name in NAMES}
    for name in NAMES:
        for other, file in files.items():
            if other == name:
                continue
            with pytest.raises(errors.Unrecognised) as caught:
                transfer.run(name, [file])
            assert str(file) in str(caught.value) and other in str(caught.value)
            report = transfer.SourceReport(str(file), name)
            for item in importers.get(name).read(Source(file)) if other != "llm" and name != "llm" else ():
                report.records["any"] += type(item).__name__ in ("Bad", "Ignored", "Whole")
    assert database.execute_sql("SELECT count(*) FROM sessions").fetchone() == (0,)


@pytest.mark.parametrize("name", NAMES)
def test_every_importer_survives_files_that_are_cut_shuffled_or_no_text(
    database: db.Database, tmp_path: Path, name: str
) -> None:
    good = specimens.write(name, tmp_path / "good").read_bytes()
    rng = random.Random(5)
    shuffled = good.splitlines(keepends=True)
    rng.shuffle(shuffled)
    lines = len(good.splitlines())
    files = {
        "cut": good[: len(good) * 2 // 3], "shuffled": b"".join(shuffled), "doubled": good + good, "noise": rng.randbytes(5_000),
        "noisy": good + rng.randbytes(500) + b"\n" + good, "deep": b"[" * 100_000 + b"\n" + good,
        "gzip": gzip.compress(good), "cut.gz": gzip.compress(good)[:-20], "array": b"[" + b",".join(good.splitlines()) + b"]",
        "cut array": b"[" + b",".join(good.splitlines())[:-9], "crlf": good.replace(b"\n", b"\r\n"), "nul": good.replace(b"x", b"\0"),
        "empty": b"", "blank": b"\n\n \n", "bom": b"\xef\xbb\xbf" + good, "utf16": good.decode(errors="replace").encode("utf-16"),
        "dropped": b"".join(line for line in good.splitlines(keepends=True) if rng.random() < 0.7),
    }  # fmt: skip
    for label, data in files.items():
        file = tmp_path / label
        file.write_bytes(data)
        for _ in range(2):
            try:
                report = transfer.run(name, [file])
            except (errors.InvalidInput, errors.Unrecognised, errors.DatabaseCorrupt) as error:
                assert label in str(error) and "\n" not in str(error)
            else:
                assert sum(report.sources[0].records.values()) <= 2 * lines + 30
    whole()
