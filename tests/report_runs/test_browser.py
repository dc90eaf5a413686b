"""The page in a real browser: what is clicked, printed, read aloud and seen on a phone, for every kind of run."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser

from browser_pages import opened, running_browser
from fitted_cohorts import fitted_cohort, without
from plexrank.ranking.cohort_ranking import CohortRanking, rank_cohort
from plexrank.ranking.columns import COLUMNS, RANKING_COLUMNS
from plexrank.ranking.summary import LeftOut
from plexrank.report import page as page_module
from plexrank.report.anchors import channel_anchor
from plexrank.report.figures import ranking_figure
from plexrank.report.methods_text import RunFacts, describe_methods
from plexrank.report.page import ReportContent, render_page
from plexrank.report.ranking_table import SHOWN
from plexrank.report.wording import wording_of
from plexrank.settings import RankSettings, Study
from ranked_outcomes import rank_outcome

HOSTILE = (
    "<script>alert(1)</script>",
    "\"quoted' &amp; <b>",
    "Ki67-β Ωμέγα",
    "بروتين ‮abc",
    "W" * 80,
    "=cmd|' /C calc'!A0",
    "-CD3",
    "@SUM(A1)",
    "+1, then a comma",
    "$x_1$",
    "C10",
    "C11",
)
WITH_ALL_COLOURS = ("hostile", "two-patients")
LEADS_NOWHERE = """[...document.querySelectorAll('a[href^="#"]')]
    .filter(link => !document.getElementById(link.hash.slice(1))).map(link => link.hash)"""
WARNINGS = tuple(f"image{k}: an <odd> pixel size of {k} µm" for k in range(5))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The page of a run by its name, each written once."""

    @functools.cache
    def write(name: str) -> Path:
        return write_page(name, RUNS[name](), tmp_path_factory.mktemp(name))

    return write


def write_page(name: str, result: CohortRanking, folder: Path) -> Path:
    """The page of a ranking, with all that the report stage gives it but other figures."""
    summary = result.summary.to_dict()
    kind = summary["outcome"]["kind"]
    columns = {"time": "months", "event": "died"} if kind == "survival" else {"label": "grade"}
    study = Study(name=name, cohort={"samplesheet": "s.csv", "outcome": kind, **columns})  # type: ignore[arg-type]
    ranking_figure(result.ranking, folder / "ranking.png", (), wording_of(summary), summary["fdr"])
    facts = RunFacts(len(result.ranking), 0, [(0.5, 0.5)], {"plexrank": "0.1.0", "torch": "2.11"})
    content = ReportContent(
        study_name=name, ranking=result.ranking, by_class=result.by_class, summary=summary,
        figure=folder / "ranking.png", faithfulness_figure=None, planted=[], study_text="name: study\n" * 60,
        provenance={"plexrank": "0.1.0", "command": "plexrank run " + "a" * 200}, time_name=columns.get("time", ""),
        described=COLUMNS, methods=describe_methods(study, summary, facts),
    )  # fmt: skip
    path = folder / "report.html"
    path.write_text(render_page(content), encoding="utf-8")
    return path


@functools.cache
def of_twelve() -> CohortRanking:
    units, samples = fitted_cohort(1, effects=(2.0, 2.0), strength=0.1)
    at_sites = dataclasses.replace(samples, site=np.arange(64) % 2, site_names=("Basel", "Bern"))
    settings = RankSettings(bootstrap=100, permutations=100, fdr=0.2)
    return rank_cohort(units, at_sites, [f"C{k:02d}" for k in range(12)], settings, excluded=["C11"])


