"""The registry of providers: a name, where its class lies, and what it is made with. Nothing is imported before use.

Third parties add theirs under the entry point group `llmsess.providers`; each entry loads to a Provider subclass.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import socket
from importlib import import_module
from typing import Any

from llmsess.errors import InvalidInput, did_you_mean
from llmsess.models import dump_json
from llmsess.providers.base import Delta, Provider, Reply, Request, Turn, storable
from llmsess.providers.media import is_text

__all__ = [
    "Delta", "Provider", "Reply", "Request", "Turn", "describe", "fetch", "get", "has_key",
    "is_text", "key_for", "names", "read_reply", "usable",
]  # fmt: skip

ANTHROPIC = "llmsess.providers.anthropic:Anthropic"
OPENAI = "llmsess.providers.openai:OpenAI"
ENTRY_POINTS = "llmsess.providers"
LOCAL_TIMEOUT_S = 0.2  # a server on this machine answers at once, or is not there

# name: (class, base URL, environment variable of the key)
_TABLE: dict[str, tuple[str, str | None, str | None]] = {
    "echo": ("llmsess.providers.echo:Echo", None, None),
    "scripted": ("llmsess.providers.scripted:Scripted", None, None),
    "openai": (OPENAI, None, "OPENAI_API_KEY"),
    "anthropic": (ANTHROPIC, None, "ANTHROPIC_API_KEY"),
    "ollama": (OPENAI, "http://localhost:11434/v1", None),
    "vllm": (OPENAI, "http://localhost:8000/v1", None),
    "llamacpp": (OPENAI, "http://localhost:8080/v1", None),
    "lmstudio": (OPENAI, "http://localhost:1234/v1", None),
    "openrouter": (OPENAI, "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "groq": (OPENAI, "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "gemini": (OPENAI, "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "mistral": (OPENAI, "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": (OPENAI, "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "together": (OPENAI, "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "xai": (OPENAI, "https://api.x.ai/v1", "XAI_API_KEY"),
}
_SDKS = {OPENAI: "openai", ANTHROPIC: "anthropic"}


def fetch(url: str, limit_bytes: int) -> tuple[bytes, str, str | None]:
    """Return the bytes of a URL, its name and the media type that the server says; raises as `download()` does."""
    from llmsess.providers.download import download  # here: few prompts need it

    return download(url, limit_bytes)


_READERS = {
    "openai": ("llmsess.providers.openai", "Completion"),
    "anthropic": ("llmsess.providers.anthropic", "Answer"),
}


def read_reply(dialect: str, body: Any, *, http_status: int | None = None, request_id: str | None = None) -> Reply:
    """Return the reply that an answer in an API's form holds, as batch services write it; raises ProviderError."""
    module, name = _READERS[dialect]
    reader = getattr(import_module(module), name)(dialect, request_id, http_status)
    return storable(reader.whole(dump_json(body)))


def names() -> list[str]:
    """Return the names of all providers, third parties' included."""
    return sorted(set(_TABLE) | set(_third_parties()))


@functools.cache
def _third_parties() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {entry.name: entry.value for entry in entry_points(group=ENTRY_POINTS)}


@functools.cache
def get(name: str, *, compatible: bool = False) -> Provider:
    """Return the provider of that name.

    With `compatible`, an unknown name is an own OpenAI-compatible server, which a model's base URL says where to find.
    Raises InvalidInput for an unknown name.
    """
    if name in _TABLE:
        target, base_url, key_env = _TABLE[name]
    elif name in _third_parties():
        target, base_url, key_env = _third_parties()[name], None, None
    elif compatible:
        target, base_url, key_env = OPENAI, None, None
    else:
        guess = did_you_mean(name, names(), cutoff=0.7)
        hint = f"an own server: llmsess model add {name}/NAME --base-url URL"
        raise InvalidInput(f'no provider "{name}"{guess}', hint=hint)
    module, _, attribute = target.partition(":")
    provider: Provider = getattr(import_module(module), attribute)()
    provider.name = name
    provider.base_url = base_url or provider.base_url
    provider.key_env = key_env or provider.key_env
    return provider


def key_for(provider: Provider, variable: str | None) -> tuple[str | None, str | None]:
    """Return the key from the environment and the variable's name; the key is None where there is none."""
    name = variable or provider.key_env
    return (os.environ.get(name) or None, name) if name else (None, None)


def has_key(variable: str) -> bool:
    """Return whether the environment has a key under that name."""
    return bool(os.environ.get(variable))


def usable() -> list[str]:
    """Return the providers that could answer now: offline ones, with a key, or with a server on this machine."""
    return [name for name in names() if _is_usable(name)]


def _is_usable(name: str) -> bool:
    from urllib.parse import urlsplit  # here: only a person without a model waits for it

    base_url, key_env = describe(name)
    sdk = _SDKS.get(_TABLE.get(name, ("",))[0])
    if sdk is not None and importlib.util.find_spec(sdk) is None:
        return False
    if key_env is not None:
        return has_key(key_env)
    address = urlsplit(base_url or "")
    if address.hostname != "localhost":
        return base_url is None and name in _TABLE
    with contextlib.suppress(OSError), socket.create_connection(("localhost", address.port or 80), LOCAL_TIMEOUT_S):
        return True
    return False


def describe(name: str) -> tuple[str | None, str | None]:
    """Return a provider's server and the variable of its key, without importing it."""
    _, base_url, key_env = _TABLE.get(name, ("", None, None))
    return base_url, key_env
