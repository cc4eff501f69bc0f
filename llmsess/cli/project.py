"""`llmsess project`: folders of work."""

from __future__ import annotations

from typing import Any

import click

from llmsess import catalog
from llmsess.cli import SuggestingGroup, output
from llmsess.cli.completion_types import PROJECT
from llmsess.cli.options import (
    chosen_format,
    confirmed,
    database,
    format_options,
    list_options,
    one_page,
    pair,
    text_value,
    yes_option,
)
from llmsess.models import Project, Session


@click.group(cls=SuggestingGroup)
def project() -> None:
    """Folders of work that sessions lie in."""


def _json(row: Project) -> output.Row:
    return {
        "id": row.uuid,
        "name": row.name,
        "description": row.description,
        "metadata": row.metadata,
        "created_at": row.created_at,
        "archived_at": row.archived_at,
    }


@project.command()
@click.argument("name")
@click.option("--description", help="What it is about; @FILE reads a file.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Metadata.")
@format_options
@database
def create(name: str, description: str | None, meta: tuple[str, ...], format_: str | None, as_json: bool) -> None:
    """Make a project.

    \b
    Example:
      llmsess project create thesis --description "chapter drafts"
    """
    made = catalog.create_project(name, description=text_value(description), metadata=dict(map(pair, meta)))
    output.show_fields(_json(made), chosen_format(format_, as_json))


@project.command("list")
@click.option("--archived", is_flag=True, help="The archived ones too.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Only with this metadata.")
@list_options
@format_options
@database
def list_(archived: bool, meta: tuple[str, ...], format_: str | None, as_json: bool, **paging: Any) -> None:
    """List the projects.

    \b
    Example:
      llmsess project list
    """
    found = catalog.find_projects(archived=archived, metadata=map(pair, meta))
    rows = [_json(row) for row in one_page(found, lambda row: row.name, **paging)]
    headings = {"id": "id", "name": "name", "description": "description", "created_at": "created"}
    layout = output.Layout(headings, flexible="description", spare=("created_at",))
    output.show_rows(rows, chosen_format(format_, as_json), layout, lambda row: row | {"id": row["id"][:8]})


@project.command()
@click.argument("reference", metavar="PROJECT", shell_complete=PROJECT)
@format_options
@database
def show(reference: str, format_: str | None, as_json: bool) -> None:
    """Show a project and how many sessions it holds.

    \b
    Example:
      llmsess project show thesis
    """
    row = catalog.get_project(reference)
    sessions = Session.select().where((Session.project == row.id) & (Session.status != "deleted")).count()
    output.show_fields(_json(row) | {"sessions": sessions}, chosen_format(format_, as_json))


@project.command()
@click.argument("reference", metavar="PROJECT", shell_complete=PROJECT)
@click.option("--name", help="A new name.")
@click.option("--description", help="A new description; @FILE reads a file.")
@click.option("--meta", multiple=True, metavar="KEY=VALUE", help="Metadata to add or replace.")
@format_options
@database
def edit(
    reference: str, name: str | None, description: str | None, meta: Any, format_: str | None, as_json: bool
) -> None:
    """Change a project's name, description or metadata.

    \b
    Example:
      llmsess project edit thesis --name dissertation
    """
    metadata = dict(map(pair, meta))
    changed = catalog.edit_project(reference, name=name, description=text_value(description), metadata=metadata)
    output.show_fields(_json(changed), chosen_format(format_, as_json))


@project.command()
@click.argument("reference", metavar="PROJECT", shell_complete=PROJECT)
@click.option("--undo", is_flag=True, help="Bring it back.")
@database
def archive(reference: str, undo: bool) -> None:
    """Take a project out of the list, or bring it back.

    \b
    Example:
      llmsess project archive thesis
    """
    row = catalog.edit_project(reference, archived=not undo)
    output.notice(f'Project "{row.name}" is {"back" if undo else "archived"}.')


@project.command()
@click.argument("reference", metavar="PROJECT", shell_complete=PROJECT)
@yes_option
@database
def delete(reference: str, yes: bool, dry_run: bool) -> None:
    """Delete a project; its sessions stay, in no project.

    \b
    Example:
      llmsess project delete thesis --yes
    """
    row = catalog.get_project(reference)
    if confirmed(f'Delete the project "{row.name}" and keep its sessions', yes=yes, dry_run=dry_run):
        left = catalog.delete_project(row)
        output.notice(f'Deleted project "{row.name}"; {output.counted(left, "session")} in no project now.')
