"""The tables of a run as an AnnData object, which scanpy and its kin read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

import plexrank
from plexrank.errors import PlexrankError
from plexrank.wording import did_you_mean

if TYPE_CHECKING:
    from anndata import AnnData

    from plexrank.api.opened_run import Run

LEVELS = ("patient", "image")


def annotated_data(run: Run, level: Literal["patient", "image"], seed: int | None) -> AnnData:
    """See :meth:`plexrank.api.opened_run.Run.to_anndata`."""
    try:
        from anndata import AnnData
    except ImportError as error:
        raise PlexrankError(
            f"to_anndata needs anndata ({error}); install it with: pip install 'plexrank[anndata]'"
        ) from error
    if level not in LEVELS:
        raise PlexrankError(f"no level {level!r} of to_anndata{did_you_mean(level, LEVELS)}")
    embedding = run.embedding(level, seed=seed)
    channels = run.ranking.set_index("channel").loc[list(embedding.columns)]
    layers = {"r": embedding, "intensity": run.intensity(level), "importance": run.importances(level)}
    return AnnData(
        X=embedding.to_numpy(np.float32),
        obs=_plain(_observations(embedding.index.to_frame(index=False), level)),
        var=_plain(channels),
        layers={name: table.to_numpy(np.float32) for name, table in layers.items()},
        uns={"plexrank": {"version": plexrank.__version__, "run": str(run.path), "level": level}},
    )


def _observations(rows: pd.DataFrame, level: str) -> pd.DataFrame:
    """Rows by what names them; a patient with several labels by both (only classes and grades can be several)."""
    names = rows[f"{level}_id"].astype(str)
    several = names.duplicated(keep=False)
    if several.any():
        names = names.where(~several, names + " (" + rows["label"].astype(str) + ")")
    return rows.set_index(names.to_numpy())


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Text as Python objects, which every anndata writes, and not as pandas 3 keeps it."""
    plain = table.rename(columns=str)
    for name in plain.columns:
        if pd.api.types.is_string_dtype(plain[name].dtype) or plain[name].dtype == object:
            plain[name] = plain[name].astype(object).where(plain[name].notna(), None)
    plain.index = pd.Index(plain.index.astype(object), dtype=object, name=None)
    plain.columns = pd.Index(list(plain.columns), dtype=object)
    return plain
