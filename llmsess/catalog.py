"""Projects and language models.

A project is known by its name, a language model by `provider/name`. What a reply cost is in `prices`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from peewee import IntegrityError

from llmsess import door, models, prices, request_parameters
from llmsess.db import database
from llmsess.errors import Ambiguous, Conflict, InvalidInput, NotFound
from llmsess.models import LanguageModel, Message, ModelAlias, Project, Session, Setting
from llmsess.prices import MAX_PRICE
from llmsess.references import resolve, same_row
from llmsess.rows import insert_row, update_row

# Projects


def create_project(name: str, *, description: str | None = None, metadata: dict[str, Any] | None = None) -> Project:
    """Make a project and return it; raises Conflict if the name is taken, InvalidInput if it is empty."""
    name = _name(name)
    try:
        with database.atomic():
            return Project.create(
                name=name,
                description=door.text(description, "description") if description else None,
                metadata=door.json_object(metadata, "metadata") if metadata else None,
            )
    except IntegrityError as error:
        raise Conflict(f'there is a project "{name}" already', hint=f'llmsess project show "{name}"') from error


def get_project(reference: str | Project) -> Project:
    """Return the project of that name or uuid; raises NotFound, Ambiguous, InvalidInput."""
    return resolve(Project, reference, "project", name=Project.name, latest=Project.created_at)


def find_projects(*, archived: bool = False, metadata: Iterable[tuple[str, str]] = ()) -> list[Project]:
    """Return the projects by name, with the archived ones if asked; `metadata` are keys and values they must have."""
    query = Project.select().order_by(Project.name)
    if not archived:
        query = query.where(Project.archived_at.is_null())
    wanted = list(metadata)
    return [row for row in query if all(_as_text((row.metadata or {}).get(key)) == value for key, value in wanted)]


def _as_text(value: Any) -> str | None:
    """Return a metadata value as SQLite's json_extract has it as text, None where there is none."""
    if value is None or isinstance(value, str):
        return value
    return str(int(value)) if isinstance(value, bool) else models.dump_json(value)


def edit_project(
    reference: str | Project,
    *,
    name: str | None = None,
    description: str | None = None,
    metadata: dict[str, Any] | None = None,
    archived: bool | None = None,
) -> Project:
    """Change what is given and return the project; raises NotFound, InvalidInput, Conflict if the new name is taken."""
    given: dict[str, Any] = {}
    if name is not None:
        given["name"] = _name(name)
    if description is not None:
        given["description"] = door.text(description, "description") or None
    if archived is not None:
        given["archived_at"] = models.now() if archived else None
    try:
        with database.atomic():
            row_id = get_project(reference).id
            if metadata:
                known = Project.get_by_id(row_id).metadata or {}
                given["metadata"] = known | door.json_object(metadata, "metadata")
            if given:
                update_row(Project, row_id, **given)
    except IntegrityError as error:
        raise Conflict(f'there is a project "{name}" already') from error
    return Project.get_by_id(row_id)


def delete_project(reference: str | Project) -> int:
    """Delete a project and return how many sessions it held; they stay, in no project."""
    project = get_project(reference)
    with database.atomic():
        sessions = Session.select().where(Session.project == project.id).count()
        project.delete_instance()
    return int(sessions)


