"""Bare `llmsess`: three first commands, and the histories of other tools that lie on this machine."""

from __future__ import annotations

from llmsess import finding
from llmsess.cli import output


def show_welcome() -> None:
    """Write what to do first."""
    output.out("llmsess keeps your conversations with language models in one file. To begin:\n")
    output.out('  llmsess chat "why is the sky blue?" -m echo/echo    a first turn, offline')
    output.out("  llmsess list                                        your conversations")
    output.out('  llmsess search "sky"                                find what was said')
    places = finding.places()
    if places:
        output.out("\nOther tools have histories here. To keep them: llmsess import auto\n")
    for place in places:
        output.out(f"  {place.format}: {output.cell(str(place.path))} ({output.counted(place.files, 'file')})")
    output.out("\nAll commands: llmsess --help")
