"""The run directory: its file names, atomic writes, and what makes a unit of work done."""

from plexrank.rundir.atomic import clear_leftovers, make_way, read_text, replacing, write_text
from plexrank.rundir.digests import Json, digest, file_digest, files_in, output_digest, require_plain_files, size_bytes
from plexrank.rundir.directory import STUDY_DIGEST, RunDir, reading_output
from plexrank.rundir.record import (
    DamagedOutputError,
    blaming,
    load_record,
    read_record,
    reading_recorded,
    recorded_checksums,
    recorded_digest,
    require_recorded,
)
from plexrank.rundir.unit import Unit, changes, now

__all__ = [
    "STUDY_DIGEST",
    "DamagedOutputError",
    "Json",
    "RunDir",
    "Unit",
    "blaming",
    "changes",
    "clear_leftovers",
    "digest",
    "file_digest",
    "files_in",
    "load_record",
    "make_way",
    "now",
    "output_digest",
    "read_record",
    "read_text",
    "reading_output",
    "reading_recorded",
    "recorded_checksums",
    "recorded_digest",
    "replacing",
    "require_plain_files",
    "require_recorded",
    "size_bytes",
    "write_text",
]
