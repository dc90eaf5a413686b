"""A run directory, opened to look at what is in it. Opening it, and reading its ranking, loads no torch."""

from __future__ import annotations

import functools
import json
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from plexrank.errors import MissingInputError, PlexrankError, RunDirError
from plexrank.rundir import RunDir, read_text, reading_recorded

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes

    from plexrank.api.held_out import HeldOut, Level
    from plexrank.api.image_tiles import ImageTiles
    from plexrank.planning.plan import Plan


class Run:
    """A run: its ranking, and the tables that stand behind it.

    Cohort, settings and image means are read once: open a run again after it has gone on.

    **Tables by patient, image or tile** (:meth:`embedding`, :meth:`importances`, :meth:`intensity`) have a column for
    each channel, named by it, in the order of the study. A row's index says what it is, by the levels

    - ``"patient"``: patient_id, label, site, fold (a patient whose images carry two labels has two rows),
    - ``"image"``: image_id, patient_id, label, site, fold,
    - ``"tile"``: tile_id, row, col, image_id, patient_id, label, site, fold,

    so that ``table.groupby("label").mean()`` works, and ``table.reset_index()`` makes columns of them. ``fold`` is the
    one that holds the patient out: every value comes from its trainings alone. Values are float64, NaN where the images
    lack the channel.

    Args:
        path: the run directory.

    Raises:
        MissingInputError: it is none.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._rundir = RunDir(Path(path))
        self._rundir.require()

    def __repr__(self) -> str:
        return f"plexrank.open_run({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The run directory, absolute."""
        return self._rundir.path

    @property
    def ranking(self) -> pd.DataFrame:
        """``ranking.parquet``: a row a channel, best first; docs/columns.md says what the columns mean.

        Raises:
            MissingInputError: the rank stage is not done.
            RunDirError: the file is damaged.
        """
        path = self._ranked("ranking.parquet")
        with reading_recorded(self._rundir.ranking_record, path):
            return pd.read_parquet(path)

    @property
    def predictions(self) -> pd.DataFrame:
        """``predictions.csv``: a row a patient, with label, fold and the held-out probability of each class.

        Raises:
            MissingInputError: the rank stage is not done.
            RunDirError: the file is damaged.
        """
        path = self._ranked("predictions.csv")
        names = dict.fromkeys(("patient_id", "label", "predicted"), str)
        with reading_recorded(self._rundir.ranking_record, path):
            return pd.read_csv(path, dtype=names, keep_default_na=False, na_values=[""])

    @property
    def summary(self) -> dict[str, Any]:
        """``summary.json``: held-out performance with intervals, the same for channel means, counts, warnings.

        Raises:
            MissingInputError: the rank stage is not done.
            RunDirError: the file is damaged.
        """
        path = self._ranked("summary.json")
        with reading_recorded(self._rundir.ranking_record, path):
            content: dict[str, Any] = json.loads(read_text(path))
            return content

    def embedding(self, level: Level = "patient", *, seed: int | None = None) -> pd.DataFrame:
        """r, the number that the network makes of each channel, held out, as its classifier takes it; no unit.

        Sign and scale of r are free in every training, which is a fold with a seed. The mean over seeds is therefore
        good to look at, not to test by, and smaller where trainings disagree: for tests compare rows of one ``fold``
        and one ``seed``, or take the ranking, which does.

        >>> run.embedding().groupby("label").mean()

        Args:
            level: what a row is: ``"patient"``, ``"image"`` or ``"tile"``.
            seed: r of the trainings with this seed; the mean over all seeds if absent.

        Raises:
            PlexrankError: there is no such level or seed.
            StudyError: the architecture has no channel embedding.
            MissingInputError: the attribute stage is not done, or the samplesheet is not where it was.
            RunDirError: a file of the run is damaged.
        """
        return self._held_out.table("embedding", level, seed=seed)

    def importances(self, level: Level = "patient", *, method: str | None = None) -> pd.DataFrame:
        """How much each channel weighs in the prediction, ≥ 0, mean over seeds.

        A share: every training is scaled so that the mean over the patients that it holds out sums to 1 over the
        channels. At patient level these are the values of ``ranking/importance_per_patient.parquet``.

        Args:
            level: what a row is: ``"patient"``, ``"image"`` or ``"tile"``.
            method: one of the study's ``attribute.methods``; its ``rank.by`` if absent.

        Raises:
            PlexrankError: there is no such level.
            StudyError: the study does not compute this importance.
            MissingInputError: the attribute stage is not done, or the samplesheet is not where it was.
            RunDirError: a file of the run is damaged.
        """
        return self._held_out.table("importance", level, method)

    def intensity(self, level: Level = "patient") -> pd.DataFrame:
        """Mean intensity of each channel, in the units of the images (counts), before any transformation.

        Args:
            level: what a row is: ``"patient"``, ``"image"`` or ``"tile"``.

        Raises:
            PlexrankError: there is no such level.
            MissingInputError: the attribute stage is not done, or the samplesheet is not where it was.
            RunDirError: a file of the run is damaged.
        """
        return self._held_out.table("mean_intensity", level)

    def tiles(self, image_id: str) -> ImageTiles:
        """The pixels of an image as they were tiled, read when they are asked for.

        >>> tiles = run.tiles("image001")
        >>> tiles.data[0, tiles.channel_names.index("CD3")].compute()  # the first tile's CD3, (y, x)

        Raises:
            StudyError: the run has no such image.
            MissingInputError: the tile stage is not done.
            RunDirError: the tiles are damaged.
        """
        from plexrank.api.image_tiles import read_image_tiles

        return read_image_tiles(self._rundir, image_id)

    def to_anndata(self, level: Literal["patient", "image"] = "patient", *, seed: int | None = None) -> AnnData:
        """Embedding, intensities, importances and ranking as one AnnData object (needs ``plexrank[anndata]``).

        ``X`` and ``layers["r"]`` are :meth:`embedding` (float32), so that r stays where ``X`` is changed;
        ``layers["intensity"]`` and ``layers["importance"]`` are the other tables. ``obs`` has the patients or images
        with patient_id, label, site and fold; ``var`` the channels with the columns of the ranking;
        ``uns["plexrank"]`` the version of plexrank, the run directory and the level.

        Args:
            level: what an observation is: ``"patient"`` or ``"image"``.
            seed: as for :meth:`embedding`; the other layers are means over all seeds.

        Raises:
            PlexrankError: anndata is not installed, or there is no such level or seed.
            StudyError: the architecture has no channel embedding.
            MissingInputError: the rank stage is not done, or the samplesheet is not where it was.
            RunDirError: a file of the run is damaged.
        """
        from plexrank.api.annotated import annotated_data

        return annotated_data(self, level, seed)

    def plot_ranking(self, ax: Axes | None = None, top: int = 20) -> Axes:
        """Draw the scores of the first channels with their 95 % intervals, coloured by what found them.

        Args:
            ax: where to draw; a new figure of matplotlib.pyplot if absent.
            top: how many channels, ≥ 1.

        Returns:
            The axes.

        Raises:
            MissingInputError: the rank stage is not done.
            RunDirError: the ranking is damaged.
        """
        from plexrank.report.figures import draw_scores
        from plexrank.report.wording import wording_of

        ranking = self.ranking
        shown = ranking.head(max(1, top))
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots(figsize=(7, 1.6 + 0.24 * len(shown)), layout="constrained")
        draw_scores(ax, shown, len(ranking), words=wording_of(self.summary))
        return ax

    @functools.cached_property
    def _held_out(self) -> HeldOut:
        from plexrank.api.held_out import HeldOut

        return HeldOut(self._plan)

    @functools.cached_property
    def _plan(self) -> Plan:
        from plexrank.planning.plan import make_plan
        from plexrank.study import load_study

        self._rundir.require_study()
        return make_plan(self._rundir, load_study(self._rundir.study))

    @functools.cached_property
    def _why_not_ranked(self) -> str | None:
        """Why the ranking is not that of the run as it is now; without its samplesheet, only whether there is one."""
        try:
            return self._plan.rank().why_not_done()
        except RunDirError:
            raise
        except PlexrankError:
            return None if self._rundir.ranking_record.is_file() else "not done yet"

    def _ranked(self, name: str) -> Path:
        """A file of the rank stage."""
        if self._why_not_ranked is not None:
            why = "not done" if self._why_not_ranked == "not done yet" else f"not up to date ({self._why_not_ranked})"
            raise MissingInputError(f"{self.path}: the ranking is {why}; run plexrank run or plexrank rank first")
        return self._rundir.ranking / name


def open_run(path: str | PathLike[str]) -> Run:
    """Open a run directory that ``plexrank run`` or :func:`plexrank.run` has made, finished or not.

    Ranking, predictions, summary and tiles are read from the directory alone, wherever it was moved; the tables by
    patient also need the samplesheet that the study names.

    >>> run = plexrank.open_run("run")
    >>> run.ranking[["channel", "score", "found_by"]].head()

    Args:
        path: the run directory.

    Raises:
        MissingInputError: it is no run directory.
    """
    return Run(path)
