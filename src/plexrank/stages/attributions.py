"""The attributions of a run, held against what their units wrote. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from plexrank.attribution.store import BLOCK_TILES, AttributionBlock, AttributionStore
from plexrank.errors import RunDirError
from plexrank.planning.plan import Plan
from plexrank.rundir import recorded_checksums


def attribution_blocks(
    plan: Plan, fold: int, seed: int, methods: Sequence[str], tiles_at_once: int = BLOCK_TILES
) -> Iterator[AttributionBlock]:
    """All tiles of a unit's attribution: see :meth:`~plexrank.attribution.store.AttributionStore.blocks`.

    Raises:
        DamagedOutputError: it is missing or damaged, or that of another unit or training.
    """
    with plan.attribute(fold, seed).blamed():
        yield from open_attribution(plan, fold, seed).blocks(tiles_at_once, methods)


def open_attribution(plan: Plan, fold: int, seed: int) -> AttributionStore:
    """The attribution of a unit, which is that of this fold and seed and explains the training that is there.

    Raises:
        DamagedOutputError: it is missing or damaged, or another.
    """
    unit, training = plan.attribute(fold, seed), plan.train(fold, seed)
    with unit.blamed():
        store = AttributionStore(plan.rundir.attribution(fold, seed))
        recorded = recorded_checksums(unit.record, unit.name)
        if recorded is not None:  # attributions of before have none
            store.require(recorded)
        if (store.fold, store.seed) != (fold, seed):
            raise RunDirError(
                f"{store.path}: of fold {store.fold} seed {store.seed}; delete it and run the attribute stage again"
            )
        if store.checkpoint_sha256 != training.digest_of(plan.rundir.training(fold, seed) / "best.pt"):
            raise RunDirError(
                f"{store.path}: explains another best.pt than that of {training.name}; delete it and run the attribute "
                "stage again"
            )
    return store
