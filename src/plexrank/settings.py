"""The settings of a study: one section per stage, and every default, once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from plexrank.attribution.methods import METHODS, MethodName
from plexrank.models.architectures import ARCHITECTURES, ArchitectureName, BackboneName, published_weights
from plexrank.outcome import Kind
from plexrank.wording import shown

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Section(BaseModel):
    """A frozen part of a study that knows all of its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CohortSettings(Section):
    """Which images, which label, which channels."""

    samplesheet: Path = Field(
        description="CSV with image_id, path, patient_id, the label, optionally site, panel and mask"
    )
    root: Path | None = Field(None, description="where image paths start and must stay")
    label: str | None = Field(None, description="the samplesheet column that holds the outcome, unless it is survival")
    outcome: Kind = Field("nominal", description="classes, grades in order, numbers, or times to an event")
    order: tuple[str, ...] = Field((), description="of ordinal: the grades, lowest first; numbers need none")
    time: str | None = Field(None, description="of survival: the column of times to the event or the last visit")
    event: str | None = Field(None, description="of survival: the column that says 1 for the event, 0 for censored")
    event_values: dict[str, Literal[0, 1]] = Field(
        {}, description="of survival: what other words of that column mean, such as {DECEASED: 1, LIVING: 0}"
    )
    panel: Path | None = Field(
        None, description="panel.csv or markers.csv of images whose row names none; else their own names"
    )
    truth: Path | None = Field(None, description="planted channels of a simulated cohort, marked in the report")
    exclude_channels: tuple[str, ...] = Field((), description="negative controls, out of the headline")
    skip_bad: bool = Field(False, description="leave out images that cannot be used, and count them (--skip-bad)")

    @property
    def outcome_columns(self) -> tuple[str, ...]:
        """The columns of the samplesheet that the outcome stands in."""
        columns = (self.time, self.event) if self.outcome == "survival" else (self.label,)
        return tuple(column for column in columns if column is not None)

    @property
    def has_classes(self) -> bool:
        """Whether the outcome is one of a few classes or grades."""
        return self.outcome in ("nominal", "ordinal")

    @property
    def where(self) -> str:
        """The samplesheet and these columns, as errors begin."""
        columns = self.outcome_columns
        return f"{self.samplesheet}: column{'s' if len(columns) > 1 else ''} {' and '.join(map(repr, columns))}"

    @field_validator("order", mode="before")
    @classmethod
    def _grades_are_text(cls, order: object) -> object:
        if not isinstance(order, (list, tuple)):
            return order
        return [str(grade) if _is_number(grade) else grade for grade in order]

    @field_validator("event_values", mode="before")
    @classmethod
    def _words_are_text(cls, words: object) -> object:
        if not isinstance(words, dict):
            return words
        odd = [word for word in words if not isinstance(word, str) and not _is_number(word)]
        if odd:
            raise ValueError(f"YAML makes {odd[0]!r} of a word such as {_words_of(odd[0])}; put each word in quotes")
        folded: dict[str, object] = {}
        for word, value in words.items():
            if folded.setdefault(str(word).casefold(), value) != value:
                raise ValueError(f"{word!r} is given both values, in two spellings; give it one")
        return {str(word): value for word, value in words.items()}

    @model_validator(mode="after")
    def _columns_fit_the_outcome(self) -> CohortSettings:
        wrong = self._wrong_for_survival() if self.outcome == "survival" else self._wrong_without_times()
        if self.order and self.outcome != "ordinal":
            other = ", or use rank.ordered for a test of trend" if self.outcome == "nominal" else ""
            wrong.append(f"cohort.order belongs to outcome: ordinal; set that or remove the order{other}")
        if len(set(self.order)) < len(self.order):
            twice = next(grade for grade, count in Counter(self.order).items() if count > 1)
            wrong.append(f"cohort.order names {twice!r} twice; name each grade once, the lowest first")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def _wrong_for_survival(self) -> list[str]:
        missing = [f"cohort.{key}" for key in ("time", "event") if not getattr(self, key)]
        wrong = [f"{' and '.join(missing)}: required and missing for outcome: survival; name the column"] * bool(
            missing
        )
        if not missing and self.time == self.event:
            wrong.append(f"cohort.time and cohort.event are both {self.time!r}; name a column for each")
        if self.label is not None:
            wrong.append(
                "cohort.label belongs to other outcomes than survival, which rests on cohort.time and cohort.event; "
                "remove it"
            )
        return wrong

    def _wrong_without_times(self) -> list[str]:
        needless = [f"cohort.{key}" for key in ("time", "event", "event_values") if getattr(self, key)]
        if needless:
            verb = "belong" if len(needless) > 1 else "belongs"
            other = (
                "cohort.outcome: survival in the place of cohort.label" if self.label else "cohort.outcome: survival"
            )
            return [f"{' and '.join(needless)} {verb} to outcome: survival; set {other}, or remove the key"]
        if self.label is None:
            return ["cohort.label: required and missing; name the column that holds the outcome"]
        return []


