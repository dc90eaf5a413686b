"""What plain channel means say: predictions out of fold, and channels in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.model_selection import StratifiedGroupKFold

from plexrank.arrays import Array
from plexrank.outcome import Outcome
from plexrank.ranking.pattern import log_intensities
from plexrank.ranking.samples import Samples
from plexrank.ranking.scores import positions
from plexrank.ranking.training_samples import DEFAULT_STRENGTH
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
        prediction: (sample, column), out of fold.
        importance: (channel,): mean |coefficient| over folds and outputs of the standardised linear model;
            rise of the held-out loss by permutation, classes counting alike, for the forest.
    """

    prediction: Array
    importance: Array


def linear_baseline(mean_intensity: Array, samples: Samples, seed: int) -> MeansModel:
    """The outcome's linear model on standardised log(mean + 0.01 m), m the channel's mean over the training samples.

    Negative means count as 0; L2 penalty, strength by inner folds grouped by patient. The
    logarithm makes a strong baseline, since abundance varies by ratios, and m makes it free of the unit. A channel
    that a sample lacks counts as the mean of the training samples.

    Args:
        mean_intensity: (sample, channel), NaN where a sample lacks the channel.
    """
    prediction = _empty_prediction(samples)
    importance = []
    for train, test in _folds(samples):
        features = _complete(log_intensities(mean_intensity, train), train)
        training = MeansTraining(
            features[train], samples.label[train], samples.patient[train], samples.stratum[train], samples.outcome
        )
        strength = best_strength(training, seed)
        outputs, coef = training.outputs(features[test], strength)
        prediction[test] = samples.outcome.predict(outputs)
        importance.append(np.abs(coef).mean(axis=0))
    return MeansModel(prediction, np.mean(importance, axis=0))


def _empty_prediction(samples: Samples) -> Array:
    outputs = np.zeros((len(samples), len(samples.outcome.output_names)))
    empty: Array = np.zeros_like(samples.outcome.predict(outputs))
    return empty


def forest_baseline(mean_intensity: Array, samples: Samples, seed: int) -> MeansModel:
    """Random forest (Breiman 2001) on the channel means, with permutation importance on the held-out samples.

    Of classes it is told which; of other outcomes a number in their place, such as martingale residuals. Arguments as
    for :func:`linear_baseline`.
    """
    prediction = _empty_prediction(samples)
    increase = np.zeros(mean_intensity.shape)
    rng = np.random.default_rng(seed)
    for train, test in _folds(samples):
        features = _complete(mean_intensity, train)
        predict = _grow_forest(features[train], samples, train, seed)
        prediction[test] = predict(features[test])
        order = rng.permuted(np.tile(np.arange(len(test)), (REPEATS, 1)), axis=1)
        channels = features.shape[1]
        permuted = np.tile(features[test], (channels, REPEATS, 1, 1))
        for channel in range(channels):
            permuted[channel, :, :, channel] = features[test][order, channel]
        label = samples.label[test]
        loss = _loss(predict(permuted.reshape(-1, channels)), np.tile(label, channels * REPEATS), samples.outcome)
        undisturbed = _loss(prediction[test], label, samples.outcome)
        increase[test] = loss.reshape(channels, REPEATS, len(test)).mean(axis=1).T - undisturbed[:, None]
    return MeansModel(prediction, class_balanced_mean(increase, samples.balance))


def _grow_forest(features: Array, samples: Samples, train: Array, seed: int) -> Callable[[Array], Array]:
    """What predicts (row, column) of features (row, channel)."""
    numbers = samples.outcome.targets(samples.label[train], samples.stratum[train])
    if numbers is not None:
        regression = RandomForestRegressor(TREES, random_state=seed).fit(features, numbers)
        return lambda rows: regression.predict(rows)[:, None]
    model = RandomForestClassifier(TREES, class_weight="balanced", random_state=seed)
    model.fit(features, samples.label[train])

    def vote(rows: Array) -> Array:
        voted = np.zeros((len(rows), len(samples.outcome)))
        voted[:, model.classes_] = model.predict_proba(rows)
        return voted

    return vote


