"""What a training on permuted labels leaves behind: its image means and its linear classifier, in one small file.

Layout of ``unit.npz`` (numpy, no pickle): ``format``, ``labelling``, ``fold``, ``seed``, ``method``,
``channel_names``, ``class_names``, ``labels`` (image,), the arrays of a
:class:`~plexrank.ranking.aggregate.UnitTable`, those that belong to a method without its name, and, where the
classifier is linear, ``classifier_coef``, ``classifier_intercept`` and ``classifier_center``.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plexrank.arrays import Array
from plexrank.errors import RunDirError, naming_damage
from plexrank.ranking.aggregate import UnitTable
from plexrank.rundir import replacing

NULL_UNIT_FORMAT = "plexrank-null-unit-1"
PLAIN = ("n_tiles", "embedding", "logits", "mean_intensity", "training_embedding")
OF_METHOD = ("importance", "contrast", "importance_by_class")
CLASSIFIER = ("coef", "intercept", "center")


@dataclass(frozen=True, eq=False)
class NullUnit:
    """A training on permuted labels.

    Attributes:
        labelling: number of the labelling.
        channel_names, output_names: in the order of the axes.
        labels: (image,) int, the permuted label of every image of the cohort.
        method: the importance that ``table`` holds.
        table: image means, without ``classify`` and ``linear``.
        classifier: ``coef`` (output, channel), ``intercept`` (output,) and ``center`` (channel,) float32 of a linear
            classifier; ``None`` for other ones, whose weights are not kept: then reliance cannot be measured.
    """

    labelling: int
    channel_names: tuple[str, ...]
    output_names: tuple[str, ...]
    labels: Array
    method: str
    table: UnitTable
    classifier: Mapping[str, Array] | None

    def require(
        self,
        path: Path,
        *,
        labelling: int,
        fold: int,
        method: str,
        channels: tuple[str, ...],
        outputs: tuple[str, ...],
        labels: Array,
    ) -> None:
        """Raise :class:`RunDirError` where this is not the unit that ``path`` ought to hold, saying what differs."""
        if (self.labelling, self.table.fold) != (labelling, fold):
            raise _error(path, f"holds labelling {self.labelling} of fold {self.table.fold}")
        if self.method != method:
            raise _error(path, f"holds the importance {self.method!r}, not {method!r} of rank.by")
        for what, here, there in (("channels", self.channel_names, channels), ("outputs", self.output_names, outputs)):
            if here != there:
                differ = sorted(set(here) ^ set(there)) or ["their order"]
                raise _error(
                    path,
                    f"holds {len(here)} {what}, the cohort has {len(there)}; they differ in {', '.join(differ[:8])}",
                )
        if not np.array_equal(self.labels, labels):
            raise _error(path, f"was trained on other labels than labelling {labelling} of this cohort")


def write_null_unit(path: Path, unit: NullUnit) -> None:
    """Write the file atomically; the same unit gives the same bytes."""
    table = unit.table
    arrays: dict[str, Array] = {
        "format": np.array(NULL_UNIT_FORMAT),
        "labelling": np.array(unit.labelling),
        "fold": np.array(table.fold),
        "seed": np.array(table.seed),
        "method": np.array(unit.method),
        "channel_names": np.array(unit.channel_names),
        "class_names": np.array(unit.output_names),
        "labels": unit.labels,
        **{name: getattr(table, name) for name in PLAIN},
        **{name: getattr(table, name)[unit.method] for name in OF_METHOD},
    }
    if unit.classifier is not None:
        arrays |= {f"classifier_{name}": unit.classifier[name] for name in CLASSIFIER}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_null_unit(path: Path) -> NullUnit:
    """Read the file.

    Raises:
        RunDirError: it is missing or damaged, or something else.
    """
    with naming_damage(f"{path}: missing or damaged", _REMEDY, RunDirError):
        with zipfile.ZipFile(path) as archive:  # np.load would parse headers before it compares checksums
            arrays = {name.removesuffix(".npy"): _array(archive.read(name)) for name in archive.namelist()}
        if str(arrays.pop("format")) != NULL_UNIT_FORMAT:
            raise ValueError(f"expected the format {NULL_UNIT_FORMAT}")
        unit = NullUnit(
            labelling=int(arrays["labelling"]),
            channel_names=tuple(map(str, arrays["channel_names"])),
            output_names=tuple(map(str, arrays["class_names"])),
            labels=arrays["labels"],
            method=str(arrays["method"]),
            table=_table(arrays, str(arrays["method"])),
            classifier=_classifier(arrays),
        )
        _require_shapes(unit)
    return unit


def _table(arrays: Mapping[str, Array], method: str) -> UnitTable:
    return UnitTable(
        fold=int(arrays["fold"]),
        seed=int(arrays["seed"]),
        classify=None,
        n_tiles=arrays["n_tiles"],
        embedding=arrays["embedding"],
        logits=arrays["logits"],
        mean_intensity=arrays["mean_intensity"],
        importance={method: arrays["importance"]},
        contrast={method: arrays["contrast"]},
        training_embedding=arrays["training_embedding"],
        importance_by_class={method: arrays["importance_by_class"]},
    )


def _classifier(arrays: Mapping[str, Array]) -> dict[str, Array] | None:
    if "classifier_coef" not in arrays:
        return None
    return {name: arrays[f"classifier_{name}"] for name in CLASSIFIER}


def _array(content: bytes) -> Array:
    values: Array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return values


def _require_shapes(unit: NullUnit) -> None:
    images, channels, outputs = len(unit.labels), len(unit.channel_names), len(unit.output_names)
    shapes = {
        "n_tiles": (images,),
        "embedding": (images, channels),
        "logits": (images, outputs),
        "mean_intensity": (images, channels),
        "training_embedding": (images, channels),
    }
    found = {name: getattr(unit.table, name).shape for name in PLAIN}
    of_output = (images, channels, outputs)
    contrasts = unit.table.contrast[unit.method].shape[-1]  # one of each class, or one in all
    of_contrast = (images, channels, contrasts if contrasts == 1 else outputs)
    shapes |= {"importance": of_output[:2], "contrast": of_contrast, "importance_by_class": of_output}
    found |= {name: getattr(unit.table, name)[unit.method].shape for name in OF_METHOD}
    if unit.classifier is not None:
        shapes |= {"coef": (outputs, channels), "intercept": (outputs,), "center": (channels,)}
        found |= {name: values.shape for name, values in unit.classifier.items()}
    for name, shape in shapes.items():
        if found[name] != shape:
            raise ValueError(f"{name} has the shape {found[name]}, expected {shape}")


_REMEDY = "delete it and run plexrank train again"


def _error(path: Path, what: str) -> RunDirError:
    return RunDirError(f"{path}: {what}; {_REMEDY}")
