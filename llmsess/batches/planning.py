"""Jobs and their items before anything is sent: made, added to, checked whole.

An item is known by the key that its row names, else by the hash of what it says (a further equal row is another item),
so that the same input in another order, filtered or grown adds what is new and nothing else. A row that names a known
key and says something else is refused, as is another definition (model, template, system prompt, parameters, schema).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Any

from peewee import IntegrityError

from llmsess import catalog, crashpoints, door, request_parameters, routing, sandbox, schemas, templates
from llmsess.batches import forming
from llmsess.batches.inputs import ATTACHED, Inputs, Row, read
from llmsess.db import database
from llmsess.errors import Conflict, InvalidInput
from llmsess.models import NANO, BatchJob, dump_json, now, time_text
from llmsess.routing import Options
from llmsess.rows import insert_row, update_row
from llmsess.scratch import scratch
from llmsess.settings import expanded
from llmsess.templates import Template
from llmsess.texts import one_line

CONCURRENCY, MAX_CONCURRENCY = 8, 1000
RETRIES = 5
PROBLEMS_SHOWN = 5
STAGED_AT_ONCE = 1000
MAX_NAME_CHARACTERS = 200
ON_UNKNOWN = ("hold", "resend")
_on_unknown = door.one_of(ON_UNKNOWN)


@dataclass(frozen=True)
class Added:
    """What an input came to: items that are new to the job, and those that it had."""

    new: int
    known: int


# Definitions


def definition(
    model: Any = None, template: str | None = None, system: str | None = None,
    parameters: Mapping[str, Any] | None = None, schema: Any = None, attachments: Iterable[Any] = (),
) -> dict[str, Any]:  # fmt: skip
    """Return what defines a job's requests as its columns, those that are given; raises InvalidInput, NotFound."""
    found: dict[str, Any] = {}
    if model is not None:
        found["model_id"] = routing.callable_model(model).id
    if template is not None:
        found["template"] = _template(door.text(template, "a template"))
    places = [_place(one) for one in ([attachments] if isinstance(attachments, str) else attachments)]
    if places:
        found["attachments"] = places
    if system is not None:
        found["system_prompt"] = door.text(system, "a system prompt") or None
    if parameters:
        found["parameters"] = request_parameters.checked(parameters)
    if schema is not None:
        found["answer_schema"] = schemas.load(schema)
    return found


def _place(source: Any) -> str:
    """Return where an attachment is, whatever folder a later run begins in; raises InvalidInput where it is not."""
    name = door.text(os.fspath(source), "an attachment")
    if name.lower().startswith(("http://", "https://")):
        return name
    path = expanded(name).absolute()
    if not path.is_file():
        raise InvalidInput(f"there is no file {name} to attach")
    return str(path)


def _template(given: str) -> str:
    """Return the definition of a template: a text with {{ variables }}, a saved one's name, or a file.

    A file ends with .yaml, .yml or .txt, or has a slash in its path; one that is no YAML is the text itself.
    """
    if sandbox.is_jinja(given):
        return _as_definition(given)
    is_file = "/" in given or given.endswith((".yaml", ".yml", ".txt", ".j2", ".jinja"))
    if not is_file and not expanded(given).is_file():
        return templates.get(given).definition
    text = templates.read(given)
    return text if given.endswith((".yaml", ".yml")) else _as_definition(text)


def _as_definition(prompt: str) -> str:
    text = templates.definition(prompt=prompt)
    templates.parse(text)
    return text


LIMITS = ("concurrency", "rpm", "tpm", "budget_usd", "budget_tokens", "budget_requests", "on_unknown", "retries",
          "cache", "allow_unpriced")  # fmt: skip


