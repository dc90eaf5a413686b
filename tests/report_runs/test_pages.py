"""Whole runs of real and simulated images, tiny ones, and their pages in a real browser (make report-test)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from browser_pages import opened, running_browser
from conftest import Plexrank
from image_files import DATA
from plexrank.simulate import simulate

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TINY = (
    *("train.epochs=1", "train.folds=2", "train.seeds=1", "rank.bootstrap=100", "rank.permutations=100"),
    "attribute.methods=[gradient]",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


def study_of(name: str, folder: Path) -> Path:
    if name == "demo":
        return simulate("demo", folder / "cohort", images=32, channels=6, size_px=32, seed=1)
    if not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} is not there")
    return CONFIGS / f"{name}.yaml"


@pytest.mark.parametrize("name", ["demo", "dcis_mibi", "tnbc_mibi"])
def test_the_page_of_a_run_is_quiet_accessible_and_fits(
    name: str, plexrank: Plexrank, browser: Browser, tmp_path: Path
) -> None:
    settings = [part for setting in TINY for part in ("--set", setting)]
    done = plexrank("run", study_of(name, tmp_path), "--out", tmp_path / "run", *settings)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "run" / "report" / "report.html"
    assert path.stat().st_size < 15e6
    with opened(browser, path) as one:
        one.check_access()
        one.check_widths()
        one.check_first_sheet()
        assert one.asked == [path.as_uri()]
        assert one.said == []
