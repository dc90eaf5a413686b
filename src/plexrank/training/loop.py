"""Training of one unit: one fold held out, one seed.

A unit is a pure function of its inputs: nothing depends on the global random state, on how often it was
stopped and resumed, or (up to rounding) on the number of processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor

from plexrank.distributed import ProcessInfo, all_reduce_sum, any_process, copy_buffers_of_first, on_first, unwrap, wrap
from plexrank.errors import PlexrankError, StoppedEarly, StudyError
from plexrank.models.build import Network, build_network, shift_outputs
from plexrank.models.recomputation import set_recompute
from plexrank.progress import SECONDS_BETWEEN_LINES
from plexrank.rundir import changes, make_way
from plexrank.settings import ModelSettings, TrainSettings
from plexrank.training.checkpoint import (
    Progress,
    TrainedUnit,
    previous_path,
    read_progress,
    write_progress,
    write_unit,
)
from plexrank.training.data import Disturbance, TrainingTiles, draw_epoch
from plexrank.training.history import History, progress_line, step_line
from plexrank.training.losses import Loss, make_loss
from plexrank.training.memory import activation_bytes, free_bytes, naming_what_fits, should_recompute
from plexrank.training.optimiser import make_optimiser, make_scheduler
from plexrank.training.readout import Readout
from plexrank.training.step import Stepper
from plexrank.training.unit import TrainingUnit, UnitPaths, UnitResult, describe
from plexrank.training.weights import load_pretrained

SECONDS_BETWEEN_SAVES = 600.0
"""How much work a training that is killed loses at most, beside that since the last epoch."""


def train_unit(
    tiles: TrainingTiles,
    unit: TrainingUnit,
    model: ModelSettings,
    train: TrainSettings,
    *,
    info: ProcessInfo,
    paths: UnitPaths,
    key: str,
    report: Callable[[str], None],
    should_stop: Callable[[], bool] = lambda: False,
    seconds_between_saves: float = 0.0,
) -> UnitResult:
    """Train a unit, or go on with it where ``last.pt`` was written under the same key.

    A collective of all processes; the first one writes and reports.

    Args:
        key: digest of all that the result depends on; goes into the checkpoints.
        report: is given one line an epoch.
        should_stop: asked after every step; when it says yes on any process, progress is saved.
        seconds_between_saves: an epoch that ends sooner after the last save is not saved; all are by default.

    Raises:
        StudyError: the training tiles lack a class or an event or are fewer than two, or there is nothing to validate
            on.
        StoppedEarly: on request; the same call goes on bitwise as if it had not been stopped (on CPUs).
        MissingInputError: the pretrained weights are not there.
        PlexrankError: the loss became infinite or undefined.
    """
    _check(tiles, unit, make_loss(tiles.outcome))
    training = UnitTraining(tiles, unit, model, train, info, paths, key, report)
    training.start_or_resume()
    while not training.finished:
        with naming_what_fits(training.tiles_at_once, training.tile_bytes, training.recompute, info.device):
            training.train_epoch(should_stop)
        training.validate()
        training.save_if_due(seconds_between_saves)
    training.finish()
    best = training.progress.history[training.progress.best_epoch]
    return UnitResult(
        epochs=training.progress.epoch,
        best_epoch=training.progress.best_epoch,
        validation_loss=best["validation_loss"],
        headline=tiles.outcome.headline,
        validation_score=best[f"validation_{tiles.outcome.headline}"],
    )


def _check(tiles: TrainingTiles, unit: TrainingUnit, loss: Loss) -> None:
    labels, outcome = tiles.labels[unit.train_index], tiles.outcome
    name = f"fold {unit.fold}"
    if missing := outcome.missing_groups(labels):
        lacks = f"training tile of class {', '.join(group.name for group in missing)}"
        what = lacks if outcome.has_classes else f"{missing[0].one} to train on"
        raise StudyError(f"{name}: no {what}; lower train.folds or add patients")
    if len(labels) < 2 or len(unit.validation_index) == 0:
        raise StudyError(
            f"{name}: {len(labels)} training and {len(unit.validation_index)} validation tiles, expected at least "
            "2 and 1; lower train.folds or add patients"
        )
    held_back = tiles.labels[unit.validation_index]
    alike = np.zeros((len(held_back), len(outcome.output_names)))
    if math.isnan(
        loss.of_validation(alike, held_back, loss.label_weights(labels), tiles.stratum[unit.validation_index])
    ):
        raise StudyError(f"{name}: no {outcome.groups[0].one} to validate on; lower train.folds or add patients")


class UnitTraining:
    """One unit's training under way; see :func:`train_unit`."""

    def __init__(
        self,
        tiles: TrainingTiles,
        unit: TrainingUnit,
        model: ModelSettings,
        train: TrainSettings,
        info: ProcessInfo,
        paths: UnitPaths,
        key: str,
        report: Callable[[str], None],
    ) -> None:
        self.tiles, self.unit, self.settings, self.train = tiles, unit, model, train
        self.info, self.paths, self.report = info, paths, report
        self.progress = Progress(key, describe(tiles, unit, model, train))
        first = np.unique(tiles.image_index[unit.train_index], return_index=True)[1]
        self.loss = make_loss(tiles.outcome)
        self.label_weights = self.loss.label_weights(tiles.labels[unit.train_index][first])
        self.bf16 = _use_bf16(train.precision, info.device)
        self.tile_bytes = 0
        self.tiles_at_once = -(-train.batch_tiles // (info.world_size * train.accumulate))
        self.history = History(paths.history)
        self.started = self.saved = self.said = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether all epochs are trained, or too many went by without a better validation loss."""
        return self.progress.epoch >= self.train.epochs or self.progress.stale_epochs >= self.train.patience

    @property
    def network(self) -> Network:
        """The plain network behind the wrapping."""
        return cast(Network, unwrap(self.wrapped))

    def start_or_resume(self) -> None:
        """Build network and optimiser, afresh or as ``last.pt`` has them."""
        saved = on_first(lambda: (found := self._read_progress()) and vars(found), self.info)
        found = Progress(**saved) if saved else None
        network = self._fresh_network(load_weights=found is None).to(self.info.device)
        self._fit_into_memory(network)
        self.wrapped = wrap(network, self.info, self.train.sync_batch_norm)
        self.optimiser = make_optimiser(self.wrapped, self.train.learning_rate)
        self.scheduler = make_scheduler(self.optimiser)
        self.stepper = Stepper(self.wrapped, self.optimiser, self.loss, self.tiles, self.train, self.info, self.bf16)
        if found is not None:
            self.progress = found
            self.network.load_state_dict(found.model)
            self.optimiser.load_state_dict(found.optimiser)
            self.scheduler.load_state_dict(found.scheduler)
            self._report(f"going on at epoch {found.epoch + 1}")

    def _read_progress(self) -> Progress | None:
        """What ``last.pt`` holds, unless that is of something else: then say what differs."""
        found, own = read_progress(self.paths.last, self._why_foreign), self.progress.made_of
        if found is None or found.key == self.progress.key:
            return found
        differences = changes({"unit": own["unit"], **found.made_of}, own) or ["the tiles or the pretrained weights"]
        self._report(f"training from the start: {self.paths.last} is of other settings: {', '.join(differences)}")
        return None

    def _why_foreign(self, found: Progress) -> str | None:
        """Of which other unit a progress is; those of before the unit was noted are known by their tiles."""
        own = self.progress.made_of
        if (unit := found.made_of.get("unit", own["unit"])) != own["unit"]:
            return f"the progress of {unit}, not of {own['unit']}"
        of_unit = ("labels", "training tiles", "validation tiles") if found.key == self.progress.key else ()
        other = [name for name in of_unit if found.made_of.get(name, own[name]) != own[name]]
        return f"the progress of another unit, with other {' and '.join(other)}" if other else None

    def _fresh_network(self, load_weights: bool) -> Network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence(self.unit.entropy).generate_state(1)[0]))
            network = build_network(
                self.settings,
                len(self.tiles.channel_names),
                len(self.tiles.outcome.output_names),
                self.loss.has_ordered_outputs,
            )
        if load_weights:
            load_pretrained(self.settings, network)
        return network

    def _fit_into_memory(self, network: Network) -> None:
        """Find out what a tile keeps in memory, and whether to compute it again."""
        device = self.info.device
        if device.type == "cuda":
            a_tile = next(self.tiles.batches([self.unit.train_index[:1]]))
            side = min(self.train.crop_px, a_tile.shape[-1])
            self.tile_bytes = activation_bytes(network, network.num_channels, side, device, self.bf16)
        needed = self.tiles_at_once * self.tile_bytes
        wanted = should_recompute(self.train.recompute, needed, free_bytes(device))
        # All or none: recomputation repeats the messages of a shared batch norm.
        (self.recompute,) = any_process((wanted,), self.info)
        set_recompute(network, self.recompute)

    def train_epoch(self, should_stop: Callable[[], bool]) -> None:
        """The steps of this epoch that are still to do."""
        progress, index = self.progress, self.unit.train_index
        self.started = time.monotonic() - progress.seconds
        batches = draw_epoch(
            index,
            self.tiles.image_index[index],
            self.label_weights[self.tiles.labels[index]],
            self.train.batch_tiles,
            [*self.unit.entropy, progress.epoch],
            Disturbance(len(self.tiles.channel_names), self.train.jitter, self.train.channel_dropout),
            self.loss.spread(self.tiles.labels[index]),
        )[progress.batch :]
        shares = [self.stepper.shares(batch) for batch in batches]
        sums = torch.zeros(4, dtype=torch.float64, device=self.info.device)
        n_passed, n_tiles, began = 0, sum(len(batch.tiles) for batch in batches), time.monotonic()
        self.wrapped.train()
        loaded = self.tiles.batches(share.tiles for of_step in shares for share in of_step)
        for batch, of_step in zip(batches, shares, strict=True):
            sums += self.stepper.step(batch, of_step, loaded)
            progress.batch += 1
            n_passed += len(batch.tiles)
            self._report_step(n_passed, n_tiles - n_passed, began)
            is_due = time.monotonic() - self.saved > SECONDS_BETWEEN_SAVES
            stop, save = any_process((should_stop(), is_due), self.info)
            if stop or save:
                self._add(sums)
                self.save()
                sums.zero_()
            if stop:
                raise StoppedEarly(
                    f"{self.unit.name}: stopped in epoch {progress.epoch + 1}; run the same command again to continue"
                )
        self._add(sums)
        copy_buffers_of_first(self.wrapped, self.info)

    def _report_step(self, n_tiles: int, n_left: int, began: float) -> None:
        """Say now and then where a long epoch stands."""
        moment = time.monotonic()
        if moment - self.said >= SECONDS_BETWEEN_LINES:
            self._report(step_line(self.progress.epoch + 1, self.train.epochs, n_tiles, n_left, moment - began))
            self.said = moment

    def _add(self, sums: Tensor) -> None:
        total = all_reduce_sum(sums, self.info).tolist()
        self.progress.sums = [before + new for before, new in zip(self.progress.sums, total, strict=True)]
        self.progress.seconds = time.monotonic() - self.started

    def validate(self) -> None:
        """Judge the epoch on the validation images, and close it."""
        progress = self.progress
        loss_sum, weight_sum, right, n_tiles = progress.sums
        if not math.isfinite(loss_sum):
            raise self._diverged()
        seen, outputs = self._readout().image_outputs(self.unit.validation_index)
        labels = self.tiles.labels[seen]
        loss = self.loss.of_validation(outputs, labels, self.label_weights, self.tiles.stratum[seen])
        if not math.isfinite(loss):
            raise self._diverged()
        score, headline = self.loss.score(outputs, labels), self.tiles.outcome.headline
        progress.history.append(
            {
                "epoch": progress.epoch + 1,
                "train_loss": loss_sum / weight_sum,
                **({"train_accuracy": right / n_tiles} if self.loss.counts_right else {}),
                "validation_loss": loss,
                f"validation_{headline}": score,
                "learning_rate": float(self.optimiser.param_groups[0]["lr"]),
                "seconds": round(time.monotonic() - self.started, 3),
            }
        )
        progress.devices.append(self.info.hardware)
        self.scheduler.step(-loss if math.isnan(score) else score)
        progress.stale_epochs += 1
        if loss < progress.best_loss:
            progress.best_loss, progress.best_epoch, progress.stale_epochs = loss, progress.epoch, 0
            progress.best_model = self._state()
        progress.epoch, progress.batch, progress.sums, progress.seconds = progress.epoch + 1, 0, [0.0] * 4, 0.0
        on_first(lambda: self.history.write(progress.history, progress.devices), self.info)
        self._report(progress_line(progress.history[-1], self.train.epochs, n_tiles, headline))
        self.said = time.monotonic()

    def _readout(self) -> Readout:
        return Readout(
            self.network,
            self.settings,
            self.tiles,
            self.loss,
            self.unit.train_index,
            self.unit.seed,
            self.info,
            self._diverged,
        )

    def _diverged(self) -> PlexrankError:
        return PlexrankError(
            f"{self.unit.name}: the loss of epoch {self.progress.epoch + 1} is not finite; lower train.learning_rate"
        )

    def save_if_due(self, seconds: float) -> None:
        """Write ``last.pt`` where so long has passed since it was written."""
        (is_due,) = any_process((time.monotonic() - self.saved >= seconds,), self.info)
        if is_due:
            self.save()

    def save(self) -> None:
        """Write ``last.pt``."""
        on_first(self._write_progress, self.info)
        self.saved = time.monotonic()

    def _write_progress(self) -> None:
        self.progress.model = self._state()
        self.progress.optimiser = self.optimiser.state_dict()
        self.progress.scheduler = self.scheduler.state_dict()
        write_progress(self.paths.last, self.progress)

    def finish(self) -> None:
        """Embed what was seen with the best weights, refit the classifier, and write ``best.pt``."""
        progress, tiles = self.progress, self.tiles
        self.network.load_state_dict(progress.best_model)
        index = np.sort(np.concatenate([self.unit.train_index, self.unit.validation_index]))
        readout, refit = self._readout(), self.settings.refits
        if refit:
            readout.recenter(index)
        elif not self.loss.has_origin:
            _, outputs = readout.image_outputs(index)
            shift_outputs(self.network, -torch.from_numpy(outputs.mean(axis=0)))
        embedding = readout.pooled_embedding(index, self.unit.validation_index)

        def write_best() -> None:
            trained = TrainedUnit(
                key=progress.key,
                fold=self.unit.fold,
                seed=self.unit.seed,
                epoch=progress.best_epoch,
                channel_names=tiles.channel_names,
                output_names=tiles.outcome.output_names,
                has_ordered_outputs=self.loss.has_ordered_outputs,
                intensity=tiles.intensity,
                settings=self.settings,
                model_state=self._state(),
                classifier=readout.fit_classifier(index, embedding) if refit else None,
                attention=embedding.attention,
                blend=embedding.blend,
                embedding_images=embedding.images,
                embedding_mean=embedding.mean.astype(np.float32),
            )
            self.history.write_table(progress.history, progress.devices)
            self.history.close()
            write_unit(self.paths.best, trained)
            make_way(previous_path(self.paths.last))

        on_first(write_best, self.info)

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}

    def _report(self, line: str) -> None:
        if self.info.is_first:
            self.report(f"{self.unit.name}: {line}")


def _use_bf16(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"
