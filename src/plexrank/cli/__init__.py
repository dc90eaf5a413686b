"""The command line: one verb per stage and per user question. Thin: parse → call → exit code."""

from plexrank.cli.ending import main

__all__ = ["main"]
