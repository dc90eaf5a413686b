"""A study: what a user asks for, as validated YAML with one section per stage.

This module is the only reader of study files. Every default stands here, once.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from plexrank.errors import MissingInputError, PlexrankError, StudyError, raise_problems

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Section(BaseModel):
    """A frozen part of a study that knows all of its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CohortSettings(Section):
    """Which images, which label, which channels."""

    samplesheet: Path = Field(description="CSV with image_id, path, patient_id, the label, optionally site")
    root: Path | None = Field(None, description="where image paths start and must stay")
    label: str = Field(min_length=1, description="the samplesheet column to separate")
    panel: Path | None = Field(None, description="CSV with channel, name, optionally keep; else the images' own names")
    truth: Path | None = Field(None, description="planted channels of a simulated cohort, marked in the report")
    exclude_channels: tuple[str, ...] = Field((), description="negative controls, out of the headline")


class TileSettings(Section):
    """How images become tiles."""

    tile_px: int = Field(256, ge=16, le=4096, description="side of a tile after downsampling, pixels")
    downsample: int = Field(1, ge=1, le=256, description="area-mean reduction of y and x")
    min_tissue: float = Field(0.05, ge=0, le=1, description="least share of tissue in a tile that is kept")


class IntensitySettings(Section):
    """How counts become model input; percentiles are fitted on training patients only."""

    transform: Literal["arcsinh", "linear"] = Field("arcsinh", description="arcsinh(counts / cofactor), or counts")
    cofactor: float = Field(5.0, gt=0, description="counts at which arcsinh turns from linear to logarithmic")
    clip_percentile: float = Field(99.5, gt=50, le=100, description="of a channel's pixels; becomes intensity 1")


class ModelSettings(Section):
    """The network."""

    architecture: Literal["channel_embedding"] = Field("channel_embedding", description="one number a channel")
    backbone: Literal["resnet18", "shallow"] = Field("resnet18", description="resnet18, or shallow for CPUs")
    encoder: Literal["shared"] = Field("shared", description="one encoder for all channels")
    weights: Literal["imagenet", "none"] | Path = Field(
        "imagenet",
        union_mode="left_to_right",
        description="torchvision's resnet18 file in TORCH_HOME, a path to it, or none; shallow needs none",
    )
    standardize: bool = Field(True, description="bring the embedding of every channel to one scale")
    classifier: Literal["refit", "paper"] = Field("refit", description="a linear one fitted last, or the paper's")

    @model_validator(mode="after")
    def _weights_fit_the_backbone(self) -> ModelSettings:
        if self.backbone == "shallow" and self.weights != "none":
            raise ValueError("the shallow backbone has no pretrained weights; set model.weights: none")
        return self


class TrainSettings(Section):
    """How the network is trained: ``folds`` × ``seeds`` independent units."""

    epochs: int = Field(100, ge=1, description="most passes over the training images")
    batch_tiles: int = Field(32, ge=2, description="tiles per step over all processes together")
    crop_px: int = Field(224, ge=16, description="side of the random crop; a smaller tile is used whole")
    learning_rate: float = Field(1.0e-4, gt=0, description="of Adam, lowered where validation stalls")
    folds: int = Field(5, ge=2, description="parts of the patients, each held out once")
    seeds: int = Field(3, ge=1, description="networks per fold, averaged")
    patience: int = Field(10, ge=1, description="epochs without a better validation loss before stopping")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on GPUs that have it")


class AttributeSettings(Section):
    """Which importances to compute."""

    methods: tuple[Literal["gradient", "occlusion"], ...] = Field(
        ("gradient", "occlusion"), min_length=1, description="importances to compute"
    )


class RankSettings(Section):
    """How importances become a ranking."""

    by: Literal["gradient", "occlusion"] = Field("gradient", description="the importance that orders the channels")
    bootstrap: int = Field(2000, ge=100, description="resamplings of the patients behind every interval")
    permutations: int = Field(1000, ge=100, description="label permutations behind the p-value of the prediction")
    fdr: float = Field(0.1, gt=0, lt=1, description="a channel is significant where its reliance_q is at most this")


