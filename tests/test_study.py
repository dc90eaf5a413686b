"""Studies: what is refused, and with which words."""

import os
from pathlib import Path

import pytest
import yaml

from plexrank.errors import MissingInputError, PlexrankError, Problems, StudyError
from plexrank.study import dump_study, load_study, survey_study

GOOD = {"name": "grade", "cohort": {"samplesheet": "sheet.csv", "label": "grade"}}


UNFOLDING = "a: &a0 [x, x]\n" + "".join(f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
"""Some 369 bytes that would become 10⁸ values."""


def write(folder: Path, content: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def survival(**keys: object) -> dict:
    return {"cohort": {"samplesheet": "s.csv", "outcome": "survival", "time": "months", "event": "died", **keys}}


def grades(outcome: str, *order: object) -> dict:
    return {"cohort": {"samplesheet": "s.csv", "label": "grade", "outcome": outcome, "order": [*order]}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tiel": {}}, "tiel: unknown key; did you mean tile?"),
        ({"tile": {"tilepx": 64}}, "tile.tilepx: unknown key; did you mean tile.tile_px?"),
        ({"train": {"batch_tiles": 0}}, "train.batch_tiles: input should be greater than or equal to 2, got 0"),
        ({"train": {"folds": "five"}}, "train.folds"),
        ({"name": "a\nb"}, "name: letters, digits"),
        ({"name": "; rm -rf"}, "name: letters, digits"),
        ({"cohort": {"samplesheet": "s.csv"}}, "cohort.label: required and missing"),
        ({"model": {"backbone": "shallow"}}, "set model.weights: none"),
        ({"attribute": {"methods": ["gradient"]}, "rank": {"by": "occlusion"}}, "rank.by is 'occlusion'"),
        ({"model": {"architecture": "unet"}}, "model.architecture"),
        ({"model": {"weights": 5}}, "model.weights: expected imagenet, none or the path of a file, got 5"),
        ({"cohort": {"samplesheet": 5, "label": "a"}}, "cohort.samplesheet: expected a path, got 5"),
        ({"cohort": {"samplesheet": "a\0b", "label": "a"}}, "cohort.samplesheet: not a usable path"),
        ({"intensity": {"cofactor": float("inf")}}, "intensity.cofactor: input should be a finite number"),
        ({"attribute": {"methods": ["gradient", "gradient"]}}, "attribute.methods: 'gradient' is listed 2 times"),
        (
            {"model": {"architecture": "bsn"}, "attribute": {"methods": ["gradient", "shapley"]}},
            "attribute: shapley rest on the channel embedding, which bsn lacks",
        ),
        (
            {"model": {"architecture": "resnet50"}, "attribute": {"methods": ["gradcam"]}, "rank": {"by": "gradcam"}},
            "attribute: gradcam is the importance of model.architecture bsn, not of resnet50; choose gradient",
        ),
        ({"attribute": {"methods": ["gradient", "gradcam"]}}, "of model.architecture bsn, not of channel_embedding"),
        ({"model": {"weights": "none", "first_conv": "rgb_sum"}}, "rgb_sum sums the colours of pretrained weights"),
        ({"train": {"batch_tiles": 4, "accumulate": 3}}, "4 tiles a step cannot be divided into 3 parts"),
        ({"tile": 5}, "tile: input should be a valid dictionary"),
        (survival(time=None, event=None), "cohort.time and cohort.event: required and missing for outcome: survival"),
        (survival(event="months"), "cohort.time and cohort.event are both 'months'; name a column for each"),
        (survival(label="grade"), "cohort.label belongs to other outcomes than survival"),
        (survival(outcome="nominal"), "cohort.time and cohort.event belong to outcome: survival; set cohort.outcome"),
        (survival(outcome="survivl"), "cohort.outcome: input should be 'nominal', 'ordinal', 'continuous' or"),
        (survival(tiem="months"), "cohort.tiem: unknown key; did you mean cohort.time?"),
        (survival(order=["a", "b"]), "cohort.order belongs to outcome: ordinal; set that or remove the order"),
        (survival(event_values={True: 1}), "cohort.event_values: YAML makes True of a word such as yes or true"),
        (survival(event_values={"Dead": 1, "dead": 0}), "cohort.event_values: 'dead' is given both values"),
        (survival(event_values={"relapse": 2}), "cohort.event_values.relapse: input should be 0 or 1, got 2"),
        (grades("continuous", "a", "b"), "cohort.order belongs to outcome: ordinal"),
        (grades("nominal", "a", "b"), "or use rank.ordered for a test of trend"),
        (grades("ordinal", "a", "b", "a"), "cohort.order names 'a' twice"),
        (grades("ordinal", False, "high"), "cohort.order.0: expected text, and YAML makes the truth value False of no"),
        ({**survival(), "rank": {"ordered": ["a"]}}, "rank.ordered belongs to outcome: nominal, and the outcome is"),
        ({"seed": "x" * 500}, "x…"),
    ],
)
def test_a_wrong_study_is_refused_naming_file_and_key(tmp_path: Path, change: dict, words: str) -> None:
    path = write(tmp_path, {**GOOD, **change})
    with pytest.raises(PlexrankError) as caught:
        load_study(path)
    assert caught.value.exit_code == 64
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_all_wrong_keys_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, {**GOOD, "tile": {"tilepx": 1}, "train": {"epochs": 0}, "seed": -1})
    with pytest.raises(Problems) as caught:
        load_study(path)
    assert len(caught.value.problems) == 3