def project_id(name: str) -> int:
    """Return the id of the project of that name, made where there is none; call it inside a transaction."""
    name = _name(name)
    row = database.execute_sql("SELECT id FROM projects WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else insert_row(Project, name=name)


def known_project_id(reference: str) -> int:
    """Return the id of a project that exists, by a constant statement where it is named; raises as `get_project()`."""
    name = door.text(reference, "a project")
    row = database.execute_sql("SELECT id FROM projects WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else int(get_project(name).id)


def _name(name: str) -> str:
    name = " ".join(door.text(name, "a name").split())
    if not name:
        raise InvalidInput("a name cannot be empty")
    return name


# Language models


def split_reference(reference: str) -> tuple[str, str]:
    """Return provider and name of `provider/name`; raises InvalidInput for anything else."""
    reference = door.text(reference, "a model")
    provider, slash, name = reference.strip().partition("/")
    if not (provider and slash and name):
        raise InvalidInput(f'"{reference}" names no model', hint="a model is named provider/name, as echo/echo")
    return provider.lower(), name


_SETTABLE = (
    "context_window", "cost_per_1k_input_tokens", "cost_per_1k_output_tokens", "cost_per_1k_cached_tokens",
    "base_url", "api_key_env", "parameters",
)  # fmt: skip


def add_model(reference: str, **fields: Any) -> LanguageModel:
    """Make a language model from `provider/name` and its fields and return it; raises Conflict if there is one.

    An imported or removed model of that name is taken over.
    """
    provider, name = split_reference(reference)
    version = door.text(fields.pop("model_version", None) or "", "a version")
    given = _model_fields(fields)
    with database.atomic():
        model = _model_row(provider, name, version)
        if model and model.is_active and any(getattr(model, key) is not None for key in _SETTABLE):
            raise Conflict(f'there is a model "{reference}" already', hint=f"llmsess model edit {reference}")
        if model is None:
            model = LanguageModel(provider=provider, model_name=name, model_version=version)
        _set(model, given)
        model.is_active = True
        model.save()
    return model


def _model_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the given fields of a model, checked."""
    given = {key: value for key, value in fields.items() if value is not None}
    for key, value in given.items():
        if key not in _SETTABLE:
            raise InvalidInput(f'a model has no field "{key}" to set', hint=f"fields are {', '.join(_SETTABLE)}")
        if key.startswith("cost_per_1k") and door.count(value, key) > MAX_PRICE:
            raise InvalidInput(f"a price of {value} nano-USD per thousand tokens cannot be")
        if key == "context_window" and door.count(value, key) < 1:
            raise InvalidInput("a context window is at least one token")
        if key == "parameters":
            given[key] = request_parameters.checked(value)
        if key in ("base_url", "api_key_env"):
            given[key] = door.text(value, key)
    if given.get("base_url") and not given["base_url"].startswith(("http://", "https://")):
        raise InvalidInput(
            f'"{given["base_url"]}" is no address of a server', hint="it begins with http:// or https://"
        )
    if any(mark in given.get("base_url", "").partition("://")[2] for mark in "@?#"):
        raise InvalidInput(
            "a server's address has no name, password or query: they would be stored", hint="--api-key-env"
        )
    if given.get("api_key_env") and not given["api_key_env"].replace("_", "a").isidentifier():
        raise InvalidInput("api_key_env is the NAME of an environment variable, never a key")
    return given


def _set(model: LanguageModel, given: dict[str, Any]) -> None:
    """Set fields of a model, "" as unknown; raises InvalidInput where one price alone would leave it unpriced."""
    for key, value in given.items():
        setattr(model, key, None if value == "" else value)
    if (model.cost_per_1k_input_tokens is None) != (model.cost_per_1k_output_tokens is None):
        raise InvalidInput("a model needs a price for input and one for output", hint="0 where one is free")


def _model_row(provider: str, name: str, version: str = "") -> LanguageModel | None:
    return LanguageModel.get_or_none(
        (LanguageModel.provider == provider)
        & (LanguageModel.model_name == name)
        & (LanguageModel.model_version == version)
    )


def get_model(reference: str | LanguageModel) -> LanguageModel:
    """Return the stored model of that alias, `provider/name[@version]`, name if it is the only one, or uuid prefix.

    Raises NotFound, Ambiguous, InvalidInput.
    """
    if isinstance(reference, LanguageModel):
        return reference
    if "/" not in door.text(reference, "a model"):
        aliased = ModelAlias.get_or_none(ModelAlias.name == reference.strip())
        if aliased is not None:
            return aliased.model
        named = list(LanguageModel.select().where(LanguageModel.model_name == reference.strip()))
        named = [row for row in named if row.is_active] or named
        if len(named) > 1:
            raise Ambiguous("model", reference, [row.reference for row in named], "give provider/name")
        return named[0] if named else resolve(LanguageModel, reference, "model", name=None)
    provider, name = split_reference(reference)
    found = _model_row(provider, name)
    if found is None and "@" in name:
        found = _model_row(provider, *name.rsplit("@", 1))
    if found is None:
        raise NotFound("model", reference, near=_near_model(reference))
    return found


def guessed(name: str, usable: Iterable[str]) -> str:
    """Return `provider/name` for the name of a model that the price catalogue knows of one usable provider.

    Raises NotFound where it knows none, Ambiguous where it knows several.
    """
    found = [f"{provider}/{name}" for provider in usable if prices.knows(provider, name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise Ambiguous("model", name, found, "give provider/name")
    raise NotFound("model", name, near=_near_model(name), hint="give provider/name, as ollama/llama3.2")


def _near_model(reference: str) -> str | None:
    import difflib

    known = [model.reference for model in find_models()]
    return next(iter(difflib.get_close_matches(reference, known, 1)), None)


def set_alias(alias: str, reference: str | LanguageModel) -> LanguageModel:
    """Make a word mean a model, whatever it meant before, and return the model; raises InvalidInput for no word."""
    word = _alias(alias)
    model = model_named(reference)
    with database.atomic():
        ModelAlias.delete().where(ModelAlias.name == word).execute()
        ModelAlias.create(name=word, model=model)
    return model


def remove_alias(alias: str) -> None:
    """Forget an alias; raises NotFound where there is none."""
    with database.atomic():
        if not ModelAlias.delete().where(ModelAlias.name == _alias(alias)).execute():
            raise NotFound("alias", alias, hint="llmsess model alias")


def aliases() -> dict[str, str]:
    """Return the aliases and the references of the models they mean, by name."""
    rows = ModelAlias.select(ModelAlias, LanguageModel).join(LanguageModel).order_by(ModelAlias.name)
    return {row.name: row.model.reference for row in rows}


def _alias(word: str) -> str:
    cleaned = door.text(word, "an alias").strip()
    if not cleaned or "/" in cleaned or any(character.isspace() for character in cleaned):
        raise InvalidInput(f'"{word}" is no alias', hint="an alias is one word without a slash")
    return cleaned


def find_models(*, removed: bool = False) -> list[LanguageModel]:
    """Return the language models by name, with the removed ones if asked."""
    query = LanguageModel.select().order_by(LanguageModel.provider, LanguageModel.model_name)
    return list(query if removed else query.where(LanguageModel.is_active == True))  # noqa: E712


def edit_model(reference: str | LanguageModel, **fields: Any) -> LanguageModel:
    """Change the given fields of a model, "" for unknown, and return it; raises InvalidInput, NotFound."""
    given = _model_fields(fields)
    with database.atomic():
        row_id = same_row(LanguageModel, get_model(reference), "model")
        model = LanguageModel.get_by_id(row_id)
        _set(model, given)
        if given:
            update_row(LanguageModel, row_id, **{key: getattr(model, key) for key in given})
    return model


_IN_SNAPSHOTS = """
    SELECT 1 FROM session_snapshots WHERE iif(json_valid(session_state), session_state ->> '$.model', NULL) = ? LIMIT 1
"""


def remove_model(reference: str | LanguageModel) -> bool:
    """Delete a model and return True; where messages, sessions or snapshots name it, only hide it and return False."""
    model = get_model(reference)
    with database.atomic():
        used = (
            Message.select().where(Message.model == model.id).exists()
            or Session.select().where(Session.model == model.id).exists()
            or database.execute_sql(_IN_SNAPSHOTS, (model.reference,)).fetchone() is not None
        )
        if used:
            model.is_active = False
            model.save()
        else:
            model.delete_instance()
        if default_model() == model.reference:
            Setting.delete().where(Setting.key == "default_model").execute()
    return not used


def server_of(provider: str) -> LanguageModel | None:
    """Return a model that says where the own server of a provider is, None where none does."""
    query = LanguageModel.select().where((LanguageModel.provider == provider) & LanguageModel.base_url.is_null(False))
    return query.order_by(LanguageModel.is_active.desc(), LanguageModel.id.desc()).first()  # type: ignore[no-any-return]


def model_id(reference: str) -> int:
    """Return the id of the model `provider/name`, made where there is none; call it inside a transaction."""
    provider, name = split_reference(reference)
    row = database.execute_sql(
        "SELECT id FROM models WHERE provider = ? AND model_name = ? AND model_version = ''", (provider, name)
    ).fetchone()
    return int(row[0]) if row else insert_row(LanguageModel, provider=provider, model_name=name)


def known_model_id(reference: str) -> int:
    """Return the id of a model that is stored, by a constant statement where it is named; raises as `get_model()`."""
    provider, _, name = door.text(reference, "a model").partition("/")
    sql = "SELECT id FROM models WHERE provider = ? AND model_name = ? AND model_version = ''"
    row = database.execute_sql(sql, (provider.lower(), name)).fetchone()
    return int(row[0]) if row else int(get_model(reference).id)


def model_named(reference: str | LanguageModel) -> LanguageModel:
    """Return the model of that reference, made where it is `provider/name` and not stored yet."""
    if isinstance(reference, LanguageModel):
        return reference
    try:
        return get_model(reference)
    except NotFound:
        if "/" not in reference:
            raise
    with database.atomic():
        return LanguageModel.get_by_id(model_id(reference))


def default_model() -> str | None:
    """Return the reference of the model that `model default` set, None if it set none."""
    row = Setting.get_or_none(Setting.key == "default_model")
    return str(row.value) if row else None


def set_default_model(reference: str | LanguageModel) -> str:
    """Make a model the default of this database and return its reference."""
    model = model_named(reference)
    with database.atomic():
        Setting.delete().where(Setting.key == "default_model").execute()
        Setting.create(key="default_model", value=model.reference)
    return model.reference