class Study(Section):
    """A whole study; all paths absolute once it comes from :func:`load_study`."""

    name: str = Field(pattern=NAME_PATTERN, description="letters, digits and . _ - only; stands on the report")
    cohort: CohortSettings
    tile: TileSettings = TileSettings()
    intensity: IntensitySettings = IntensitySettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    attribute: AttributeSettings = AttributeSettings()
    rank: RankSettings = RankSettings()
    seed: int = Field(0, ge=0, lt=2**31, description="decides folds, training and resampling; same seed, same result")

    @field_validator("rank")
    @classmethod
    def _ranked_method_is_computed(cls, rank: RankSettings, info: Any) -> RankSettings:
        attribute = info.data.get("attribute")
        if attribute is not None and rank.by not in attribute.methods:
            raise ValueError(
                f"rank.by is {rank.by!r}, which attribute.methods does not list; add it there or choose one of "
                + ", ".join(attribute.methods)
            )
        return rank


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read, override, validate and resolve a study file.

    Args:
        path: the YAML file; relative paths in it start at its folder.
        overrides: ``section.key=value`` strings, the value read as YAML.

    Raises:
        MissingInputError: there is no such file.
        StudyError: it is no YAML mapping, or an override is malformed.
        Problems: several keys are unknown or have wrong values.
    """
    raw = _read_mapping(path)
    for override in overrides:
        _apply_override(raw, override)
    try:
        study = Study.model_validate(raw)
    except ValidationError as error:
        raise_problems(_explain(path, error))
        raise
    return _resolve_paths(study, path.resolve().parent)


def dump_study(study: Study) -> str:
    """The study as YAML text that :func:`load_study` reads back to an equal study."""
    text: str = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
    return text


def _read_mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingInputError(f"{path}: no such study file; give the path of a study.yaml")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not readable as YAML ({_one_line(error)}); mend the syntax there") from error
    if not isinstance(raw, dict):
        raise StudyError(f"{path}: expected a mapping of sections such as cohort:, found {type(raw).__name__}")
    return raw


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not last or len(sections) > 1 or "" in sections:
        raise StudyError(f"--set {override}: expected section.key=value, such as train.epochs=20")
    target = raw
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise StudyError(f"--set {override}: {section} is a single value, not a section")
    try:
        target[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise StudyError(f"--set {override}: the value is no YAML ({_one_line(error)})") from error


def _resolve_paths(study: Study, base: Path) -> Study:
    cohort = study.cohort
    samplesheet = (base / cohort.samplesheet).resolve()
    resolved = cohort.model_copy(
        update={
            "samplesheet": samplesheet,
            "root": (base / cohort.root).resolve() if cohort.root else samplesheet.parent,
            "panel": (base / cohort.panel).resolve() if cohort.panel else None,
            "truth": (base / cohort.truth).resolve() if cohort.truth else None,
        }
    )
    model = study.model
    if isinstance(model.weights, Path):
        model = model.model_copy(update={"weights": (base / model.weights).resolve()})
    return study.model_copy(update={"cohort": resolved, "model": model})


def _explain(path: Path, error: ValidationError) -> list[PlexrankError]:
    return [StudyError(f"{path}: {_explain_one(detail)}") for detail in error.errors()]


def _explain_one(detail: Any) -> str:
    location = [str(part) for part in detail["loc"]]
    key = ".".join(location)
    found = detail.get("input")
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key{_suggest(location)}"
    if detail["type"] == "missing":
        return f"{key}: required and missing"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return message if message.startswith(location[0]) else f"{key}: {message}"
    if detail["type"] == "string_pattern_mismatch":
        message = "letters, digits, '.', '_' and '-' only, at most 64, starting with a letter or digit"
    return f"{key}: {message[0].lower()}{message[1:]}, got {found!r}"


def _suggest(location: Sequence[str]) -> str:
    section: type[BaseModel] = Study
    for part in location[:-1]:
        field = section.model_fields[part].annotation
        if not (isinstance(field, type) and issubclass(field, BaseModel)):
            return ""
        section = field
    known = list(section.model_fields)
    near = difflib.get_close_matches(location[-1], known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known keys: {', '.join(known)}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
