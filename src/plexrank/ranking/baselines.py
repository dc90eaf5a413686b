"""What plain channel means say: predictions out of fold, and channels in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import softmax
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedGroupKFold

from plexrank.arrays import Array
from plexrank.ranking.logistic import DEFAULT_STRENGTH, fit_logistic
from plexrank.ranking.pattern import log_intensities
from plexrank.ranking.reliance import log_loss
from plexrank.ranking.samples import Samples
from plexrank.ranking.scores import positions
from plexrank.statistics.means import class_balanced_mean, known_mean

MEANS_STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
STRENGTH_FOLDS = 4
TREES = 100
REPEATS = 5
LOWEST_PROBABILITY = 0.5 / TREES
"""A forest in which no tree votes for a class has not ruled it out."""


@dataclass(frozen=True)
class MeansModel:
    """A model of the channel means in the folds of the study.

    Attributes:
        probability: (sample, class), out of fold.
        importance: (channel,): mean |coefficient| over folds and classes of the standardised logistic regression;
            class-balanced rise of the held-out log loss by permutation for the forest.
    """

    probability: Array
    importance: Array


def logistic_baseline(mean_intensity: Array, samples: Samples, seed: int) -> MeansModel:
    """Logistic regression on standardised log(mean + 0.01 m), m the channel's mean over the training samples.

    Negative means count as 0; L2 penalty, balanced classes, strength by inner folds grouped by patient. The
    logarithm makes a strong baseline, since abundance varies by ratios, and m makes it free of the unit. A channel
    that a sample lacks counts as the mean of the training samples.

    Args:
        mean_intensity: (sample, channel), NaN where a sample lacks the channel.
    """
    probability = np.zeros((len(samples), samples.num_classes))
    importance = []
    for train, test in _folds(samples):
        features = _complete(log_intensities(mean_intensity, train), train)
        classes, label = np.unique(samples.label[train], return_inverse=True)
        strength = best_strength(features[train], label, samples.patient[train], seed)
        predicted, coef = _predict(features[train], label, features[test], strength)
        probability[np.ix_(test, classes)] = predicted
        importance.append(np.abs(coef).mean(axis=0))
    return MeansModel(probability, np.mean(importance, axis=0))


def forest_baseline(mean_intensity: Array, samples: Samples, seed: int) -> MeansModel:
    """Random forest (Breiman 2001) on the channel means, with permutation importance on the held-out samples.

    Arguments as for :func:`logistic_baseline`.
    """
    probability = np.zeros((len(samples), samples.num_classes))
    increase = np.zeros(mean_intensity.shape)
    rng = np.random.default_rng(seed)
    for train, test in _folds(samples):
        features = _complete(mean_intensity, train)
        model = RandomForestClassifier(TREES, class_weight="balanced", random_state=seed)
        model.fit(features[train], samples.label[train])
        probability[np.ix_(test, model.classes_)] = model.predict_proba(features[test])
        order = rng.permuted(np.tile(np.arange(len(test)), (REPEATS, 1)), axis=1)
        channels = features.shape[1]
        permuted = np.tile(features[test], (channels, REPEATS, 1, 1))
        for channel in range(channels):
            permuted[channel, :, :, channel] = features[test][order, channel]
        voted = np.zeros((permuted.size // channels, samples.num_classes))
        voted[:, model.classes_] = model.predict_proba(permuted.reshape(-1, channels))
        label = samples.label[test]
        loss = log_loss(np.maximum(voted, LOWEST_PROBABILITY), np.tile(label, channels * REPEATS))
        undisturbed = log_loss(np.maximum(probability[test], LOWEST_PROBABILITY), label)
        increase[test] = loss.reshape(channels, REPEATS, len(test)).mean(axis=1).T - undisturbed[:, None]
    return MeansModel(probability, class_balanced_mean(increase, samples.label))


def anova(values: Array, label: Array) -> tuple[Array, Array]:
    """One-way analysis of variance of every column: F (channel,) and p (channel,).

    By hand, since ``scipy.stats.f_oneway`` gives NaN for a column that a whole class lacks; elsewhere they agree.

    Args:
        values: (sample, channel), NaN takes no part; a column without spread has F 0 and p 1.
        label: (sample,) int.
    """
    known = ~np.isnan(values)
    mean = known_mean(values)
    between, within, classes = np.zeros(values.shape[1]), np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for k in np.unique(label):
        own = values[label == k]
        own_mean = np.nan_to_num(known_mean(own))
        between += known[label == k].sum(axis=0) * (own_mean - np.nan_to_num(mean)) ** 2
        within += (np.where(known[label == k], own - own_mean, 0.0) ** 2).sum(axis=0)
        classes += known[label == k].any(axis=0)
    free = (np.maximum(classes - 1, 1), np.maximum(known.sum(axis=0) - classes, 1))
    ratio = np.divide(between / free[0], within / free[1], out=np.zeros_like(between), where=within > 0)
    return ratio, stats.f.sf(ratio, *free)


def baseline_table(
    channels: Sequence[str], included: Array, mean_intensity: Array, samples: Samples, models: dict[str, MeansModel]
) -> pd.DataFrame:
    """baselines.csv: a row a channel in the order of the panel, with the position that every baseline gives it.

    Columns ``channel, anova_f, anova_p, anova_position`` and for each model ``<name>_importance, <name>_position``.
    """
    ratio, p = anova(mean_intensity, samples.label)
    columns: dict[str, object] = {"channel": list(channels), "anova_f": ratio, "anova_p": p}
    columns["anova_position"] = positions(ratio, included)
    for name, model in models.items():
        columns |= {f"{name}_importance": model.importance, f"{name}_position": positions(model.importance, included)}
    table = pd.DataFrame(columns)
    for column in (name for name in table if str(name).endswith("_position")):
        table[column] = table[column].astype("Int64")
    return table


def _folds(samples: Samples) -> list[tuple[Array, Array]]:
    """Training and held-out rows of every fold."""
    return [(np.flatnonzero(samples.fold != f), np.flatnonzero(samples.fold == f)) for f in np.unique(samples.fold)]


def _complete(features: Array, train: Array) -> Array:
    return np.where(np.isnan(features), np.nan_to_num(known_mean(features[train])), features)


def _predict(train: Array, label: Array, test: Array, strength: float) -> tuple[Array, Array]:
    """Probabilities (row, class) of the test rows, and the coefficients (class, channel) of standardised channels."""
    center, spread = train.mean(axis=0), train.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    weights = fit_logistic((train - center) / spread, label, strength)
    return softmax(weights.logits((test - center) / spread), axis=-1), weights.coef


def best_strength(features: Array, label: Array, patient: Array, seed: int) -> float:
    """C of least held-out loss over inner folds of patients; :data:`DEFAULT_STRENGTH` where a class is too small.

    Args:
        features: (row, column).
        label, patient: (row,) int.
    """
    classes = np.unique(label)
    smallest = min(len(np.unique(patient[label == k])) for k in classes)
    if smallest < STRENGTH_FOLDS:
        return DEFAULT_STRENGTH
    splitter = StratifiedGroupKFold(STRENGTH_FOLDS, shuffle=True, random_state=seed)
    splits = list(splitter.split(features, label, patient))
    if any(len(np.unique(label[train])) < len(classes) for train, _ in splits):
        return DEFAULT_STRENGTH
    losses = [_inner_loss(strength, features, label, splits) for strength in MEANS_STRENGTHS]
    return MEANS_STRENGTHS[int(np.argmin(losses))]


def _inner_loss(strength: float, features: Array, label: Array, splits: Sequence[tuple[Array, Array]]) -> float:
    losses = []
    for train, test in splits:
        probability, _ = _predict(features[train], label[train], features[test], strength)
        losses.append(log_loss(probability, label[test]))
    labels = np.concatenate([label[test] for _, test in splits])
    return float(class_balanced_mean(np.concatenate(losses), labels))
