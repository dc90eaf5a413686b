"""The run directory: its file names, atomic writes, and what makes a unit of work done."""

from plexrank.rundir.atomic import clear_leftovers, replacing, write_text
from plexrank.rundir.directory import RunDir, reading_output, set_aside_folder
from plexrank.rundir.unit import Json, Unit, changes, digest, file_digest, now, read_record, size_bytes

__all__ = [
    "Json",
    "RunDir",
    "Unit",
    "changes",
    "clear_leftovers",
    "digest",
    "file_digest",
    "now",
    "read_record",
    "reading_output",
    "replacing",
    "set_aside_folder",
    "size_bytes",
    "write_text",
]
