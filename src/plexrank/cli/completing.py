"""Completion of verbs, options and choices in a shell, by what typer has for it."""

from __future__ import annotations

from typer.completion import completion_init, get_completion_script  # type: ignore[attr-defined]


def completion_script(shell: str) -> str:
    """What a shell is to read once; nothing is installed."""
    script: str = get_completion_script(prog_name="plexrank", complete_var="_PLEXRANK_COMPLETE", shell=shell)
    return script


def get_ready() -> None:
    """Teach the command to answer a shell that asks."""
    completion_init()
