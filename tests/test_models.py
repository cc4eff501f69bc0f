"""The migrated schema is the models' schema; down restores what was before; the triggers and views are there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from llmsess import db, sessions
from llmsess.models import TABLES, Message, Session, dump_json, parse_time, time_text

HEAD = ("sessions", "head_id")  # a deferred key, which peewee makes none of on SQLite: the migration writes it


def schema(database: db.Database, table: str) -> dict[str, object]:
    run: Any = database.execute_sql
    columns = {row[1]: (row[2], row[3], row[5]) for row in run(f"PRAGMA table_info('{table}')").fetchall()}
    keys = {(row[3], row[2], row[6]) for row in run(f"PRAGMA foreign_key_list('{table}')").fetchall()}
    indexes = {}
    for row in run(f"PRAGMA index_list('{table}')").fetchall():
        names = tuple(part[2] for part in run(f"PRAGMA index_info('{row[1]}')").fetchall())
        where = run("SELECT sql FROM sqlite_master WHERE name = ?", (row[1],)).fetchone()
        partial = where[0].partition(" WHERE ")[2] if where and where[0] else ""
        indexes[names, partial] = row[2]
    return {"columns": columns, "keys": {key for key in keys if (table, key[0]) != HEAD}, "indexes": indexes}


def test_the_migrated_schema_is_the_models_schema(database: db.Database, tmp_path: Path) -> None:
    (tmp_path / "made.db").touch()
    made = db.Database(str(tmp_path / "made.db"), field_types={"TIMESTAMPTZ": "TEXT"})
    made.inode = (tmp_path / "made.db").stat().st_ino
    with made.bind_ctx(TABLES, bind_refs=False, bind_backrefs=False):
        made.create_tables(TABLES)
    names = {model._meta.table_name for model in TABLES}
    for name in sorted(names):
        assert schema(database, name) == schema(made, name), name
    made.close()
    ours = {name for name in database.get_tables() if not name.startswith(("messages_fts", "sqlite_", "schema_"))}
    assert ours == names


def test_the_head_of_a_session_is_a_real_foreign_key(database: db.Database) -> None:
    keys = database.execute_sql("PRAGMA foreign_key_list('sessions')").fetchall()
    assert [(row[2], row[6]) for row in keys if row[3] == "head_id"] == [("messages", "SET NULL")]


def test_down_restores_the_schema_before_and_up_makes_it_again(database: db.Database) -> None:
    sql = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
    before = database.execute_sql(sql).fetchall()
    assert [db.rollback() for _ in range(6)] == [
        ["0006_comparisons"],
        ["0005_batches"],
        ["0004_snapshots"],
        ["0003_imports"],
        ["0002_templates"],
        ["0001_initial"],
    ]
    assert [row[1] for row in database.execute_sql(sql).fetchall()] == ["schema_migrations", "schema_migrations_name"]
    assert db.migrate() == [
        "0001_initial",
        "0002_templates",
        "0003_imports",
        "0004_snapshots",
        "0005_batches",
        "0006_comparisons",
    ]
    assert database.execute_sql(sql).fetchall() == before


def test_every_foreign_key_and_uuid_has_an_index(database: db.Database) -> None:
    for model in TABLES:
        table = model._meta.table_name
        firsts = {names[0] for names, _ in schema(database, table)["indexes"]}  # type: ignore[attr-defined]
        keys = {row[3] for row in database.execute_sql(f"PRAGMA foreign_key_list('{table}')").fetchall()}
        assert keys <= firsts, table


def test_every_field_is_explained() -> None:
    source = Path(db.__file__).with_name("models.py").read_text().splitlines()
    fields = [line for line in source if line.startswith("    ") and "Field(" in line and " = " in line]
    bare = [line for line in fields if "#" not in line and "SearchField" not in line and "_tokens = BigInt" not in line]
    assert bare == []


def test_times_are_stored_as_utc_of_one_width() -> None:
    local = datetime(2026, 1, 31, 15, 0, 2, tzinfo=timezone(timedelta(hours=2)))
    assert time_text(local) == "2026-01-31T13:00:02.000000Z"
    assert parse_time("2026-01-31T13:00:02.000000Z") == datetime(2026, 1, 31, 13, 0, 2, tzinfo=UTC)
    assert time_text(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000000Z"
    with pytest.raises(ValueError, match="time zone"):
        time_text(datetime(2026, 1, 1))


def test_json_is_written_clean() -> None:
    assert dump_json({"a": "b\x00c\ud800", "n": float("nan")}) == '{"a":"b\ufffdc\ufffd","n":"nan"}'
    assert dump_json({"é": 1}) == '{"é":1}'


def test_totals_follow_inserts_updates_and_deletes(database: db.Database) -> None:
    session = sessions.create("totals")
    message = sessions.append(session, "assistant", "hi", input_tokens=10, output_tokens=5, cost=700)
    sessions.append(session, "assistant", "no price", input_tokens=3, output_tokens=2)
    row = sessions.get(session)
    assert (row.total_messages, row.total_input_tokens, row.total_output_tokens) == (2, 13, 7)
    assert (row.total_cost, row.unpriced_messages) == (700, 1)
    Message.update(cost=100, output_tokens=1).where(Message.id == message.id).execute()
    row = sessions.get(session)
    assert (row.total_cost, row.total_output_tokens) == (100, 3)
    Session.update(head=None).execute()
    Message.delete().where(Message.parent == message.id).execute()
    assert sessions.get(session).unpriced_messages == 0
    assert sessions.get(session).total_messages == 1
