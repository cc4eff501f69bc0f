"""Models by name: aliases, the default, what servers offer; and parameters, checked before anything is sent."""

from __future__ import annotations

import json

import pytest

from llmsess import catalog, chat, db, errors, request_parameters, routing, sessions
from llmsess.models import LanguageModel
from tests.conftest import Command
from tests.server import ChatServer


def test_an_alias_is_a_model(run: Command) -> None:
    assert run("model", "alias", "loud", "echo/echo").out == "loud\techo/echo\n"
    assert run("chat", "hi", "-m", "loud").out == "hi\n"
    assert json.loads(run("model", "show", "loud", "--json").out)["aliases"] == ["loud"]
    assert json.loads(run("list", "--model", "loud", "--json").out)[0]["model"] == "echo/echo"
    assert run("model", "default", "loud").out == "echo/echo\n"
    assert run("chat", "hi").out == "hi\n"
    run("model", "add", "echo/other")
    assert json.loads(run("model", "alias", "loud", "echo/other", "--json").out) == [
        {"alias": "loud", "model": "echo/other"}
    ]
    assert run("model", "alias", "loud", "--remove").status == 0
    assert run("model", "alias", "loud", "--remove").status == 3
    assert run("chat", "hi", "-m", "loud").status == 3
    assert run("model", "alias", "two words", "echo/echo").status == 2
    assert run("model", "alias", "x", "nowhere/none").status == 2


def test_a_name_without_a_provider_is_enough_where_it_is_one(run: Command, server: ChatServer) -> None:
    run("model", "add", "lab/mixtral", "--base-url", server.url)
    assert run("chat", "hi", "-m", "mixtral").out == "Light scatters in the air.\n"
    run("model", "add", "other/mixtral", "--base-url", server.url)
    twice = run("chat", "hi", "-m", "mixtral")
    assert twice.status == 2 and "lab/mixtral, other/mixtral" in twice.err
    known = run("chat", "hi", "-m", "gpt-4o-mini", "--json")
    assert json.loads(known.out)["model"] == "openai/gpt-4o-mini", "the catalogue knows whose it is"
    assert run("chat", "hi", "-m", "no-such-model").status == 3


def test_a_provider_that_is_not_there_is_no_default(run: Command) -> None:
    assert run("model", "default", "nowhere/none").status == 2
    assert run("model", "default").status == 2


def test_servers_tell_what_they_offer(run: Command, server: ChatServer) -> None:
    run("model", "add", "lab/mixtral", "--base-url", server.url)
    assert run("model", "list", "--remote", "lab").out == "lab/large\nlab/small\n"
    everything = run("model", "list", "--remote", "--json")
    names = [row["model"] for row in json.loads(everything.out)]
    assert {"lab/large", "lab/small", "openai/large", "openai/small", "anthropic/small"} <= set(names)
    assert run("model", "list", "--remote", "nowhere").status == 2
    run("model", "add", "gone/x", "--base-url", "http://127.0.0.1:1/v1")
    some = run("model", "list", "--remote")
    assert some.status == 0 and "Warning: gone: " in some.err and "lab/small" in some.out


@pytest.mark.parametrize("url", ["http://u:p@host/v1", "http://host/v1?key=x", "http://host/#x", "ftp://host"])
def test_an_address_with_more_than_an_address_is_refused(database: db.Database, url: str) -> None:
    with pytest.raises(errors.InvalidInput):
        catalog.add_model("lab/x", base_url=url)
    assert LanguageModel.select().count() == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temperature": "hot"}, "temperature is a number from 0 to 10, not 'hot'"),
        ({"temperature": True}, "temperature is a number"),
        ({"temperature": float("inf")}, "temperature is a number"),
        ({"top_p": 1.5}, "top_p is a number from 0 to 1, not 1.5"),
        ({"max_tokens": 0}, "max_tokens is a whole number from 1"),
        ({"max_tokens": 1.5}, "max_tokens is a whole number"),
        ({"n": 2}, "n is 1: a turn has one reply"),
        ({"stop": [1]}, "stop is a text or a list of texts"),
        ({"seed": "1"}, "seed is a whole number"),
        ({"temprature": 1}, 'no parameter "temprature"; did you mean "temperature"?'),
        ({"max_token": 1}, 'did you mean "max_tokens"?'),
        ({"stream": False}, '"stream" is no parameter to set'),
        ({"Api-Key": "x"}, "keys come from the environment"),
        ({"response_format": "json"}, "response_format is an object"),
    ],
)
def test_what_no_server_takes_is_refused_before_sending(
    server: ChatServer, database: db.Database, given: dict[str, object], words: str
) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        chat.once("x", model="openai/small", parameters=given)
    assert words in str(caught.value)
    with pytest.raises(errors.InvalidInput):
        sessions.create("t", parameters=given)
    with pytest.raises(errors.InvalidInput):
        catalog.add_model("openai/x", parameters=given)
    assert server.requests == []


def test_what_is_not_known_goes_to_the_server_as_it_is(server: ChatServer, database: db.Database) -> None:
    odd = {"mirostat": 2, "top_a": 0.2, "guided_json": {"a": 1}, "safe_prompt": True, "min_tokens": 3, "best_of": 1}
    chat.once("x", model="openai/small", parameters=odd)
    assert {name: server.requests[0][name] for name in odd} == odd


def test_the_nearest_value_counts(server: ChatServer, database: db.Database) -> None:
    catalog.add_model("openai/small", parameters={"temperature": 0.1, "seed": 1, "top_p": 0.1})
    session = sessions.create("t", model="openai/small", parameters={"seed": 2, "max_tokens": 50})
    assert (session.max_tokens, session.parameters) == (50, {"seed": 2})
    chat.ask(session, "one")
    chat.ask(session, "two", parameters={"seed": 3, "temperature": 0.9})
    first, second = server.requests
    assert [first[name] for name in ("temperature", "seed", "top_p", "max_completion_tokens")] == [0.1, 2, 0.1, 50]
    assert [second[name] for name in ("temperature", "seed", "top_p", "max_completion_tokens")] == [0.9, 3, 0.1, 50]


def test_columns_stand_apart() -> None:
    assert request_parameters.given({"temperature": 1, "seed": 2}) == request_parameters.Given(1.0, None, {"seed": 2})
    assert request_parameters.given({"temperature": 1}, 0.5).temperature == 0.5
    assert request_parameters.given(None) == request_parameters.Given(None, None, None)


def test_a_model_is_not_stored_where_it_is_not_to_be_kept(database: db.Database) -> None:
    assert routing.callable_model("echo/new", keep=False).reference == "echo/new"
    assert LanguageModel.select().count() == 0
