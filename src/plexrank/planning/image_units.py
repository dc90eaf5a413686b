"""The tiles of an image as a unit of work: what they depend on, and what their done-record says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from plexrank.cohorts.panel import Panel
from plexrank.cohorts.samplesheet import ImageRecord
from plexrank.errors import ImageDataError
from plexrank.images.image_path import size_and_times
from plexrank.rundir import Json, RunDir, Unit, read_record, recorded_checksums
from plexrank.settings import TileSettings

LAYOUT = 2
"""Raised whenever tile stores, or the statistics in them, are made in another way, so that images are tiled again."""


def tile_name(image_id: str) -> str:
    """Of the unit that makes the tiles of an image."""
    return f"tile {image_id}"


class ImageUnits:
    """Units of a run's images by their records; every file is looked at once.

    Args:
        rundir: where they are tiled to.
        settings: of tiling.
    """

    def __init__(self, rundir: RunDir, settings: TileSettings) -> None:
        self._rundir = rundir
        self._settings = settings.model_dump(mode="json")
        self._files: dict[Path, tuple[int, int, int] | None] = {}  # bytes and times, ns
        self._panels: dict[int, tuple[Panel, Json]] = {}
        self._units: dict[str, tuple[ImageRecord, Unit]] = {}

    def unit(self, image: ImageRecord) -> Unit:
        """The tiles of one image."""
        known, unit = self._units.get(image.image_id, (None, None))
        if unit is None or known != image:
            unit = self._make(image)
            self._units[image.image_id] = (image, unit)
        return unit

    def stored_channels(self, image: ImageRecord) -> tuple[str, ...] | None:
        """Names of the channels in an image's tile store; ``None`` where it must be tiled (again)."""
        unit = self.unit(image)
        record = read_record(unit.record)
        if not isinstance(record, Mapping) or record.get("key") != unit.key:
            return None
        stored = record.get("channels")
        return tuple(map(str, stored)) if isinstance(stored, list) else None

    def stored_digests(self, image: ImageRecord) -> dict[str, str]:
        """What tells an image's tile store from others: a digest by file, as the tile stage recorded them."""
        return recorded_checksums(self._rundir.tile_record(image.image_id), tile_name(image.image_id)) or {}

    def touched(self, images: Sequence[ImageRecord]) -> list[ImageRecord]:
        """Images of the size and time of last change that they had when they were tiled, but not left alone since.

        They may have been copied, or given other permissions, or edited and given their old time.
        """
        return [image for image in images if self._is_touched(image)]

    def _is_touched(self, image: ImageRecord) -> bool:
        record = read_record(self.unit(image).record)
        if not isinstance(record, Mapping) or record.get("key") != self.unit(image).key:
            return False
        known, found = record.get("inode_times"), self.inode_times(image)
        return isinstance(known, list) and None not in found and known != found

    def inode_times(self, image: ImageRecord) -> list[Json]:
        """When anything of an image's file and its mask last changed, ns."""
        return [state and state[2] for state in map(self._files.get, filter(None, (image.file, image.mask)))]

    def _make(self, image: ImageRecord) -> Unit:
        return Unit(
            name=tile_name(image.image_id),
            record=self._rundir.tile_record(image.image_id),
            outputs=(self._rundir.tile_store(image.image_id),),
            depends={
                "image": self._file_as_it_is(image, image.path, image.file, "image"),
                **({"mask": self._file_as_it_is(image, image.mask, image.mask, "mask")} if image.mask else {}),
                "panel": self._rows(image.panel),
                "tile": self._settings,
                "statistics": LAYOUT,
            },
        )

    def require_unchanged(self, image: ImageRecord) -> None:
        """Raise ImageDataError where an image or its mask is not the file any more that its unit was made of."""
        for file in filter(None, (image.file, image.mask)):
            known, found = self._files.get(file), _state(file)
            if (known and known[:2]) != (found and found[:2]):
                raise ImageDataError(f"{file}: changed while the run was under way; run the same command again")

    def _file_as_it_is(self, image: ImageRecord, path: Path, file: Path, key: str) -> Json:
        """What tells whether a file was changed; ``key`` is that of the done-record.

        A file that was moved away after tiling counts as unchanged.
        """
        if file not in self._files:
            self._files[file] = _state(file)
        state = self._files[file]
        if state is None:
            recorded = read_record(self._rundir.tile_record(image.image_id), "depends", key)
            if isinstance(recorded, dict) and recorded.get("path") == str(path):
                return recorded
        num_bytes, mtime_ns, _ = state or (None, None, None)
        return {"path": str(path), "bytes": num_bytes, "mtime_ns": mtime_ns}

    def _rows(self, panel: Panel | None) -> Json:
        """The rows of a panel, which many images share."""
        if panel is None:
            return None
        if id(panel) not in self._panels:
            self._panels[id(panel)] = (panel, panel_rows(panel))
        return self._panels[id(panel)][1]


def _state(file: Path) -> tuple[int, int, int] | None:
    try:
        return size_and_times(file)
    except OSError:
        return None


def panel_rows(panel: Panel | None) -> Json:
    """What decides of a panel."""
    return [[channel.channel_id, channel.name, channel.keep] for channel in panel.channels] if panel else None
