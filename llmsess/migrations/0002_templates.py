"""Saved prompts and short names of models. Never edit after release; the classes are frozen stand-ins."""

from typing import Any

from peewee import CharField, Field, ForeignKeyField, Model, TextField


class Time(Field):
    field_type = "TIMESTAMPTZ"


class Base(Model):
    class Meta:
        legacy_table_names = False


class LanguageModel(Base):
    class Meta:
        table_name = "models"


class ModelAlias(Base):
    model = ForeignKeyField(LanguageModel, on_delete="CASCADE")
    name = TextField(unique=True)

    class Meta:
        table_name = "model_aliases"


class Template(Base):
    uuid = CharField(32, unique=True)
    name = TextField(unique=True)
    definition = TextField()
    created_at = Time()
    updated_at = Time()

    class Meta:
        table_name = "templates"


TABLES = [ModelAlias, Template]


def up(migrator: Any, db: Any) -> None:
    with db.bind_ctx([LanguageModel, *TABLES], bind_refs=False, bind_backrefs=False):
        db.create_tables(TABLES, safe=False)
    db.execute_sql("PRAGMA user_version = 2")


def down(migrator: Any, db: Any) -> None:
    with db.bind_ctx([LanguageModel, *TABLES], bind_refs=False, bind_backrefs=False):
        db.drop_tables(TABLES, safe=False)
    db.execute_sql("PRAGMA user_version = 1")
