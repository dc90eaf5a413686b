"""Done-records: what a unit depended on, and the digests that its outputs are held against when they are read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plexrank.errors import RunDirError, refuse_passing
from plexrank.rundir.atomic import read_text, write_text
from plexrank.rundir.digests import Json, digest, file_checksum, file_digest, output_digest, size_bytes
from plexrank.rundir.directory import reading_output

_OWN_DIGEST = "record sha256"
_OUTPUT_DIGESTS, _CHECKSUMS, _OWN_CHECKSUMS = "sha256", "crc32c", "digests"


class DamagedOutputError(RunDirError):
    """An output of a finished unit is not what the unit wrote, and can be made again.

    Attributes:
        record: done-record of the unit.
    """

    def __init__(self, message: str, record: Path = Path()) -> None:  # the default is for unpickling
        super().__init__(message)
        self.record = record


def load_record(record: Path) -> dict[str, Any] | None:
    """A done-record, ``None`` where it is damaged or missing; one of before there were digests is taken as it is.

    Raises:
        ReadFailedError: it could not be read now.
    """
    try:
        content = json.loads(read_text(record))
    except (OSError, MemoryError, ValueError, RecursionError) as error:
        refuse_passing(error, str(record))
        return None
    if not isinstance(content, dict):
        return None
    own = content.pop(_OWN_DIGEST, None)
    if own is None:
        return None if _OUTPUT_DIGESTS in content else content
    return content if own == digest(content) else None


def write_record(record: Path, content: Mapping[str, Json], outputs: tuple[Path, ...], *, hashed: bool) -> None:
    """Write a done-record with sizes and digests of outputs as they are, and a digest of itself.

    Args:
        hashed: whether outputs are hashed; not those with checksums of their own, which the record has as ``digests``.
    """
    sizes = {output.name: size_bytes(output) for output in outputs}
    hashed_outputs = outputs if hashed else ()
    digests = {output.name: output_digest(output) for output in hashed_outputs}
    checksums = {output.name: output_digest(output, file_checksum) for output in hashed_outputs}
    whole = {**content, "outputs": sizes, _CHECKSUMS: checksums, _OUTPUT_DIGESTS: digests}
    write_text(record, json.dumps({**whole, _OWN_DIGEST: digest(whole)}, indent=1) + "\n")


def read_record(record: Path, *keys: str) -> Json:
    """A value in a done-record, ``None`` where there is none.

    Raises:
        ReadFailedError: the record could not be read now.
    """
    try:
        value = json.loads(read_text(record))
        for key in keys:
            value = value[key]
    except (OSError, MemoryError, ValueError, KeyError, TypeError, RecursionError) as error:
        refuse_passing(error, str(record))
        return None
    found: Json = value
    return found


def recorded_checksums(record: Path, name: str) -> dict[str, str] | None:
    """What a done-record keeps of outputs that carry checksums of their own, by file, ``None`` where it keeps none.

    Raises:
        DamagedOutputError: it is the record of another unit than the one of this name.
    """
    content = read_record(record)
    if not isinstance(content, Mapping) or not isinstance(found := content.get(_OWN_CHECKSUMS), Mapping):
        return None
    if is_of_another(content, name):
        raise DamagedOutputError(
            f"{record}: the done-record of {content['unit']}, not of {name}; delete it and run plexrank run again",
            record,
        )
    return {str(file): str(digest) for file, digest in found.items()}


def is_of_another(content: Mapping[str, Any], name: str) -> bool:
    """Whether a done-record says that it belongs to a unit of another name; units of before had other names."""
    return _CHECKSUMS in content and content.get("unit", name) != name


def recorded_digest(record: Path, output: Path) -> str | None:
    """SHA-256 of an output as its unit wrote it, ``None`` where the record, one of before or damaged, does not say."""
    return _recorded(record, _OUTPUT_DIGESTS, output)


def _recorded(record: Path, kind: str, output: Path) -> str | None:
    found = (load_record(record) or {}).get(kind, {})
    return found.get(output.name) if isinstance(found, dict) else None


def require_recorded(record: Path, output: Path, *, thoroughly: bool = False) -> bool:
    """Hold an output against what a done-record says of it.

    Args:
        record, output: of a unit.
        thoroughly: by SHA-256, in the place of the checksum that every reader can afford.

    Returns:
        Whether the record says anything; one of before digests were recorded does not.

    Raises:
        DamagedOutputError: the output is missing, a link, or another than was written.
    """
    recorded = _recorded(record, _OUTPUT_DIGESTS if thoroughly else _CHECKSUMS, output)
    if recorded is None:
        return False
    found = "missing, or a link in its place" if size_bytes(output) < 0 else ""
    if not found:
        with reading_output(output):
            is_same = output_digest(output, file_digest if thoroughly else file_checksum) == recorded
        found = "" if is_same else f"its {'SHA-256' if thoroughly else 'CRC-32C'} is another"
    if found:
        unit = read_record(record, "unit")
        raise DamagedOutputError(
            f"{output}: not what {unit} wrote there ({found}); delete it and run plexrank run again", record
        )
    return True


@contextlib.contextmanager
def reading_recorded(record: Path, output: Path) -> Iterator[bool]:
    """Read an output in the ``with`` block, after it is held against its digest.

    The checksum comes first since libraries may crash on damaged files. Yields whether the record has one.

    Raises:
        DamagedOutputError: it is not what was written, or does not read.
    """
    is_checked = require_recorded(record, output)
    with blaming(record), reading_output(output):
        yield is_checked


@contextlib.contextmanager
def blaming(record: Path) -> Iterator[None]:
    """Turn what is said of a damaged output into an error that knows which unit can make it again.

    Raises:
        DamagedOutputError: in the place of another RunDirError.
    """
    try:
        yield
    except DamagedOutputError:
        raise
    except RunDirError as error:
        raise DamagedOutputError(str(error), record) from error
