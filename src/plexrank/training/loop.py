"""Training of one unit: one fold held out, one seed.

A unit is a pure function of its inputs: nothing depends on the global random state, on how often it was
stopped and resumed, or (up to rounding) on the number of processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import cast

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor, nn

from plexrank.distributed import ProcessInfo, all_reduce_sum, any_process, copy_buffers_of_first, on_first, unwrap, wrap
from plexrank.errors import PlexrankError, StoppedEarly, StudyError
from plexrank.models.build import Network, build_network
from plexrank.models.recomputation import set_recompute
from plexrank.progress import SECONDS_BETWEEN_LINES
from plexrank.rundir import changes
from plexrank.settings import ModelSettings, TrainSettings
from plexrank.training.checkpoint import (
    Progress,
    TrainedUnit,
    previous_path,
    read_progress,
    write_progress,
    write_unit,
)
from plexrank.training.data import (
    Batch,
    Disturbance,
    TrainingTiles,
    augment,
    draw_epoch,
    held_channels,
    model_input,
)
from plexrank.training.history import History, progress_line, step_line
from plexrank.training.memory import activation_bytes, free_bytes, naming_what_fits, should_recompute
from plexrank.training.metrics import area_under_curve, class_weights, weighted_log_loss
from plexrank.training.optimiser import make_optimiser, make_scheduler
from plexrank.training.readout import Readout
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
        StudyError: the training tiles lack a class or are fewer than two, or there is nothing to validate on.
        StoppedEarly: on request; the same call goes on bitwise as if it had not been stopped (on CPUs).
        MissingInputError: the pretrained weights are not there.
        PlexrankError: the loss became infinite or undefined.
    """
    _check(tiles, unit)
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
        validation_auc=best["validation_auc"],
    )