class TileSettings(Section):
    """How images become tiles."""

    tile_px: int = Field(256, ge=16, le=4096, description="side of a tile after downsampling, pixels")
    downsample: int = Field(1, ge=1, le=256, description="area-mean reduction of y and x")
    um_per_px: float | None = Field(
        None, ge=0.001, le=1000, description="instead of downsample: reduce every image to pixels of this size, µm"
    )
    image_um_per_px: float | None = Field(
        None, ge=0.001, le=1000, description="size of the pixels of images that do not say it, µm"
    )
    min_tissue: float = Field(0.05, ge=0, le=1, description="least share of tissue in a tile that is kept")

    @model_validator(mode="after")
    def _reduced_in_one_way(self) -> TileSettings:
        if self.um_per_px is not None and self.downsample > 1:
            raise ValueError(
                f"downsample {self.downsample} and um_per_px {self.um_per_px:g} both say how far to reduce; keep one"
            )
        return self


class IntensitySettings(Section):
    """How counts become model input; percentiles are fitted on training patients only."""

    transform: Literal["arcsinh", "linear"] = Field(
        "arcsinh", description="arcsinh(counts / cofactor), or linear for the counts themselves"
    )
    cofactor: float = Field(
        5.0, ge=1e-6, le=1e9, description="counts at which arcsinh turns from linear to logarithmic"
    )
    clip_percentile: float = Field(99.5, gt=50, le=100, description="of a channel's pixels; becomes intensity 1")


class ModelSettings(Section):
    """The network."""

    architecture: ArchitectureName = Field(
        "channel_embedding", description="one number a channel, or one of the paper's baselines"
    )
    backbone: BackboneName = Field(
        "resnet18", description="of channel_embedding: the paper's, one that convolves across channels, or for CPUs"
    )
    encoder: Literal["shared", "independent"] = Field(
        "shared", description="of channel_embedding: features become a number alike for all channels, or not"
    )
    weights: Literal["imagenet", "none"] | Path = Field(
        "imagenet",
        union_mode="left_to_right",
        description="torchvision's file in TORCH_HOME (Kinetics for resnet3d18), a path, or none; shallow needs none",
    )
    first_conv: Literal["fresh", "rgb_sum"] = Field(
        "fresh", description="first convolution: drawn at random, or summed over the colours of the weights"
    )
    standardize: bool = Field(True, description="bring the embedding of every channel to one scale")
    classifier: Literal["refit", "paper"] = Field("refit", description="a linear one fitted last, or the paper's")
    intensity_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="of the log mean intensity in a channel's number, where a linear classifier is fitted",
    )
    pooling: Literal["mean", "attention"] = Field("mean", description="how tiles make an image: alike, or by attention")

    @property
    def has_embedding(self) -> bool:
        """Whether every channel becomes one number, which ``backbone``, ``encoder`` and so on are about."""
        return ARCHITECTURES[self.architecture].has_embedding

    @property
    def refits(self) -> bool:
        """Whether a linear classifier takes the place of the network's own."""
        return self.has_embedding and self.classifier == "refit"

    @property
    def blends(self) -> bool:
        """Whether intensities are blended into the embedding once the encoder is trained."""
        return self.refits and self.intensity_share > 0

    @field_validator("weights", mode="before")
    @classmethod
    def _weights_are_a_word_or_a_path(cls, weights: object) -> object:
        if weights is None or not isinstance(weights, str | Path) or not str(weights):
            raise ValueError(f"expected imagenet, none or the path of a file, got {shown(weights)}")
        return weights

    @model_validator(mode="after")
    def _weights_fit_the_backbone(self) -> ModelSettings:
        if published_weights(self) is None and self.weights != "none":
            raise ValueError(f"the {self.backbone} backbone has no pretrained weights; set model.weights: none")
        if self.pooling == "attention" and not self.has_embedding:
            raise ValueError(f"attention rests on the channel embedding, which {self.architecture} lacks; use mean")
        if self.first_conv == "rgb_sum" and self.weights == "none":
            raise ValueError(
                "rgb_sum sums the colours of pretrained weights, and there are none; set model.first_conv: fresh or "
                "model.weights"
            )
        return self