def _loss(prediction: Array, label: Array, outcome: Outcome) -> Array:
    votes = np.maximum(prediction, LOWEST_PROBABILITY) if outcome.has_classes else prediction
    return outcome.loss(votes, label)


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


def linear_trend(values: Array, places: Array) -> tuple[Array, Array]:
    """Regression of every column on numbers (sample,), otherwise as :func:`anova`."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 3)
    along = np.where(known, places[:, None], np.nan)
    x, y = along - known_mean(along), values - known_mean(values)
    product, squares = known_mean(x * y) ** 2, known_mean(x**2) * known_mean(y**2)
    share = np.divide(product, squares, out=np.zeros_like(product), where=squares > 0)
    ratio = share * (count - 2) / np.maximum(1 - share, 1e-12)
    return ratio, stats.f.sf(ratio, 1, count - 2)


def baseline_table(
    channels: Sequence[str], included: Array, mean_intensity: Array, samples: Samples, models: dict[str, MeansModel]
) -> pd.DataFrame:
    """baselines.csv: a row a channel in the order of the panel, with the position that every baseline gives it.

    Columns ``channel, anova_f, anova_p, anova_position``, of a regression where the outcome has an order, and for each
    model ``<name>_importance, <name>_position``.
    """
    places = samples.places()
    ratio, p = anova(mean_intensity, samples.label) if places is None else linear_trend(mean_intensity, places)
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


@dataclass(frozen=True)
class MeansTraining:
    """Features (row, channel) of samples to learn from, with the label, patient and stratum (row,) int of each."""

    features: Array
    label: Array
    patient: Array
    stratum: Array
    outcome: Outcome

    def outputs(self, features: Array, strength: float) -> tuple[Array, Array]:
        """Outputs (row, output) of other features, and coefficients (output, channel) of standardised channels."""
        center, spread = self.features.mean(axis=0), self.features.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        weights = self.outcome.fit((self.features - center) / spread, self.label, strength, self.stratum)
        return weights.outputs((features - center) / spread), weights.coef

    def among(self, rows: Array) -> MeansTraining:
        """Some of the rows only."""
        return replace(
            self,
            features=self.features[rows],
            label=self.label[rows],
            patient=self.patient[rows],
            stratum=self.stratum[rows],
        )


def best_strength(training: MeansTraining, seed: int) -> float:
    """C of least held-out loss over inner folds of patients; :data:`DEFAULT_STRENGTH` where a group is too small."""
    outcome, label, patient = training.outcome, training.label, training.patient
    group = outcome.group_of(label)
    trained_on = [number for number, one in enumerate(outcome.groups) if one.is_trained_on]
    smallest = min(len(np.unique(patient[group == k])) for k in np.unique(group) if k in trained_on)
    if smallest < STRENGTH_FOLDS:
        return DEFAULT_STRENGTH
    splitter = StratifiedGroupKFold(STRENGTH_FOLDS, shuffle=True, random_state=seed)
    splits = list(splitter.split(training.features, group, patient))
    if any(outcome.missing_groups(label[train]) for train, _ in splits):
        return DEFAULT_STRENGTH
    losses = [_inner_loss(strength, training, splits) for strength in MEANS_STRENGTHS]
    return MEANS_STRENGTHS[int(np.argmin(losses))]


def _inner_loss(strength: float, training: MeansTraining, splits: Sequence[tuple[Array, Array]]) -> float:
    losses, outcome = [], training.outcome
    for train, _ in splits:
        outputs, _ = training.among(train).outputs(training.features, strength)
        fitted = np.isin(np.arange(len(training.label)), train)
        losses.append(outcome.held_out_losses(outputs, training.label, fitted, training.stratum))
    labels = np.concatenate([training.label[np.sort(test)] for _, test in splits])
    return float(class_balanced_mean(np.concatenate(losses), outcome.balance(labels)))
