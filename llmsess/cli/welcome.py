"""Bare `llmsess`: three first commands, and the histories of other tools that lie on this machine."""

from __future__ import annotations

from pathlib import Path

from llmsess.cli import output

_HISTORIES = (("Claude Code", "~/.claude/projects", "*/*.jsonl"),)


def show_welcome() -> None:
    """Write what to do first."""
    output.out("llmsess keeps your conversations with language models in one file. To begin:\n")
    output.out('  llmsess chat "why is the sky blue?" -m echo/echo    a first turn, offline')
    output.out("  llmsess list                                        your conversations")
    output.out('  llmsess search "sky"                                find what was said')
    for tool, folder, pattern in _HISTORIES:
        files = sum(1 for _ in Path(folder).expanduser().glob(pattern))
        if files:
            output.out(f"\n{tool} has {files} transcripts here. To keep them: llmsess import auto {folder}")
    output.out("\nAll commands: llmsess --help")