class TrainSettings(Section):
    """How the network is trained: ``folds`` × ``seeds`` independent units."""

    epochs: int = Field(100, ge=1, le=100_000, description="most passes over the training images")
    batch_tiles: int = Field(32, ge=2, le=65_536, description="tiles per step over all processes together")
    crop_px: int = Field(224, ge=16, le=4096, description="side of the random crop; a smaller tile is used whole")
    learning_rate: float = Field(1.0e-4, gt=0, le=1000, description="of Adam, lowered where validation stalls")
    folds: int = Field(5, ge=2, le=1000, description="parts of the patients, each held out once")
    seeds: int = Field(3, ge=1, le=1000, description="networks per fold, averaged")
    split: Literal["folds", "site", "given"] | Path = Field(
        "folds",
        union_mode="left_to_right",
        description="what a fold is: dealt evenly, a site, a value of the column split, or a folder of splits_0.csv …",
    )
    patience: int = Field(10, ge=1, le=100_000, description="epochs without a better validation loss before stopping")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on GPUs that have it")
    jitter: float = Field(0.0, ge=0, le=1, description="spread of the log of a random gain of each channel of a tile")
    channel_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of a tile's channels that are left out at random"
    )
    accumulate: int = Field(1, ge=1, description="parts that a step's tiles pass in; batch norm sees each part alone")
    recompute: Literal["auto"] | bool = Field(
        "auto", description="keep fewer activations and compute them again; auto: where a GPU's memory demands it"
    )
    sync_batch_norm: bool = Field(True, description="batch norm sees the tiles of all processes")

    @property
    def dealt_folds(self) -> int | None:
        """Into how many folds patients are dealt; ``None`` where the samplesheet or files say who is in which."""
        return self.folds if self.split == "folds" else None

    @model_validator(mode="after")
    def _parts_hold_two_tiles(self) -> TrainSettings:
        if 2 * self.accumulate > self.batch_tiles:
            raise ValueError(
                f"{self.batch_tiles} tiles a step cannot be divided into {self.accumulate} parts of two or more; "
                "lower train.accumulate or raise train.batch_tiles"
            )
        return self


CACHE_BYTES = 4 * 2**30
"""What a process of training keeps of read tiles, as float32 intensities; further tiles are read each time."""
PROBE_TILES = 512
"""Training tiles on which the linear classifier is fitted that judges an epoch; more would cost and change little."""


class AttributeSettings(Section):
    """Which importances to compute."""

    methods: tuple[MethodName, ...] = Field(
        ("gradient", "occlusion"),
        min_length=1,
        description="importances to compute; gradcam of bsn only",
    )

    @field_validator("methods")
    @classmethod
    def _each_once(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        for method, count in Counter(methods).items():
            if count > 1:
                raise ValueError(f"{method!r} is listed {count} times; name each importance once")
        return methods


class RankSettings(Section):
    """How importances become a ranking."""

    by: MethodName = Field("gradient", description="the importance that orders the channels")
    ordered: tuple[str, ...] = Field((), description="the classes from lowest to highest, for a test of trend")
    bootstrap: int = Field(2000, ge=100, le=100_000, description="resamplings of the patients behind every interval")
    permutations: int = Field(
        1000, ge=100, le=100_000, description="label permutations behind the p-value of the prediction"
    )
    null_trainings: int = Field(
        0,
        ge=0,
        le=10_000,
        description="permutations of the labels on each of which every fold is trained once more: the exact null",
    )
    fdr: float = Field(0.1, gt=0, lt=1, description="significant: intensity_q or pattern_q is at most this")


class ReportSettings(Section):
    """What the report shows."""

    pictures: int = Field(
        10, ge=0, le=200, description="channels that are shown with tiles and typical images, the first ones"
    )


class Study(Section):
    """A whole study; all paths absolute once it comes from :func:`load_study`."""

    name: str = Field(pattern=NAME_PATTERN, description="letters, digits and . _ - only; the title of the report")
    cohort: CohortSettings
    tile: TileSettings = TileSettings()
    intensity: IntensitySettings = IntensitySettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    attribute: AttributeSettings = AttributeSettings()
    rank: RankSettings = RankSettings()
    report: ReportSettings = ReportSettings()
    seed: int = Field(0, ge=0, lt=2**31, description="decides folds, training and resampling; same seed, same result")

    @model_validator(mode="before")
    @classmethod
    def _an_empty_section_has_the_defaults(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        return {key: {} if value is None and _is_section(key) else value for key, value in raw.items()}

    @field_validator("attribute")
    @classmethod
    def _methods_fit_the_architecture(cls, attribute: AttributeSettings, info: Any) -> AttributeSettings:
        model = info.data.get("model")
        if model is None:
            return attribute
        for name in attribute.methods:
            only_for = METHODS[name].only_for
            if only_for not in (None, model.architecture):
                raise ValueError(
                    f"{name} is the importance of model.architecture {only_for}, not of {model.architecture}; "
                    "choose gradient"
                )
        missing = [name for name in attribute.methods if METHODS[name].on_tiles is None]
        if missing and not model.has_embedding:
            choice = (
                name
                for name, method in METHODS.items()
                if method.on_tiles is not None and method.only_for in (None, model.architecture)
            )
            raise ValueError(
                f"{', '.join(missing)} rest on the channel embedding, which {model.architecture} lacks; "
                f"choose among {', '.join(choice)}"
            )
        return attribute

    @field_validator("rank")
    @classmethod
    def _only_classes_are_ordered(cls, rank: RankSettings, info: Any) -> RankSettings:
        cohort = info.data.get("cohort")
        if rank.ordered and cohort is not None and cohort.outcome != "nominal":
            raise ValueError(
                f"rank.ordered belongs to outcome: nominal, and the outcome is {cohort.outcome}; remove it"
            )
        return rank

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


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words_of(value: object) -> str:
    """What YAML reads as this value."""
    words = {True: "yes or true", False: "no or false"}
    return words[value] if isinstance(value, bool) else "null or ~" if value is None else "a date"


def _is_section(key: object) -> bool:
    field = Study.model_fields.get(str(key))
    return field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