def limits(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits of a run as columns of its job, those that are given; raises InvalidInput.

    `concurrency` requests at a time, `rpm` and `tpm` requests and tokens a minute, `budget_usd`, `budget_tokens` and
    `budget_requests` at most in all, `retries` of one request, `on_unknown` hold or resend, `cache` and
    `allow_unpriced` true or false. 0 takes a limit away.
    """
    unknown = given.keys() - set(LIMITS)
    if unknown:
        raise InvalidInput(f"a batch has no {', '.join(sorted(unknown))}", hint=f"it has {', '.join(LIMITS)}")
    found: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name == "on_unknown":
            found[name] = _on_unknown(value, "policy for unknown items")
        elif name in ("cache", "allow_unpriced"):
            found["use_cache" if name == "cache" else name] = bool(value)
        elif name == "budget_usd":
            found["budget"] = _nano(value)
        elif name == "concurrency":
            found[name] = _concurrency(value)
        else:
            found[name] = door.count(value, name) if name == "retries" else door.count(value, name) or None
    return found


def _concurrency(value: Any) -> int:
    if not 1 <= door.count(value, "concurrency") <= MAX_CONCURRENCY:
        raise InvalidInput(f"concurrency is from 1 to {MAX_CONCURRENCY}, not {value}")
    return int(value)


def _nano(value: Any) -> int | None:
    from llmsess.prices import parse_usd

    usd = parse_usd(str(value)) if not isinstance(value, Decimal) else value
    return int((usd * NANO).to_integral_value()) or None


# Jobs


def create(
    name: str, inputs: Inputs, *, project: str | None = None, key: str | None = None, attach: str | None = None,
    format: str | None = None, fields: dict[str, Any],
) -> BatchJob:  # fmt: skip
    """Make a job with an item for each row and return it; nothing is made where one row is no request.

    Raises Conflict for a taken name, InvalidInput.
    """
    plain = _name(name)
    if BatchJob.select().where(BatchJob.name == plain).exists():
        raise taken(plain)
    with staging():
        stage(attaching(read(inputs, format), attach), fields, key)
        crashpoints.reach("batch.staged")
        with database.atomic():
            values = fields | {"name": plain, "created_at": now(), "spec_sha256": spec_sha256(fields)}
            values |= {"key_column": key, "attach_column": attach}
            values["project_id"] = catalog.project_id(project) if project else None
            try:
                job_id = insert_row(BatchJob, **values)
            except IntegrityError as error:
                raise taken(plain) from error
            _enter(job_id)
            return BatchJob.get_by_id(job_id)


def cancelled(job: BatchJob) -> Conflict:
    """Return the error for a job that was cancelled."""
    return Conflict(f'the batch "{job.name}" is cancelled', hint=f"llmsess batch retry {job.name} --cancelled")


def taken(name: str) -> Conflict:
    """Return the error for a name that another job has."""
    return Conflict(f'there is a batch "{name}" already', hint=f"llmsess batch run {name} FILE adds to it")


def _name(name: Any) -> str:
    plain = door.text(name, "a name").strip()
    odd = plain.startswith("@") or "\n" in plain or len(plain) > MAX_NAME_CHARACTERS or plain != one_line(plain, 999)
    if not plain or odd:
        raise InvalidInput(f'"{one_line(plain, 40)}" is no name for a batch', hint="one short line")
    return plain


def add(
    job: BatchJob, inputs: Inputs, *, key: str | None = None, attach: str | None = None, format: str | None = None
) -> Added:  # fmt: skip
    """Add an item for each row that the job does not have; raises Conflict where a known key says something else."""
    if job.status == "cancelled":
        raise cancelled(job)
    fields = {name: getattr(job, name) for name in ("model_id", "template")}
    for given, own in ((key, job.key_column), (attach, job.attach_column)):
        if given is not None and given != own:
            raise Conflict(f'the batch "{job.name}" was made with {f"the column {own}" if own else "no such column"}')
    key, attach = job.key_column, job.attach_column
    with staging():
        stage(attaching(read(inputs, format), attach), fields, key)
        with database.atomic():
            added = _enter(job.id)
            if added.new:
                database.execute_sql(_REOPEN, (job.id,))
                if fields["model_id"] != job.model_id:
                    update_row(BatchJob, job.id, model_id=fields["model_id"])
    return added


_REOPEN = """
    UPDATE batch_jobs SET ended_at = NULL, status = iif(status IN ('done', 'failed'), 'paused', status) WHERE id = ?
"""


def attaching(rows: Iterable[Row], column: str | None) -> Iterator[Row]:
    """Yield the rows, the files that a column of each names (one, or a list) attached where there is such a column."""
    seen = column is None
    for row in rows:
        seen = seen or (row.value is not None and column in row.value)
        named = row.value.get(column) if column is not None and row.value is not None else None
        if column is None or row.value is None or named in (None, "", []):
            yield row
            continue
        try:
            places = [_place(one) for one in (named if isinstance(named, list) else [named])]
            yield row._replace(value=row.value | {ATTACHED: places})
        except (InvalidInput, TypeError) as error:
            yield Row(row.line, None, str(error))
    if not seen:
        raise InvalidInput(f'no row has a column "{column}"')


def check_same(job: BatchJob, defined: Mapping[str, Any]) -> None:
    """Raise Conflict where a definition is another one than the job's."""
    words = {"model_id": "model", "system_prompt": "system prompt", "answer_schema": "schema"}
    other = [words.get(name, name) for name, value in defined.items() if value != getattr(job, name)]
    if other:
        hint = "give the new one a name of its own"
        raise Conflict(f'the batch "{job.name}" has not the same {", ".join(other)}', hint=hint)


def spec_sha256(fields: Mapping[str, Any]) -> str:
    """Return the hash of what defines a job's requests."""
    names = ("model_id", "template", "system_prompt", "parameters", "answer_schema")
    return hashlib.sha256(dump_json({name: fields.get(name) for name in names}).encode()).hexdigest()


# Items: staged in a table of their own, then entered by one statement

_STAGING = """
    CREATE TABLE {schema}.batch_staging
    (place INTEGER PRIMARY KEY, line INTEGER, named INTEGER, item_key TEXT, input TEXT)
"""
_STAGED_KEYS = "CREATE INDEX {schema}.batch_staging_keys ON batch_staging (item_key, place)"
_STAGE = "INSERT INTO batch_staging (line, named, item_key, input) VALUES (?, ?, ?, ?)"
_TWICE = """
    SELECT item_key, group_concat(line, ' and ') FROM batch_staging
    GROUP BY item_key HAVING count(*) > 1 AND max(named) LIMIT 1
"""
_NUMBER = """
    UPDATE batch_staging SET item_key = batch_staging.item_key || '#' || d.again FROM (
        SELECT place, row_number() OVER (PARTITION BY item_key ORDER BY place) AS again FROM batch_staging
        WHERE item_key IN (SELECT item_key FROM batch_staging GROUP BY item_key HAVING count(*) > 1)
    ) d WHERE d.place = batch_staging.place AND d.again > 1
"""  # equal rows without a key of their own are items of their own
_CHANGED = """
    SELECT k.line, k.item_key FROM batch_staging k JOIN batch_items i ON i.job_id = ? AND i.item_key = k.item_key
    WHERE i.input IS NOT k.input AND i.input IS NOT NULL
    AND json_remove(i.input, '$._attachments') IS NOT json_remove(k.input, '$._attachments') LIMIT 1
"""  # a folder may have moved
_ENTER = """
    INSERT INTO batch_items (job_id, item_key, position, input, status, attempts)
    SELECT :job, k.item_key, :first + k.place, k.input, 'todo', 0 FROM batch_staging k
    WHERE k.place BETWEEN :from AND :to
    AND NOT EXISTS (SELECT 1 FROM batch_items i WHERE i.job_id = :job AND i.item_key = k.item_key) ORDER BY k.place
"""  # in parts: SQLite lays the whole of it aside in memory, since the table has triggers


@contextlib.contextmanager
def staging() -> Iterator[None]:
    """Make the table that rows are staged in, on disk, so that memory does not grow with the input; gone at the end."""
    with scratch() as schema:
        database.execute_sql(_STAGING.format(schema=schema))
        try:
            database.execute_sql(_STAGED_KEYS.format(schema=schema))
            yield
        finally:
            if schema == "temp":
                database.execute_sql("DROP TABLE temp.batch_staging")


def stage(rows: Iterable[Row], fields: dict[str, Any], key: str | None) -> None:
    """Check every row and stage it; sets `model_id` where no row names a model. Raises InvalidInput for all at once."""
    template = templates.parse(fields["template"]) if fields.get("template") else None
    staged = _staged(rows, template, key, fields)
    while chunk := list(islice(staged, STAGED_AT_ONCE)):
        with database.atomic("DEFERRED"):  # one transaction of the scratch file alone: the database is not locked
            database.driver_connection().executemany(_STAGE, chunk)
    twice = database.execute_sql(_TWICE).fetchone()
    if twice is not None:
        raise InvalidInput(f'"{one_line(twice[0], 60)}" is the key of two rows: lines {one_line(twice[1], 60)}')
    database.execute_sql(_NUMBER)


def _staged(
    rows: Iterable[Row], template: Template | None, key: str | None, fields: dict[str, Any]
) -> Iterator[tuple[int, bool, str, str]]:
    """Yield the rows as they are staged; raises InvalidInput, after the last, where some are no requests."""
    problems: list[str] = []
    count = bad = named = 0
    for row in rows:
        count += 1
        try:
            if row.value is None:
                raise InvalidInput(row.problem or "the row cannot be read")
            forming.check(row.value, template)
            own = forming.key_of(row.value, key)
            named += forming.model_of(row.value, templated=template is not None) is not None
        except InvalidInput as error:
            bad += 1
            problems += [f"line {row.line}: {error}"] if bad <= PROBLEMS_SHOWN else []
            continue
        yield row.line, own is not None, own or forming.content_key(row.value), dump_json(row.value)
    if bad:
        more = f"; and {bad - PROBLEMS_SHOWN:,} more" if bad > PROBLEMS_SHOWN else ""
        raise InvalidInput(f"{bad:,} of {count:,} rows cannot be sent: {'; '.join(problems)}{more}")
    if not count:
        raise InvalidInput("the input has no rows")
    _settle_model(fields, template, named, count)


def _settle_model(fields: dict[str, Any], template: Template | None, named: int, count: int) -> None:
    """Set the model of a job whose rows name none; raises InvalidInput where only some do."""
    if fields.get("model_id") is not None or named == count:
        return
    if named:
        raise InvalidInput(f"{count - named:,} of {count:,} rows name no model", hint="-m names one for all")
    chosen = (template.model if template else None) or routing.choose_model(None, Options())
    fields["model_id"] = routing.callable_model(chosen).id


def _enter(job_id: int) -> Added:
    """Enter what is staged into a job, inside a transaction."""
    run = database.execute_sql
    changed = run(_CHANGED, (job_id,)).fetchone()
    if changed is not None:
        hint = "a changed row needs another key, or a batch of another name"
        raise Conflict(f'line {changed[0]}: the item "{one_line(changed[1], 60)}" says something else now', hint=hint)
    (first,) = run("SELECT coalesce(max(position), -1) FROM batch_items WHERE job_id = ?", (job_id,)).fetchone()
    (staged,), new = run("SELECT count(*) FROM batch_staging").fetchone(), 0
    for start in range(1, staged + 1, STAGED_AT_ONCE):
        part = {"from": start, "to": start + STAGED_AT_ONCE - 1}
        new += int(run(_ENTER, {"job": job_id, "first": first} | part).rowcount)
    crashpoints.reach("batch.entering")
    return Added(new, staged - new)


def begin(job: BatchJob) -> None:
    """Mark a job as running."""
    started = {} if job.started_at else {"started_at": now()}
    update_row(BatchJob, job.id, status="running", error=None, ended_at=None, **started)


_CLOSE = """
    UPDATE batch_jobs SET status = CASE
        WHEN status = 'cancelled' AND cancelled > 0 THEN status WHEN claimed + sent > 0 THEN 'running'
        WHEN todo + unknown > 0 THEN 'paused' WHEN done = 0 AND failed > 0 THEN 'failed' ELSE 'done' END,
    ended_at = iif(todo + claimed + sent + unknown = 0, ?, NULL),
    error = iif(todo + claimed + sent = 0, NULL, error) WHERE id = ?
"""


def close(job: BatchJob) -> None:
    """Set how a job stands when nobody works on it in this process any more."""
    database.execute_sql(_CLOSE, (time_text(now()), job.id))


def blank(name: str) -> BatchJob:
    """Make a job without items, whose results come from elsewhere, and return it; raises InvalidInput."""
    return BatchJob.get_by_id(insert_row(BatchJob, name=_name(name), created_at=now()))