def _check(tiles: TrainingTiles, unit: TrainingUnit) -> None:
    labels = tiles.labels[unit.train_index]
    missing = [name for label, name in enumerate(tiles.class_names) if label not in labels]
    name = f"fold {unit.fold}"
    if missing:
        raise StudyError(f"{name}: no training tile of class {', '.join(missing)}; lower train.folds or add patients")
    if len(labels) < 2 or len(unit.validation_index) == 0:
        raise StudyError(
            f"{name}: {len(labels)} training and {len(unit.validation_index)} validation tiles, expected at least "
            "2 and 1; lower train.folds or add patients"
        )


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
        self.class_weights = class_weights(tiles.labels[unit.train_index][first], len(tiles.class_names))
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
        found = on_first(self._read_progress, self.info)
        network = self._fresh_network(load_weights=found is None).to(self.info.device)
        self._fit_into_memory(network)
        self.wrapped = wrap(network, self.info, self.train.sync_batch_norm)
        self.optimiser = make_optimiser(self.wrapped, self.train.learning_rate)
        self.scheduler = make_scheduler(self.optimiser)
        if found is not None:
            self.progress = found
            self.network.load_state_dict(found.model)
            self.optimiser.load_state_dict(found.optimiser)
            self.scheduler.load_state_dict(found.scheduler)
            self._report(f"going on at epoch {found.epoch + 1}")

    def _read_progress(self) -> Progress | None:
        """What ``last.pt`` holds, unless that is of something else: then say what differs."""
        found = read_progress(self.paths.last)
        if found is None or found.key == self.progress.key:
            return found
        differences = changes(found.made_of, self.progress.made_of) or ["the tiles or the pretrained weights"]
        self._report(f"training from the start: {self.paths.last} is of other settings: {', '.join(differences)}")
        return None

    def _fresh_network(self, load_weights: bool) -> Network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence(self.unit.entropy).generate_state(1)[0]))
            network = build_network(self.settings, len(self.tiles.channel_names), len(self.tiles.class_names))
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
            self.class_weights[self.tiles.labels[index]],
            self.train.batch_tiles,
            [*self.unit.entropy, progress.epoch],
            Disturbance(len(self.tiles.channel_names), self.train.jitter, self.train.channel_dropout),
        )[progress.batch :]
        shares = [self._shares(batch) for batch in batches]
        sums = torch.zeros(4, dtype=torch.float64, device=self.info.device)
        n_passed, n_tiles, began = 0, sum(len(batch.tiles) for batch in batches), time.monotonic()
        self.wrapped.train()
        loaded = self.tiles.batches(share.tiles for of_step in shares for share in of_step)
        for batch, of_step in zip(batches, shares, strict=True):
            sums += self._step(of_step, loaded, float(batch.weights.sum()))
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

    def _shares(self, batch: Batch) -> list[Batch]:
        """What this process passes of a step, one part after the other."""
        parts = batch.parts(self.train.accumulate)
        fewest = min(len(part.tiles) for part in parts)
        if fewest < self.info.world_size and not self.train.sync_batch_norm:
            raise StudyError(
                f"train.sync_batch_norm: false needs a tile for each process at once, found {fewest} for "
                f"{self.info.world_size} processes; set it to true, lower train.accumulate or start fewer processes"
            )
        return [part.share(self.info.process_rank, self.info.world_size) for part in parts]

    def _add(self, sums: Tensor) -> None:
        total = all_reduce_sum(sums, self.info).tolist()
        self.progress.sums = [before + new for before, new in zip(self.progress.sums, total, strict=True)]
        self.progress.seconds = time.monotonic() - self.started

    def _step(self, shares: list[Batch], loaded: Iterator[Tensor], weight_of_step: float) -> Tensor:
        """One optimiser step; the weighted loss, the weight, the right tiles and the tiles of this process."""
        self.optimiser.zero_grad()
        sums = torch.zeros(4, dtype=torch.float64, device=self.info.device)
        for share in shares:
            sums += self._pass(share, next(loaded), weight_of_step)
        self.optimiser.step()
        return sums

    def _pass(self, share: Batch, intensities: Tensor, weight_of_step: float) -> Tensor:
        """Forward and backward; the loss is normalised by the weight of the whole step, so that shares count right."""
        device = self.info.device
        images = model_input(augment(intensities.to(device, non_blocking=True), share, self.train.crop_px))
        labels = torch.from_numpy(self.tiles.labels[share.tiles]).to(device)
        weights = torch.from_numpy(share.weights).to(device, torch.float32)
        held = held_channels(self.tiles.present(share.tiles), share.kept)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            logits = self.wrapped(images, None if held is None else held.to(device))
        loss = (nn.functional.cross_entropy(logits, labels, reduction="none") * weights).sum()
        (loss * (self.info.world_size / weight_of_step)).backward()  # type: ignore[no-untyped-call]
        right = (logits.detach().argmax(dim=1) == labels).sum()
        tiles = torch.tensor(float(len(labels)), device=device)
        return torch.stack([loss.detach(), weights.sum(), right, tiles]).double()

    def validate(self) -> None:
        """Judge the epoch on the validation images, and close it."""
        progress = self.progress
        loss_sum, weight_sum, right, n_tiles = progress.sums
        if not math.isfinite(loss_sum):
            raise self._diverged()
        labels, logits = self._readout().image_logits(self.unit.validation_index)
        loss = weighted_log_loss(labels, logits, self.class_weights)
        if not math.isfinite(loss):
            raise self._diverged()
        auc = area_under_curve(labels, softmax(logits, axis=-1))
        progress.history.append(
            {
                "epoch": progress.epoch + 1,
                "train_loss": loss_sum / weight_sum,
                "train_accuracy": right / n_tiles,
                "validation_loss": loss,
                "validation_auc": auc,
                "learning_rate": float(self.optimiser.param_groups[0]["lr"]),
                "seconds": round(time.monotonic() - self.started, 3),
            }
        )
        progress.devices.append(self.info.hardware)
        self.scheduler.step(-loss if math.isnan(auc) else auc)
        progress.stale_epochs += 1
        if loss < progress.best_loss:
            progress.best_loss, progress.best_epoch, progress.stale_epochs = loss, progress.epoch, 0
            progress.best_model = self._state()
        progress.epoch, progress.batch, progress.sums, progress.seconds = progress.epoch + 1, 0, [0.0] * 4, 0.0
        on_first(lambda: self.history.write(progress.history, progress.devices), self.info)
        self._report(progress_line(progress.history[-1], self.train.epochs, n_tiles))
        self.said = time.monotonic()

    def _readout(self) -> Readout:
        return Readout(
            self.network, self.settings, self.tiles, self.unit.train_index, self.unit.seed, self.info, self._diverged
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
        embedding = readout.pooled_embedding(index, self.unit.validation_index)

        def write_best() -> None:
            trained = TrainedUnit(
                key=progress.key,
                fold=self.unit.fold,
                seed=self.unit.seed,
                epoch=progress.best_epoch,
                channel_names=tiles.channel_names,
                class_names=tiles.class_names,
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
            previous_path(self.paths.last).unlink(missing_ok=True)

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
