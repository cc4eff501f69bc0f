"""The provider of docs/providers.md, installed as a package's entry point, as its readers do."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmsess import providers
from llmsess.errors import ProviderError
from llmsess.providers import Request, Turn
from tests.conftest import Command
from tests.server import ChatServer
from tests.test_providers import CONFORMANCE

PAGE = Path(__file__).parent.parent / "docs" / "providers.md"
NAME = "ollama-native"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The example's module and entry point in a folder on the path, as pip leaves them."""
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    [entry] = re.findall(r"^ollama-native = \"(.*)\"$", PAGE.read_text(), re.MULTILINE)
    folder = tmp_path / "site"
    (folder / "ollama_native-1.0.dist-info").mkdir(parents=True)
    (folder / "ollama_native.py").write_text(code)
    (folder / "ollama_native-1.0.dist-info" / "METADATA").write_text("Name: ollama-native\nVersion: 1.0\n")
    (folder / "ollama_native-1.0.dist-info" / "entry_points.txt").write_text(f"[llmsess.providers]\n{NAME} = {entry}\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    _forget()
    yield folder
    _forget()
    sys.modules.pop("ollama_native", None)


def _forget() -> None:
    importlib.invalidate_caches()
    providers._third_parties.cache_clear()
    providers.get.cache_clear()


@pytest.mark.parametrize("test", CONFORMANCE)
def test_the_example_conforms(installed: Path, server: ChatServer, test: object) -> None:
    asked = Request(
        model="echo", turns=[Turn("user", "Light scatters in the air.")], system="be brief",
        base_url=server.url.removesuffix("/v1"),
    )  # fmt: skip
    assert callable(test)
    test((NAME, asked))


@pytest.mark.parametrize(("model", "kind"), [("early", "truncated"), ("404", "not_found"), ("529", "overloaded")])
def test_its_failures_are_ours(installed: Path, server: ChatServer, model: str, kind: str) -> None:
    asked = Request(model=model, turns=[Turn("user", "hi")], base_url=server.url.removesuffix("/v1"))
    with pytest.raises(ProviderError) as caught:
        list(providers.get(NAME).answer(asked))
    assert caught.value.error_kind == kind


def test_it_is_used_by_name(installed: Path, server: ChatServer, process: Command) -> None:
    assert NAME in process("model", "providers").out
    address = server.url.removesuffix("/v1")
    assert process("model", "add", f"{NAME}/small", "--base-url", address).status == 0
    done = process("chat", "hi", "-m", f"{NAME}/small", "--json")
    reply = json.loads(done.out)
    assert (reply["content"], reply["model"]) == ("Light scatters in the air.", f"{NAME}/small")
    assert (reply["input_tokens"], reply["output_tokens"]) == (11, 7)
