"""`llmsess model`: language models, their servers and prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import click

from llmsess import catalog, prices, providers, routing
from llmsess.cli import SuggestingGroup, output
from llmsess.cli.completion_types import MODEL
from llmsess.cli.options import (
    chosen_format,
    confirmed,
    database,
    format_options,
    json_or_text,
    list_options,
    one_page,
    yes_option,
)
from llmsess.errors import InvalidInput, NotFound, ProviderError
from llmsess.models import LanguageModel

PER_MILLION = 1_000_000  # USD per million tokens are that many nano-USD per thousand


@click.group(cls=SuggestingGroup)
def model() -> None:
    """Language models one can call or has imported from."""


def _price(nano_per_1k: int | None) -> Decimal | None:
    return None if nano_per_1k is None else Decimal(nano_per_1k) / PER_MILLION


def _json(row: LanguageModel, aliases: dict[str, str] | None = None) -> output.Row:
    aliases = catalog.aliases() if aliases is None else aliases
    return {
        "id": row.uuid,
        "model": row.reference,
        "base_url": row.base_url,
        "api_key_env": row.api_key_env,
        "context_window": row.context_window,
        "input_usd_per_million": _price(row.cost_per_1k_input_tokens),
        "output_usd_per_million": _price(row.cost_per_1k_output_tokens),
        "cached_usd_per_million": _price(row.cost_per_1k_cached_tokens),
        "parameters": row.parameters,
        "is_active": row.is_active,
        "aliases": [word for word, named in aliases.items() if named == row.reference],
    }


def _settings(command: Any) -> Any:
    for option in (
        click.option(
            "-o", "--option", "options", nargs=2, multiple=True, metavar="NAME VALUE", help="A request parameter."
        ),
        click.option("--context-window", type=int, help="Tokens it takes."),
        click.option("--cached-price", help="USD per million cached input tokens."),
        click.option("--output-price", help="USD per million output tokens."),
        click.option("--input-price", help="USD per million input tokens."),
        click.option("--api-key-env", metavar="VAR", help="The NAME of the environment variable with the key."),
        click.option("--base-url", metavar="URL", help="An OpenAI-compatible server."),
    ):
        command = option(command)
    return command


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `_settings()` as columns."""
    given_prices = {
        f"cost_per_1k_{kind}_tokens": None if text is None else int(prices.parse_usd(text) * PER_MILLION)
        for kind, text in (
            ("input", given["input_price"]),
            ("output", given["output_price"]),
            ("cached", given["cached_price"]),
        )
    }
    parameters = {name: json_or_text(value) for name, value in given["options"]}
    return given_prices | {
        "base_url": given["base_url"],
        "api_key_env": given["api_key_env"],
        "context_window": given["context_window"],
        "parameters": parameters or None,
    }


@model.command()
@click.argument("reference", metavar="PROVIDER/NAME")
@click.option("--version", "model_version", help="A dated version of it.")
@_settings
@format_options
@database
def add(reference: str, model_version: str | None, format_: str | None, as_json: bool, **given: Any) -> None:
    """Add a model, with its server, key and prices where they are its own.

    \b
    Example:
      llmsess model add lab/mixtral --base-url http://gpu:8000/v1 --input-price 0.2 --output-price 0.6
    """
    row = catalog.add_model(reference, model_version=model_version, **_fields(given))
    output.show_fields(_json(row), chosen_format(format_, as_json))
    if row.base_url is None and row.provider not in providers.names():
        output.notice("It prices what is imported; to call it, say where its server is: --base-url URL")


@model.command("list")
@click.option(
    "--remote", metavar="[PROVIDER]", is_flag=False, flag_value="", help="Ask this provider's server, or all there are."
)
@click.option("--removed", is_flag=True, help="The removed ones too.")
@list_options
@format_options
@database
def list_(remote: str | None, removed: bool, format_: str | None, as_json: bool, **paging: Any) -> None:
    """List the models of this database, or those that servers offer.

    \b
    Examples:
      llmsess model list
      llmsess model list --remote
      llmsess model list --remote ollama
    """
    chosen = chosen_format(format_, as_json)
    if remote is not None:
        names = routing.offered(remote) if remote else _offered_anywhere()
        output.show_rows([{"model": name} for name in one_page(names, str, **paging)], chosen)
        return
    found = sorted(catalog.find_models(removed=removed), key=lambda row: row.reference)
    page, aliases = one_page(found, lambda row: row.reference, **paging), catalog.aliases()
    output.show_rows([_json(row, aliases) for row in page], chosen, _LAYOUT)


_LAYOUT = output.Layout(
    {"model": "model", "context_window": "context", "input_usd_per_million": "$/M in",
     "output_usd_per_million": "$/M out", "base_url": "server"},
    flexible="model",
)  # fmt: skip


def _offered_anywhere() -> list[str]:
    """Return the models of all servers that can be asked; says which have not answered."""
    names: list[str] = []
    for name in routing.servers():
        try:
            names += routing.offered(name)
        except ProviderError as error:
            output.notice(f"Warning: {name}: {error}", fg="yellow")
    return sorted(names)