def of_channels(number: int) -> CohortRanking:
    """Rows of twelve channels, repeated or cut off under names of their own."""
    ranking = of_twelve().ranking
    rows = ranking.iloc[np.arange(number) * 11 // number].reset_index(drop=True)
    rows = rows.assign(channel=[f"P{k:03d}" for k in range(number)], position=np.arange(number) + 1.0)
    return renamed(of_twelve(), rows)


def of_hostile_names() -> CohortRanking:
    ranking = of_twelve().ranking
    return renamed(of_twelve(), ranking.assign(channel=list(HOSTILE)))


def renamed(result: CohortRanking, ranking: pd.DataFrame) -> CohortRanking:
    """With other channels, found as their rows say."""
    found = {
        kind: ranking.loc[ranking["found_by"] == kind, "channel"].tolist() for kind in ("intensity", "pattern", "both")
    }
    return dataclasses.replace(result, ranking=ranking, summary=dataclasses.replace(result.summary, found=found))


def of_two_patients() -> CohortRanking:
    """A class of two patients, a channel that most images lack, images left out, and many warnings."""
    units, samples = fitted_cohort(2, patients=24, rare=2, folds=2, seeds=1, channels=6, strength=0.1)
    absent = np.zeros((24, 6), dtype=bool)
    absent[4:, 5] = True
    return rank_cohort(
        without(units, absent), samples, [f"C{k}" for k in range(6)], RankSettings(bootstrap=100, permutations=100),
        left_out=LeftOut(7, (("image <7>", "torn " * 60),)), warnings=WARNINGS,
    )  # fmt: skip


RUNS: dict[str, Callable[[], CohortRanking]] = {
    "hundred": lambda: of_channels(100),
    "three": lambda: of_channels(3),
    "hostile": of_hostile_names,
    "two-patients": of_two_patients,
    **{kind: functools.partial(rank_outcome, kind) for kind in ("ordinal", "continuous", "survival")},
}


@pytest.mark.parametrize("name", RUNS)
def test_every_page_is_quiet_accessible_and_fits(name: str, pages: Callable[[str], Path], browser: Browser) -> None:
    path = pages(name)
    assert path.stat().st_size < 15e6
    with opened(browser, path) as one:
        one.check_access(contrast=name in WITH_ALL_COLOURS)
        one.check_widths()
        one.check_first_sheet()
        assert one.page.evaluate(LEADS_NOWHERE) == []
        levels = one.page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => Number(h.tagName[1]))")
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert max(np.diff(levels)) <= 1
        assert one.asked == [path.as_uri()]
        assert one.said == []


def column(page: Any, name: str) -> list[str]:
    """Values of a column as ranking.csv has them, of the rows that are shown, in their order."""
    place = RANKING_COLUMNS.index(name)
    shown = "[...document.querySelectorAll('#ranking-table tbody tr:not([hidden])')]"
    values: list[str] = page.evaluate(f"{shown}.map(row => row.cells[{place}].dataset.value)")
    return values


def head(page: Any, name: str) -> Any:
    return page.locator(f"#ranking-table th[data-name={name}]")


def test_rows_sort_by_click_and_by_keyboard(pages: Callable[[str], Path], browser: Browser) -> None:
    with opened(browser, pages("hundred")) as one:
        page = one.page
        assert head(page, "position").get_attribute("aria-sort") == "ascending"
        head(page, "intensity_q").get_by_role("button").click()
        q = [float(value) for value in column(page, "intensity_q")]
        assert q == sorted(q)
        assert head(page, "intensity_q").get_attribute("aria-sort") == "ascending"
        assert head(page, "position").get_attribute("aria-sort") is None
        head(page, "score").get_by_role("button").focus()
        page.keyboard.press("Enter")
        score = [float(value) for value in column(page, "score")]
        assert score == sorted(score, reverse=True)
        page.keyboard.press("Space")
        assert column(page, "score") == [f"{value:.6g}" for value in sorted(score)]
        assert head(page, "score").get_attribute("aria-sort") == "ascending"
        head(page, "channel").get_by_role("button").click()
        assert column(page, "channel") == [f"P{k:03d}" for k in range(100)]


def test_rows_without_a_value_come_last_either_way(pages: Callable[[str], Path], browser: Browser) -> None:
    with opened(browser, pages("ordinal")) as one:
        for _ in range(2):
            head(one.page, "position").get_by_role("button").click()
            assert column(one.page, "position")[-1] == ""


def test_rows_are_filtered_by_text_and_by_what_is_found(pages: Callable[[str], Path], browser: Browser) -> None:
    found = of_channels(100).ranking["significant"].sum()
    with opened(browser, pages("hundred")) as one:
        page = one.page
        page.get_by_label("Filter").fill("p01")
        assert column(page, "channel") == [f"P{k:03d}" for k in range(10, 20)]
        assert page.get_by_role("status").inner_text() == "10 of 100 channels shown"
        page.get_by_label("Filter").fill("")
        page.get_by_label("found only").check()
        assert page.get_by_role("status").inner_text() == f"{found} of 100 channels shown"
        assert set(column(page, "significant")) == {"True"}


def test_columns_are_chosen(pages: Callable[[str], Path], browser: Browser) -> None:
    def shown(page: Any) -> set[str]:
        return set(page.evaluate("[...document.querySelectorAll('#ranking-table th[data-name]')]"
                                 ".filter(th => th.offsetWidth > 0).map(th => th.dataset.name)"))  # fmt: skip

    with opened(browser, pages("three")) as one:
        page = one.page
        assert shown(page) == SHOWN
        page.get_by_text("Columns", exact=True).last.click()
        page.get_by_label("stability").check()
        page.get_by_label("adds", exact=True).uncheck()
        assert shown(page) == SHOWN - {"adds"} | {"stability"}
        page.get_by_role("button", name="All").click()
        assert shown(page) == set(RANKING_COLUMNS)
        assert all(head(page, name).get_attribute("title") for name in RANKING_COLUMNS)
        one.check_widths()
        page.get_by_role("button", name="As at first").click()
        assert shown(page) == SHOWN


