"""A methods paragraph for a paper that uses a run, with its numbers, and the works that it cites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plexrank.outcome import LINEAR_MODELS, MEASURE_NAMES, Kind
from plexrank.report import citations
from plexrank.report.citations import Citation
from plexrank.settings import ModelSettings, Study
from plexrank.wording import counted


@dataclass(frozen=True)
class RunFacts:
    """What the paragraph needs beside settings and summary.

    Attributes:
        channels: ranked channels.
        controls: channels that were kept as negative controls.
        pixel_sizes_um: (y, x) of the pixels of each image as it came, µm; None where it does not say.
        versions: of ``provenance.json``: ``plexrank``, ``torch``, ``python``.
    """

    channels: int
    controls: int
    pixel_sizes_um: Sequence[tuple[float, float] | None]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Methods:
    """The paragraph and what belongs to it.

    Attributes:
        paragraphs: plain text.
        citations: of the paragraphs, in their order.
    """

    paragraphs: tuple[str, ...]
    citations: tuple[Citation, ...]

    @property
    def bibtex(self) -> str:
        """All entries."""
        return "\n\n".join(citation.bibtex() for citation in self.citations) + "\n"


def describe_methods(study: Study, summary: Mapping[str, Any], facts: RunFacts) -> Methods:
    """The paragraph for a run.

    Args:
        study: its settings.
        summary: content of ``summary.json``.
        facts: the rest.
    """
    cited: list[Citation] = []

    def cite(*works: Citation) -> str:
        cited.extend(work for work in works if work not in cited)
        return f"({'; '.join(work.short for work in works)})"

    paragraphs = (
        " ".join([_images(study, summary, facts), _intensities(study)]),
        " ".join([_network(study, cite), _training(study, summary, facts, cite)]),
        " ".join([_ranking(study, cite), _tests(study, summary, facts, cite)]),
        " ".join([_prediction(study, summary, cite), _software(facts, cite)]),
    )
    return Methods(paragraphs, tuple(cited))


Cite = Callable[..., str]


def _images(study: Study, summary: Mapping[str, Any], facts: RunFacts) -> str:
    counts, tile = summary["counts"], study.tile
    controls = f" and {counted(facts.controls, 'negative-control channel')}" if facts.controls else ""
    described = summary["outcome"]["described"]
    classes = ", ".join(f"{name}: {number}" for name, number in counts["classes"].items())
    column = " and ".join(study.cohort.outcome_columns)
    return (
        f"We analysed {counted(counts['images'], 'image')} of {counted(counts['patients'], 'patient')} "
        f"({column}; {described or classes}) with {counted(facts.channels, 'channel')}{controls}. "
        f"Images were {_reduced(study, facts.pixel_sizes_um)}divided into {counted(counts['tiles'], 'tile')} of up to "
        f"{tile.tile_px} × {tile.tile_px} pixels{_with_tissue(tile.min_tissue)}."
    )


def _with_tissue(least: float) -> str:
    return f" with at least {100 * least:g} % tissue" if least else ""


def _reduced(study: Study, sizes: Sequence[tuple[float, float] | None]) -> str:
    """How images were brought to the resolution of the tiles, up to ``divided into``."""
    tile = study.tile
    if tile.um_per_px is not None:
        return f"reduced to pixels of {tile.um_per_px:g} µm and "
    known = {round(size[0], 4) for size in sizes if size is not None}
    given = tile.image_um_per_px
    if any(size is None for size in sizes) and given is not None:
        known.add(given)
    is_complete = bool(sizes) and (given is not None or all(size is not None for size in sizes))
    if not is_complete:
        origin, result = "pixels of unknown size", ""
    elif len(known) == 1:
        origin, result = f"pixels of {min(known):g} µm", f" to {min(known) * tile.downsample:.3g} µm"
    else:
        origin = f"pixels of {min(known):g} to {max(known):g} µm"
        result = f" to {min(known) * tile.downsample:.3g} to {max(known) * tile.downsample:.3g} µm"
    if tile.downsample == 1:
        return f"taken at full resolution ({origin}) and "
    return f"reduced {tile.downsample}-fold in y and x by area means ({origin}{result}) and "


def _intensities(study: Study) -> str:
    scale = study.intensity
    transformed = (
        f"transformed by arcsinh(x / {scale.cofactor:g})" if scale.transform == "arcsinh" else "taken as they were"
    )
    return (
        f"Pixel intensities were {transformed}, divided by the {scale.clip_percentile:g}th percentile of the channel "
        "in the training patients and clipped to 0–1."
    )


_BACKBONES = {
    "resnet18": "a ResNet18",
    "resnet3d18": "the first layers of a ResNet3D-18",
    "shallow": "a network of three convolutions with stride 2",
}
_ARCHITECTURES = {
    "resnet50": "A ResNet50 with one input channel for each protein",
    "resnet3d18": "A ResNet3D-18 with channels as depth",
    "bsn": "A ResNet18 that classifies each channel by itself, the scores being averaged,",
}


def _network(study: Study, cite: Cite) -> str:
    model = study.model
    is_volume = "resnet3d18" in ((model.backbone,) if model.has_embedding else (model.architecture,))
    works = [citations.VOLUME_RESNET] if is_volume else [citations.RESNET] if _has_resnet(model) else []
    weights = {"imagenet": "with published weights", "none": "from random weights"}.get(
        str(model.weights), "from given weights"
    )
    if not model.has_embedding:
        return f"{_ARCHITECTURES[model.architecture]} {cite(*works)} predicted the outcome, trained {weights}."
    encoder = "shared by all channels" if model.encoder == "shared" else "with an embedding encoder for each channel"
    backbone = f"{_BACKBONES[model.backbone]}{' ' + cite(*works) if works else ''}"
    blended = f"; the log mean intensity makes up {100 * model.intensity_share:g} % of it" if model.blends else ""
    classifier = (
        f"a regularised {LINEAR_MODELS[_linear_model(study)]} on these numbers, fitted to the training patients once "
        "the encoder was trained"
        if model.refits
        else "three fully connected layers on these numbers"
    )
    attention = f" weighted by attention {cite(citations.ATTENTION)}" if model.pooling == "attention" else " averaged"
    return (
        f"Each channel image was reduced to one number by an encoder {encoder} ({backbone}, trained {weights}), the "
        f"channel embedding {cite(citations.METHOD)}{blended}. Tiles were{attention} over an image. The outcome was "
        f"predicted by {classifier}."
    )


def _has_resnet(model: ModelSettings) -> bool:
    return model.backbone == "resnet18" or not model.has_embedding


def _linear_model(study: Study) -> str:
    models: dict[Kind, str] = {
        "nominal": "logistic", "ordinal": "proportional_odds", "continuous": "ridge", "survival": "cox",
    }  # fmt: skip
    return models[study.cohort.outcome]


def _training(study: Study, summary: Mapping[str, Any], facts: RunFacts, cite: Cite) -> str:
    train = study.train
    folds = f"{train.folds} folds" if train.split == "folds" else "folds"
    dealt = {
        "folds": ", balanced by outcome" + (" and site" if summary["sites"] else ""),
        "site": ", each of which held out one site",
        "given": " given beforehand",
    }.get(str(train.split), " given beforehand")
    losses: dict[Kind, str] = {
        "nominal": "class-balanced cross-entropy",
        "ordinal": f"the likelihood of cumulative logits {cite(citations.ODDS)}"
        if study.cohort.outcome == "ordinal" else "",
        "continuous": f"Huber's loss {cite(citations.HUBER)}" if study.cohort.outcome == "continuous" else "",
        "survival": f"the partial likelihood {cite(citations.COX)} with ties after Efron {cite(citations.EFRON)}"
        if study.cohort.outcome == "survival" else "",
    }  # fmt: skip
    lasting = (
        f"{counted(train.epochs, 'epoch')}, the best of which on an inner validation split was kept,"
        if train.patience >= train.epochs
        else f"up to {counted(train.epochs, 'epoch')} (stopped after {train.patience} without improvement on an inner "
        "validation split, whose best epoch was kept)"
    )
    return (
        f"Networks were trained in {folds}{dealt}, so that no patient was in both training and held-out data, with "
        f"{counted(train.seeds, 'random seed')} each, for {lasting} by Adam {cite(citations.ADAM)} (learning rate "
        f"{train.learning_rate:g}, {train.batch_tiles} tiles a step) on {losses[study.cohort.outcome]}; predictions "
        "were averaged over seeds."
    )


def _ranking(study: Study, cite: Cite) -> str:
    by = study.rank.by.replace("_", " ")
    return (
        f"Channels were ranked by their share of the importance ({by}) for held-out patients, averaged over patients "
        f"and seeds. Intervals of score and position rest on {study.rank.bootstrap:,} bootstrap samples of patients "
        f"and hold for all channels at once {cite(citations.SIMULTANEOUS)}."
    )


def _tests(study: Study, summary: Mapping[str, Any], facts: RunFacts, cite: Cite) -> str:
    if summary["confounded"]:
        return "Since outcome and site cannot be distinguished, no channel was tested."
    kind, sites = study.cohort.outcome, summary["sites"]
    statistic = {
        "nominal": lambda: f"the Kruskal–Wallis statistic {cite(citations.KRUSKAL_WALLIS)}",
        "ordinal": lambda: f"the rank correlation {cite(citations.SPEARMAN)} with the grade",
        "continuous": lambda: f"the rank correlation {cite(citations.SPEARMAN)} with the value",
        "survival": lambda: (
            f"the correlation of intensity ranks with martingale residuals {cite(citations.MARTINGALE)}"
        ),
    }[kind]()
    within = f", within sites and on aligned ranks {cite(citations.ALIGNED_RANKS)}," if sites else ""
    has_pattern = "pattern" not in summary["not_tested"]
    pattern = (
        "; and for its pattern, by a permutation test of what the embedding of held-out patients reads beyond "
        "brightness, with the direction learned from the training patients of each network (variance factor λ = "
        f"{summary['pattern_variance']:.2f})"
        if has_pattern
        else ""
    )
    either = " in either test (at most twice that rate over both)" if has_pattern else ""
    return (
        f"Each channel was tested for its mean intensity, by permutation of outcomes over patients{within} of "
        f"{statistic}{pattern}. P-values of each test were adjusted over the {facts.channels} ranked channels "
        f"{cite(citations.FDR)}, and channels with q ≤ {summary['fdr']:g}{either} are called significant. "
        f"Reliance is permutation importance on held-out patients {cite(citations.PERMUTATION_IMPORTANCE)}."
    )


def _prediction(study: Study, summary: Mapping[str, Any], cite: Cite) -> str:
    main = summary["outcome"]["headline"]
    baseline = LINEAR_MODELS[summary["outcome"]["linear_model"]]
    works = {"ordinal": [citations.ODDS], "continuous": [citations.RIDGE], "survival": [citations.COX]}
    base_cited = f" {cite(*works[study.cohort.outcome])}" if study.cohort.outcome in works else ""
    measured = f"Held-out prediction was judged by {MEASURE_NAMES[main]}"
    if study.cohort.outcome == "survival":
        about = summary.get("without_channels", {})
        horizon = f" up to τ = {about['tau']:g}" if "tau" in about else ""
        measured += (
            f" {cite(citations.HARRELL)}, Uno's C{horizon} {cite(citations.UNO)} and the integrated Brier score "
            f"{cite(citations.BRIER)}; follow-up is the reverse Kaplan–Meier median {cite(citations.FOLLOW_UP)}"
        )
    return (
        f"{measured}, tested against {study.rank.permutations:,} permutations of the outcome over patients"
        f"{' within sites' if summary['sites'] else ''}, and compared, paired over patients, with a "
        f"{baseline}{base_cited} on log mean intensities of the channels in the same folds."
    )


def _software(facts: RunFacts, cite: Cite) -> str:
    version = facts.versions.get("plexrank", "")
    with_torch = f" with PyTorch {facts.versions['torch']}" if facts.versions.get("torch") else ""
    python = f" on Python {facts.versions['python']}" if facts.versions.get("python") else ""
    cite(citations.software(version), citations.METHOD)
    return f"All was done by {f'plexrank {version}'.strip()}{with_torch}{python}."


def left_out(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """What the ranking does not rest on and why, a sentence each; unusable images have a table of reasons.

    Args:
        summary: content of ``summary.json``.
    """
    counts = summary["counts"]
    said = []
    if counts["background_tiles"]:
        said.append(f"{counted(counts['background_tiles'], 'tile', 'is')} left out as background.")
    if summary["skipped"]:
        said.append(
            f"{counted(len(summary['skipped']), 'image', 'is')} left out as not usable, with the reasons below."
        )
    said += [warning[:1].upper() + warning[1:] + "." for warning in summary["warnings"] if " left out: " in warning]
    for test, reason in summary["not_tested"].items():
        said.append(f"Not tested: {test.replace('_', ' ')} ({reason}).")
    return tuple(said)
