"""MultiQC shows the rankings of several runs, each as a section of its own."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd

from plexrank.ranking.columns import COLUMNS
from plexrank.report.multiqc import multiqc_table


def multiqc(bin_folder: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    words = [bin_folder / "multiqc", "--force", "--no-ai", "--outdir", folder / "out", folder]
    return subprocess.run(words, capture_output=True, text=True, check=True)


def test_two_runs_are_two_sections_with_all_their_channels(
    tiny_run: Path, survival_run: Path, bin_folder: Path, tmp_path: Path
) -> None:
    for name, run in (("classes", tiny_run), ("survival", survival_run)):
        (tmp_path / name).mkdir()
        shutil.copy(run / "report" / "ranking_mqc.json", tmp_path / name)
    said = multiqc(bin_folder, tmp_path)
    assert "warning" not in said.stderr.lower(), said.stderr
    page = (tmp_path / "out" / "multiqc_report.html").read_text()
    for run in (tiny_run, survival_run):
        table = json.loads((run / "report" / "ranking_mqc.json").read_text())
        assert f">{table['section_name']}<" in re.sub(r">\s+|\s+<", lambda match: match[0].strip(), page)
        (shown,) = (tmp_path / "out" / "multiqc_data").glob(f"multiqc_{table['id']}*.txt")
        rows = pd.read_csv(shown, sep="\t", index_col=0)
        ranking = pd.read_parquet(run / "ranking" / "ranking.parquet").dropna(subset="position")
        assert set(rows.index) == set(ranking["channel"])
        expected = ranking.set_index("channel")["score"]
        pd.testing.assert_series_equal(rows["score"], expected.loc[rows.index], check_names=False)


def test_names_that_are_html_stay_text(bin_folder: Path, tmp_path: Path, tiny_run: Path) -> None:
    ranking = pd.read_parquet(tiny_run / "ranking" / "ranking.parquet")
    summary = json.loads((tiny_run / "ranking" / "summary.json").read_text())
    names = ["<script>alert(1)</script>", "HLA-DR/DP", "=cmd()", "C" * 80, "α-SMA 'x' & \"y\"", "<b>bold"]
    ranking["channel"] = names
    meanings = {column.name: column.meaning for column in COLUMNS}
    table = multiqc_table("<script>alert(2)</script>", ranking, summary, meanings)
    (tmp_path / "ranking_mqc.json").write_text(json.dumps(table))
    multiqc(bin_folder, tmp_path)
    page = (tmp_path / "out" / "multiqc_report.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert(" not in page
    assert "<b>bold" not in page
    (shown,) = (tmp_path / "out" / "multiqc_data").glob(f"multiqc_{table['id']}*.txt")
    assert {html.unescape(name) for name in pd.read_csv(shown, sep="\t")["Sample"]} == set(names)
