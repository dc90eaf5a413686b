"""The methods paragraph has the numbers of the run and cites what it used."""

from __future__ import annotations

import re
from typing import Any

import pytest

from plexrank.outcome import Kind
from plexrank.report.methods_text import Methods, RunFacts, describe_methods, left_out
from plexrank.settings import Study

HEADLINES = {"nominal": "auc", "ordinal": "spearman", "continuous": "spearman", "survival": "c_index"}
MODELS = {"nominal": "logistic", "ordinal": "proportional_odds", "continuous": "ridge", "survival": "cox"}


def summary_of(kind: Kind, **changes: Any) -> dict[str, Any]:
    return {
        "outcome": {"kind": kind, "described": "", "linear_model": MODELS[kind], "headline": HEADLINES[kind]},
        "counts": {"patients": 52, "images": 53, "tiles": 104, "classes": {"a": 20, "b": 32}, "background_tiles": 3},
        "sites": None, "confounded": False, "pattern_variance": 1.5, "fdr": 0.1, "skipped": [], "warnings": [],
        "not_tested": {},
    } | changes  # fmt: skip


def methods_of(kind: Kind = "nominal", sizes: Any = ((0.5, 0.5),), changes: Any = (), **sections: Any) -> Methods:
    columns = {"time": "months", "event": "died"} if kind == "survival" else {"label": "grade"}
    study = Study(name="s", cohort={"samplesheet": "s.csv", "outcome": kind, **columns}, **sections)  # type: ignore[arg-type]
    facts = RunFacts(41, 1, sizes, {"plexrank": "0.1.0", "torch": "2.11.0", "python": "3.12.1"})
    return describe_methods(study, summary_of(kind, **dict(changes)), facts)


def test_the_numbers_of_the_run_stand_in_it() -> None:
    text = " ".join(methods_of(tile={"downsample": 4}, train={"folds": 4, "seeds": 2, "epochs": 30}).paragraphs)
    for said in (
        "53 images of 52 patients (grade; a: 20, b: 32) with 41 channels and 1 negative-control channel",
        "reduced 4-fold in y and x by area means (pixels of 0.5 µm to 2 µm)",
        "104 tiles of up to 256 × 256 pixels with at least 5 % tissue",
        "arcsinh(x / 5), divided by the 99.5th percentile",
        "a ResNet18 (He et al. 2016), trained with published weights",
        "the log mean intensity makes up 25 % of it",
        "Networks were trained in 4 folds, balanced by outcome, so",
        "2 random seeds each, for up to 30 epochs",
        "2,000 bootstrap samples",
        "Kruskal–Wallis statistic (Kruskal & Wallis 1952)",
        "41 ranked channels (Benjamini & Hochberg 1995), and channels with q ≤ 0.1",
        "1,000 permutations of the outcome",
        "plexrank 0.1.0 with PyTorch 2.11.0 on Python 3.12.1",
    ):
        assert said in text
    assert "within sites" not in text


@pytest.mark.parametrize(
    ("sizes", "tile", "said"),
    [
        ((None,), {}, "taken at full resolution (pixels of unknown size)"),
        ((None,), {"image_um_per_px": 0.5, "downsample": 2}, "pixels of 0.5 µm to 1 µm"),
        (((0.5, 0.5), (1.0, 1.0)), {"downsample": 2}, "pixels of 0.5 to 1 µm to 1 to 2 µm"),
        (((0.5, 0.5),), {"um_per_px": 2.0}, "Images were reduced to pixels of 2 µm and divided"),
    ],
)
def test_how_images_were_reduced(sizes: Any, tile: dict[str, Any], said: str) -> None:
    assert said in methods_of(sizes=sizes, tile=tile).paragraphs[0]


@pytest.mark.parametrize(
    ("kind", "cited"),
    [
        ("nominal", {"kruskal1952use"}),
        ("ordinal", {"spearman1904proof", "mccullagh1980regression"}),
        ("continuous", {"spearman1904proof", "huber1964robust", "hoerl1970ridge"}),
        ("survival", {"cox1972regression", "efron1977efficiency", "therneau1990martingale", "harrell1982evaluating",
                      "uno2011cstatistics", "graf1999assessment", "schemper1996note"}),
    ],
)  # fmt: skip
def test_each_kind_cites_what_it_uses_and_nothing_else(kind: Kind, cited: set[str]) -> None:
    always = {"abdelmagid2020channel", "plexrank", "benjamini1995controlling", "beran1988balanced", "breiman2001random"}
    always |= {"kingma2015adam"}
    methods = methods_of(kind)
    keys = {citation.key for citation in methods.citations}
    assert keys == cited | always | {"he2016deep"}
    text = " ".join(methods.paragraphs)
    assert all(citation.short in text for citation in methods.citations)
    assert "hodges1962rank" in {one.key for one in methods_of(kind, changes={"sites": {"x": {}}}).citations}


def test_a_patience_beyond_the_last_epoch_stopped_nothing() -> None:
    text = " ".join(methods_of(train={"epochs": 3, "patience": 15}).paragraphs)
    assert "each, for 3 epochs, the best of which on an inner validation split was kept, by Adam" in text


def test_bibtex_is_well_formed() -> None:
    text = methods_of("survival").bibtex
    assert text.count("{") == text.count("}")
    assert len(re.findall(r"^@\w+\{\w+,$", text, flags=re.MULTILINE)) == len(methods_of("survival").citations)
    assert "http" not in text


def test_networks_without_embedding_and_confounded_cohorts_have_no_pattern_test() -> None:
    text = " ".join(
        methods_of(changes={"not_tested": {"pattern": "no r"}}, model={"architecture": "resnet50"}).paragraphs
    )
    assert "pattern" not in text
    assert "A ResNet50 with one input channel for each protein (He et al. 2016)" in text
    assert "q ≤ 0.1 are called significant" in text
    volume = methods_of(model={"architecture": "resnet3d18"})
    assert "channels as depth (Tran et al. 2018)" in " ".join(volume.paragraphs)
    confounded = methods_of(changes={"confounded": True})
    assert "Since outcome and site cannot be distinguished, no channel was tested." in " ".join(confounded.paragraphs)


def test_what_was_left_out_is_listed() -> None:
    summary = summary_of(
        "nominal",
        skipped=[{"image_id": "a", "reason": "torn"}],
        warnings=["2 images are left out: grade is empty (1 patient has no other image)", "other"],
        not_tested={"adds": "too few"},
    )
    assert left_out(summary) == (
        "3 tiles are left out as background.",
        "1 image is left out as not usable, with the reasons below.",
        "2 images are left out: grade is empty (1 patient has no other image).",
        "Not tested: adds (too few).",
    )