def test_what_is_right_is_kept_beside_the_problems(tmp_path: Path) -> None:
    wrong = {"name": "a b", "tile": {"tilepx": 1, "tile_px": 64}, "train": {"epochs": 0, "folds": 3}}
    study, problems = survey_study(write(tmp_path, {**GOOD, **wrong}), ["nonsense"])
    assert len(problems) == 4
    assert study is not None
    assert (study.tile.tile_px, study.train.folds, study.train.epochs) == (64, 3, 100)


def test_an_empty_section_has_the_defaults(tmp_path: Path) -> None:
    text = "name: grade\ncohort: {samplesheet: s.csv, label: grade}\ntile:\ntrain:\n"
    study = load_study(write(tmp_path, text), ["train.epochs=7"])
    assert (study.tile.tile_px, study.train.epochs) == (256, 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nname: b\n", "key 'name' is there twice"),
        ("train: {folds: 2, folds: 3}\n", "key 'folds' is there twice"),
        ("[" * 3000, "nested too deeply"),
        ("1: 2\n", "key 1 is not text"),
        ("a: 2001-99-99\n", "month must be in 1..12"),
        ("a: !!timestamp x\n", "'x' is no timestamp in \"<unicode string>\", line 1"),
        ("a: !!bool maybe\n", "'maybe' is no bool"),
        ('a: !!int "-"\n', "'-' is no int"),
        (f"a: {'9' * 5000}\n", "Exceeds the limit"),
        (f"a: 0x{'f' * 10000}\n", "a whole number beyond all reason"),
        ("a: !!set {b, c}\n", "tag 'tag:yaml.org,2002:set' is unknown"),
        ("a: !!python/object/apply:os.system [ls]\n", "is unknown; remove it"),
        ("a: &b [*b]\n", "an alias stands within what it names"),
        (UNFOLDING, "more than 10,000 values, aliases written out"),
        ("a: b\n\0", "special characters are not allowed"),
        (f"a: '{'b' * 2**17}'\n", "more than the limit of 131,072; if that is right, set PLEXRANK_MAX_YAML_BYTES"),
    ],
)
def test_what_yaml_would_lose_or_choke_on_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(write(tmp_path, text))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        *("train.epochs", "train.folds", "train.seeds", "train.batch_tiles", "train.crop_px", "train.patience"),
        *("rank.bootstrap", "rank.permutations", "rank.null_trainings", "tile.tile_px", "tile.downsample"),
        *("tile.um_per_px", "intensity.cofactor", "train.learning_rate", "report.pictures"),
    ],
)
def test_no_setting_is_beyond_reason(tmp_path: Path, key: str) -> None:
    section, _, name = key.partition(".")
    _, in_file = survey_study(write(tmp_path, {**GOOD, section: {name: 10**30}}))
    _, by_option = survey_study(write(tmp_path, GOOD), [f"{key}={10**30}"])
    for problems in (in_file, by_option):
        assert len(problems) == 1
        assert f": {key}: input should be less than" in str(problems[0])


def test_a_folder_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"coh-\xff")
    folder.mkdir()
    with pytest.raises(StudyError, match=r"coh-\\udcff/study.yaml has a name that is not UTF-8; rename"):
        load_study(write(folder, GOOD))


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "", "\x00"])
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(StudyError):
        load_study(write(tmp_path, text))


def test_an_order_of_numbers_and_words_for_events_are_text_and_survive_being_written(tmp_path: Path) -> None:
    ordinal = load_study(write(tmp_path, {**GOOD, **grades("ordinal", 1, 2.5, "3")}))
    assert ordinal.cohort.order == ("1", "2.5", "3")
    text = "name: s\ncohort: {samplesheet: s.csv, outcome: survival, time: t, event: e, event_values: "
    study = load_study(write(tmp_path, text + "{0:LIVING: 0, 1:DECEASED: 1}}"))
    assert study.cohort.event_values == {"0:LIVING": 0, "1:DECEASED": 1}
    (tmp_path / "copy.yaml").write_text(dump_study(study))
    assert load_study(tmp_path / "copy.yaml") == study


def test_a_missing_study_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such study file"):
        load_study(tmp_path / "none.yaml")


def test_paths_start_at_the_study_and_survive_being_written_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    content = {**GOOD, "cohort": {"samplesheet": "../data/sheet.csv", "label": "grade", "panel": "../panel.csv"}}
    study = load_study(write(tmp_path / "configs", content))
    assert study.cohort.samplesheet == tmp_path / "data" / "sheet.csv"
    assert study.cohort.root == tmp_path / "data"
    assert study.cohort.panel == tmp_path / "panel.csv"
    copy = tmp_path / "elsewhere.yaml"
    copy.write_text(dump_study(study))
    assert load_study(copy) == study


def test_overrides_change_values_and_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    study = load_study(path, ["train.epochs=7", "attribute.methods=[gradient]", "seed=3"])
    assert (study.train.epochs, study.attribute.methods, study.seed) == (7, ("gradient",), 3)
    for bad in ["train.epochs", "=3", "a.b.c=1", "name.x=1"]:
        with pytest.raises(StudyError, match="--set"):
            load_study(path, [bad])
    with pytest.raises(StudyError, match=r"train\.epochs"):
        load_study(path, ["train.epochs=0"])
