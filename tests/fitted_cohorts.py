"""Cohorts at the array level whose encoders and classifiers are truly fitted, fold by fold, on the labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import numpy as np

from plexrank.outcome import LinearWeights
from plexrank.outcome.nominal import Nominal
from plexrank.ranking.aggregate import UnitTable
from plexrank.ranking.samples import Samples, make_samples
from plexrank.readout.linear import fit_linear_classifier

CLASS_NAMES = ("low", "high", "other")


def stratified_folds(label: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    fold = np.empty(len(label), dtype=int)
    for k in np.unique(label):
        members = rng.permutation(np.flatnonzero(label == k))
        fold[members] = np.arange(len(members)) % folds
    return fold


def linear_logits(coef: np.ndarray, intercept: np.ndarray, r: np.ndarray) -> np.ndarray:
    return np.nan_to_num(r) @ coef.T + intercept


def fit_ridge(r: np.ndarray, target: np.ndarray, penalty: float) -> np.ndarray:
    """Coefficients (class, channel) of ridge regression on centred targets."""
    centred = r - r.mean(axis=0)
    gram = centred.T @ centred + penalty * len(r) * np.eye(r.shape[1])
    return np.linalg.solve(gram, centred.T @ (target - target.mean(axis=0))).T


def fitted_cohort(
    seed: int,
    *,
    effects: tuple[float, ...] = (),
    patients: int = 64,
    channels: int = 12,
    classes: int = 2,
    folds: int = 4,
    seeds: int = 2,
    free_directions: int = 1,
    flip_signs: bool = True,
    strength: float | None = None,
    rare: int | None = None,
) -> tuple[list[UnitTable], Samples]:
    """Units of a cohort of one image a patient.

    A channel's content has ``free_directions`` independent numbers. With more than one of them the encoder of
    each unit and channel learns, from a bootstrap of the unit's training labels, which mixture of them becomes
    r. The classifier is a ridge regression on the r of the training patients; with ``strength`` it is the product's
    own logistic regression with that C, and the units keep its weights. ``effects`` are the differences
    between class 1 and the others, in standard deviations, of the first channels' first number. ``rare`` is the
    size of class 1 of two, where they are not to be equal.
    """
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(patients) % classes if rare is None else np.arange(patients) < rare)
    label = label.astype(int)
    fold = stratified_folds(label, folds, rng)
    content = rng.normal(size=(patients, channels, free_directions))
    content[:, : len(effects), 0] += np.outer(label == 1, effects)
    target = np.eye(classes)[label]
    units = []
    for f in range(folds):
        for s in range(seeds):
            r = encode(content, target, np.flatnonzero(fold != f), rng)
            if flip_signs:
                r = r * rng.choice([-1.0, 1.0], size=channels)
            coef, intercept = fit_classifier(r, label, fold != f, strength)
            linear = None if strength is None else LinearWeights(coef, intercept)
            units.append(unit_table(r, coef, intercept, linear, fold, f, s, np.exp(content[:, :, 0] / 4)))
    names = CLASS_NAMES[:classes]
    ids = [f"p{i:03d}" for i in range(patients)]
    return units, make_samples(ids, [names[k] for k in label], fold.tolist(), outcome=Nominal(tuple(names)))


def without(units: list[UnitTable], absent: np.ndarray) -> list[UnitTable]:
    """The units of a cohort whose images lack channels: ``absent`` (image, channel) bool."""

    def cut(values: np.ndarray) -> np.ndarray:
        return np.where(absent.reshape(*absent.shape, *(1,) * (values.ndim - 2)), np.nan, values)

    return [
        dataclasses.replace(
            unit,
            embedding=cut(unit.embedding),
            mean_intensity=cut(unit.mean_intensity),
            training_embedding=cut(unit.training_embedding),
            importance={method: cut(values) for method, values in unit.importance.items()},
            contrast={method: cut(values) for method, values in unit.contrast.items()},
            importance_by_class={method: cut(values) for method, values in unit.importance_by_class.items()},
        )
        for unit in units
    ]


def encode(content: np.ndarray, target: np.ndarray, train: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if content.shape[2] == 1:
        r = content[:, :, 0]
    else:
        drawn = rng.choice(train, len(train))
        while not target[drawn].any(axis=0).all():
            drawn = rng.choice(train, len(train))
        directions = [fit_ridge(content[drawn, c], target[drawn], 0.4)[1] for c in range(content.shape[1])]
        r = np.einsum("icd,cd->ic", content, np.stack(directions))
    return (r - r[train].mean(axis=0)) / r[train].std(axis=0)


def fit_classifier(
    r: np.ndarray, label: np.ndarray, train: np.ndarray, strength: float | None
) -> tuple[np.ndarray, np.ndarray]:
    if strength is None:
        coef = 3 * fit_ridge(r[train], np.eye(label.max() + 1)[label[train]], 0.5)
        return coef, np.zeros(len(coef))
    fitted = fit_linear_classifier(r[train], label[train], np.flatnonzero(train).astype(str), 0, strength)
    return fitted.coef.double().numpy(), fitted.intercept.double().numpy()


def unit_table(
    r: np.ndarray,
    coef: np.ndarray,
    intercept: np.ndarray,
    linear: LinearWeights | None,
    fold: np.ndarray,
    f: int,
    s: int,
    intensity: np.ndarray,
) -> UnitTable:
    classify: Callable[[np.ndarray], np.ndarray] = partial(linear_logits, coef, intercept)
    logits = classify(r)
    held_out = (fold == f)[:, None]
    gradient = np.broadcast_to(coef.T, (len(r), r.shape[1], len(coef)))
    predicted = np.abs(gradient) * np.eye(len(coef))[logits.argmax(axis=1)][:, None]
    return UnitTable(
        fold=f,
        seed=s,
        classify=classify,
        n_tiles=np.where(fold == f, 4, 0),
        embedding=np.where(held_out, r, np.nan),
        logits=np.where(held_out, logits, np.nan),
        mean_intensity=np.where(held_out, intensity, np.nan),
        importance={"gradient": np.where(held_out, predicted.sum(axis=2), np.nan)},
        contrast={"gradient": np.where(held_out[..., None], Nominal(()).contrasts(gradient), np.nan)},
        training_embedding=np.where(held_out, np.nan, r),
        linear=linear,
        importance_by_class={"gradient": np.where(held_out[..., None], predicted, np.nan)},
    )