def downloaded(page: Any) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename.endswith("-ranking.csv")
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_what_is_shown_is_downloaded_with_the_values_of_the_table(
    pages: Callable[[str], Path], browser: Browser
) -> None:
    with opened(browser, pages("hundred")) as one:
        one.page.get_by_label("Filter").fill("P00")
        head(one.page, "channel").get_by_role("button").click()
        head(one.page, "channel").get_by_role("button").click()
        rows = downloaded(one.page)
    assert [row["channel"] for row in rows] == [f"P{k:03d}" for k in reversed(range(10))]
    assert set(rows[0]) == SHOWN | {"position_low", "position_high", "score_low", "score_high"}
    wanted = of_channels(100).ranking.set_index("channel")
    for row in rows:
        for name in ("score", "score_low", "mean_intensity_association", "pattern_q"):
            assert float(row[name]) == pytest.approx(wanted.loc[row["channel"], name], rel=1e-5)


def test_hostile_names_are_shown_as_they_are_and_harm_no_spreadsheet(
    pages: Callable[[str], Path], browser: Browser
) -> None:
    with opened(browser, pages("hostile")) as one:
        shown = one.page.locator("#ranking-table tbody th bdi").all_text_contents()
        assert shown == list(HOSTILE)
        rows = downloaded(one.page)
        assert one.said == []
    for row, name in zip(rows, HOSTILE, strict=True):
        assert row["channel"] == (f"'{name}" if name[0] in "=-@+" else name)
        assert not row["pattern_association"].startswith("'")


def test_a_channel_leads_to_its_pictures_where_there_are_some(
    tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    templates = tmp_path / "templates"
    shutil.copytree(page_module.TEMPLATES, templates)
    pictured = (HOSTILE[0], HOSTILE[4])
    places = "".join(f'<h3 id="{channel_anchor(name)}">pictures</h3>' for name in pictured)
    (templates / "gallery.html").write_text(f'<h2 id="pictures">Pictures</h2>{places}')
    monkeypatch.setattr(page_module, "TEMPLATES", templates)
    with opened(browser, write_page("linked", of_hostile_names(), tmp_path)) as one:
        links = one.page.locator("#ranking-table tbody th a")
        assert links.all_text_contents() == list(pictured)
        links.first.click()
        assert one.page.evaluate("location.hash") == f"#{channel_anchor(HOSTILE[0])}"


def test_few_patients_absent_channels_and_many_warnings_are_readable(
    pages: Callable[[str], Path], browser: Browser
) -> None:
    with opened(browser, pages("two-patients")) as one:
        page = one.page
        text = page.inner_text("main")
        assert "To keep in mind: 6 warnings" in text
        assert "Class high has 2 patients" in text
        assert "NaN" not in text
        assert "None" not in text.replace("None of", "")
        assert one.page.locator(".obstacles details").get_attribute("open") is None
        assert not page.get_by_text(WARNINGS[-1]).is_visible()
        page.locator(".obstacles summary").click()
        assert page.get_by_text(WARNINGS[-1]).is_visible()
        place = column(page, "channel").index("C5")
        assert column(page, "n_patients")[place] == "4"
        assert column(page, "reliance_q")[place] == ""


def test_without_scripts_it_is_a_plain_table(pages: Callable[[str], Path], browser: Browser) -> None:
    with opened(browser, pages("three"), java_script_enabled=False) as one:
        page = one.page
        assert not page.get_by_label("Filter").is_visible()
        assert page.locator("#ranking-table tbody tr").count() == 3
        assert page.locator("#ranking-table thead th:visible").count() == len(SHOWN)
        assert page.get_by_role("button").count() == 0


def test_the_methods_are_copied_or_selected(pages: Callable[[str], Path], browser: Browser) -> None:
    with opened(browser, pages("survival")) as one:
        one.page.get_by_role("button", name="Copy the BibTeX").click()
        assert one.page.evaluate("String(getSelection())").startswith("@")
        assert one.said == []


def test_the_keyboard_reaches_the_result_first(pages: Callable[[str], Path], browser: Browser) -> None:
    with opened(browser, pages("three")) as one:
        one.page.keyboard.press("Tab")
        assert one.page.evaluate("document.activeElement.textContent") == "Skip to the result"
        one.page.keyboard.press("Enter")
        assert one.page.evaluate("location.hash") == "#main"