@model.command()
@click.argument("reference", metavar="MODEL", shell_complete=MODEL)
@format_options
@database
def show(reference: str, format_: str | None, as_json: bool) -> None:
    """Show a model.

    \b
    Example:
      llmsess model show lab/mixtral
    """
    output.show_fields(_json(catalog.get_model(reference)), chosen_format(format_, as_json))


@model.command()
@click.argument("reference", metavar="MODEL", shell_complete=MODEL)
@_settings
@format_options
@database
def edit(reference: str, format_: str | None, as_json: bool, **given: Any) -> None:
    """Change a model's server, key, prices or parameters.

    \b
    Example:
      llmsess model edit lab/mixtral --base-url http://gpu2:8000/v1
    """
    output.show_fields(_json(catalog.edit_model(reference, **_fields(given))), chosen_format(format_, as_json))


@model.command()
@click.argument("reference", metavar="MODEL", shell_complete=MODEL)
@yes_option
@database
def remove(reference: str, yes: bool, dry_run: bool) -> None:
    """Remove a model; one that messages name is only taken out of the list.

    \b
    Example:
      llmsess model remove lab/mixtral --yes
    """
    row = catalog.get_model(reference)
    if confirmed(f"Remove the model {row.reference}", yes=yes, dry_run=dry_run):
        gone = catalog.remove_model(row)
        output.notice(
            f"Removed {row.reference}." if gone else f"Took {row.reference} out of the list: messages name it."
        )


@model.command()
@click.argument("reference", metavar="[MODEL]", required=False, shell_complete=MODEL)
@format_options
@database
def default(reference: str | None, format_: str | None, as_json: bool) -> None:
    """Show or set the model that chat uses when none is named.

    \b
    Example:
      llmsess model default ollama/llama3.2
    """
    chosen = catalog.set_default_model(routing.callable_model(reference)) if reference else catalog.default_model()
    if chosen is None:
        raise InvalidInput("no default model is set", hint="llmsess model default PROVIDER/NAME")
    output.show_value("model", chosen, chosen_format(format_, as_json))


@model.command()
@click.argument("name", required=False)
@click.argument("reference", metavar="[MODEL]", required=False, shell_complete=MODEL)
@click.option("--remove", is_flag=True, help="Forget this alias.")
@format_options
@database
def alias(name: str | None, reference: str | None, remove: bool, format_: str | None, as_json: bool) -> None:
    """Make NAME mean a model, or list the aliases.

    \b
    Examples:
      llmsess model alias fast openai/gpt-5-mini
      llmsess chat "why is the sky blue?" -m fast
      llmsess model alias fast --remove
    """
    if remove:
        catalog.remove_alias(name or "")
    elif name is not None and reference is not None:
        catalog.set_alias(name, routing.callable_model(reference))
    rows = [{"alias": word, "model": model} for word, model in catalog.aliases().items() if name in (None, word)]
    output.show_rows(rows, chosen_format(format_, as_json))


@model.command()
@click.argument("reference", metavar="MODEL", shell_complete=MODEL)
@format_options
@database
def price(reference: str, format_: str | None, as_json: bool) -> None:
    """Show what a model costs and where the price comes from.

    \b
    Example:
      llmsess model price openai/gpt-5
    """
    try:
        row = catalog.get_model(reference)
    except NotFound:  # one that is not stored has a price in the catalogue, perhaps
        row = LanguageModel(**dict(zip(("provider", "model_name"), catalog.split_reference(reference), strict=True)))
    quoted = prices.quote(row)
    if quoted.source is None:
        command = f"llmsess model edit {row.reference} --input-price USD --output-price USD, both per million tokens"
        missing = "" if prices.has_catalogue() else "; or install the catalogue: pip install 'llmsess[providers]'"
        output.notice(f"No price is known for {row.reference}: {command}{missing}")
    figures = {
        "source": quoted.source,
        "input_usd_per_million": quoted.input_usd_per_million,
        "output_usd_per_million": quoted.output_usd_per_million,
    }
    output.show_fields({"model": row.reference} | figures, chosen_format(format_, as_json))


@model.command("providers")
@format_options
@database
def providers_(format_: str | None, as_json: bool) -> None:
    """List the providers, where their servers are, and whether a key is there.

    \b
    Example:
      llmsess model providers
    """
    rows = []
    for name in providers.names():
        base_url, key_env = providers.describe(name)
        has_key = None if key_env is None else providers.has_key(key_env)
        rows.append({"provider": name, "base_url": base_url, "api_key_env": key_env, "key_set": has_key})
    layout = output.Layout(
        {"provider": "provider", "base_url": "server", "api_key_env": "key from", "key_set": "key"}, flexible="base_url"
    )
    show = {True: "set", False: "missing", None: ""}
    output.show_rows(rows, chosen_format(format_, as_json), layout, lambda row: row | {"key_set": show[row["key_set"]]})
