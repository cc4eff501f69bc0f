"""Where a turn goes and how it is sent: the model, its provider, the key, the settings, each from the nearest source.

What is given for the turn comes first, then the session's, then the model's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmsess import catalog, contexts, door, providers, request_parameters
from llmsess.errors import InvalidInput, MissingKey, NotFound
from llmsess.models import LanguageModel, Session
from llmsess.prices import OFFLINE
from llmsess.providers import Provider, Request
from llmsess.retrying import RETRIES
from llmsess.rows import get_row
from llmsess.settings import Settings


@dataclass(frozen=True)
class Options:
    """How a turn is sent; None and {} mean what the session says.

    `schema` is a JSON Schema that the answer must fit, `context` is "all" or "last:N" (the N messages before the
    prompt), `retries` how often a refused request is sent again.
    """

    model: str | LanguageModel | None = None
    system: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    context: str | None = None
    retries: int = RETRIES
    stream: bool = True
    timeout_s: float = 600.0

    def __post_init__(self) -> None:
        given = request_parameters.given(self.parameters, self.temperature, self.max_tokens)
        door.count(self.retries, "retries")
        contexts.last(self.context)
        for name, value in (("temperature", given.temperature), ("max_tokens", given.max_tokens)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "parameters", given.others or {})


@dataclass(frozen=True)
class Route:
    """Where a turn goes: a stored model, its provider and the key."""

    model: LanguageModel
    provider: Provider
    api_key: str | None


def callable_model(model: str | LanguageModel, *, keep: bool = True) -> LanguageModel:
    """Return the model that can be called under that reference, alias, or name that only one has.

    One that is not stored yet is stored only if its provider exists, or is an own server, and not at all where it is
    not to be kept. Raises InvalidInput, Ambiguous, NotFound.
    """
    try:
        found = catalog.get_model(model)
    except NotFound:
        assert isinstance(model, str)
        found = _new_model(model if "/" in model else catalog.guessed(model, providers.usable()), keep)
    providers.get(found.provider, compatible=found.base_url is not None)
    return found


def servers() -> list[str]:
    """Return the providers whose servers can be asked for their models now, own servers included, by name."""
    own = {row.provider for row in catalog.find_models() if row.base_url}
    return sorted(own.union(providers.usable()) - set(OFFLINE))


def offered(reference: str) -> list[str]:
    """Return the references of the models that the server of a provider, or of a stored model, offers, sorted.

    Raises InvalidInput, NotFound, ProviderError.
    """
    name = reference.partition("/")[0]
    own = catalog.get_model(reference) if "/" in reference else catalog.server_of(name)
    provider = providers.get(name, compatible=own is not None)
    key = _key(provider, own or LanguageModel(provider=name, model_name="..."))
    names = provider.models(base_url=own.base_url if own else None, api_key=key)
    return sorted(f"{name}/{model}" for model in names)


def route(model: str | LanguageModel, *, keep: bool = True, keyed: bool = True) -> Route:
    """Return where turns for the model go; raises as `callable_model()`, and MissingKey, MissingExtra.

    One that is not keyed, and needs no key, is not to be sent.
    """
    stored = callable_model(model, keep=keep)
    provider = providers.get(stored.provider, compatible=stored.base_url is not None)
    return Route(stored, provider, _key(provider, stored) if keyed else None)


def _key(provider: Provider, model: LanguageModel) -> str | None:
    """Return the key from the environment, None where none is needed; raises MissingKey, InvalidInput."""
    own_server = model.base_url is not None and model.api_key_env is None
    key, variable = providers.key_for(provider, model.api_key_env)
    if variable and key is None and not own_server:
        raise MissingKey(model.reference, variable)
    if key is not None and not (key.isascii() and key.isprintable()):
        raise InvalidInput(f"the key in {variable} has a character that no key has", hint="a line end, perhaps")
    return key


def _new_model(reference: str, keep: bool) -> LanguageModel:
    """Make a model of a known provider, or of an own server that another model names, and return it."""
    provider, name = catalog.split_reference(reference)
    sibling = catalog.server_of(provider) if provider not in providers.names() else None
    if sibling is None:
        providers.get(provider)
    server = {"base_url": sibling.base_url, "api_key_env": sibling.api_key_env} if sibling else {}
    if keep:
        return catalog.add_model(reference, **server)
    return LanguageModel(provider=provider, model_name=name, **server)


def choose_model(session: Session | None, options: Options) -> str | LanguageModel:
    """Return the model of a turn: the option's, the session's, LLMSESS_MODEL's, the database's default."""
    own = get_row(LanguageModel, session.model_id) if session is not None and session.model_id else None
    chosen = options.model or own or Settings.load().model or catalog.default_model()
    if not chosen:
        usable = ", ".join(providers.usable())
        ways = "-m provider/name, LLMSESS_MODEL, or llmsess model default"
        raise InvalidInput("no model is chosen", hint=f"{ways}; usable here: {usable}")
    return chosen


def prepare(options: Options, session: Session | None = None, *, keep: bool = True) -> tuple[Route, Request]:
    """Return where a turn goes, and its request without turns, checked as far as it can be without sending.

    Raises as `route()`, and InvalidInput.
    """
    way = route(choose_model(session, options), keep=keep)
    request = request_for(way, session, options)
    way.provider.check(request)
    return way, request


def request_for(way: Route, session: Session | None, options: Options) -> Request:
    """Return the request without its turns: the option's value, else the session's, else the model's."""

    parameters = dict(way.model.parameters or {}) | dict((session.parameters if session else None) or {})

    def pick(name: str, option: Any) -> Any:
        own = option if option is not None else getattr(session, name) if session else None
        default = parameters.pop(name, None)  # of the model
        return default if own is None else own

    return Request(
        model=way.model.model_name,
        turns=(),
        system=pick("system_prompt", options.system),
        temperature=pick("temperature", options.temperature),
        max_tokens=pick("max_tokens", options.max_tokens),
        parameters=parameters | dict(options.parameters),
        schema=options.schema,
        stream=options.stream,
        base_url=way.model.base_url,
        api_key=way.api_key,
        timeout_s=options.timeout_s,
    )


def overrides(session: Session, options: Options) -> dict[str, Any]:
    """Return what a turn is sent with that is not what its session says, to be kept with the reply."""
    given = {"system_prompt": options.system, "temperature": options.temperature, "max_tokens": options.max_tokens}
    changed = {name: value for name, value in given.items() if value not in (None, getattr(session, name))}
    own = session.parameters or {}
    parameters = {name: value for name, value in options.parameters.items() if own.get(name) != value}
    others = {"parameters": parameters, "schema": options.schema, "context": options.context}
    return changed | {name: value for name, value in others.items() if value}
