"""Studies, profiles, samplesheets, panels, splits, truths, outlines and tables of cells: what people write by hand."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
from fuzzing import Seed, Target

from plexrank.cohorts.cohort import Cohort, read_cohort
from plexrank.cohorts.folds import make_folds
from plexrank.cohorts.panel import notes_on_names, read_panel
from plexrank.cohorts.panel_match import locate_channels
from plexrank.cohorts.tables import read_table
from plexrank.errors import PlexrankError, raise_problems
from plexrank.evaluation.single_cell import single_cell_truth
from plexrank.evaluation.truth import evaluate
from plexrank.images.mask import open_mask
from plexrank.launch.profile import load_profile
from plexrank.launch.submitted import read_graph
from plexrank.settings import CohortSettings, Study, TrainSettings
from plexrank.study import dump_study, load_study

PLAIN_STUDY = b"""\
name: x
cohort:
  samplesheet: samplesheet.csv
  root: .
  label: grade
  panel: panel.csv
  exclude_channels: [DNA1, 'DNA2']
tile: {tile_px: 64, um_per_px: 1.0}
model: {backbone: shallow, weights: none}
train: &t
  epochs: 3
  learning_rate: 3.0e-3
  precision: auto
  recompute: false
attribute: {methods: [gradient, occlusion]}
rank: {by: gradient, bootstrap: 200}
seed: 7
"""
SURVIVAL_STUDY = b"""\
# survival
name: "y-1"
cohort: {samplesheet: s.csv, outcome: survival, time: months, event: died, event_values: {DECEASED: 1, LIVING: 0}}
intensity: {cofactor: 1, clip_percentile: 99}
train: {folds: 3, split: site}
report:
"""
PROFILE = b"""\
partition: gpu,long
account: a1
sbatch: {reservation: x, mem: null, exclusive: true}
container: {image: plexrank.sif, options: [--bind, /dev/shm], bind: [/data]}
setup:
  - module load apptainer
train: {gpus_per_node: 4, gpu_type: a100, time_min: 60, at_once: 3}
tile: {cpus_per_task: 8, mem_gb: 32.5}
"""
PBS = b"scheduler: pbs\nrun: {cpus: 4, gpus: 1, mem_gb: 8, time_min: 60}\npython: /opt/bin/python\n"
SHEET = b"""\
image_id,path,patient_id,grade,site,split,months,died
i1,a.tiff,p1,low,S1,0,3.5,1
i2,b.tiff,p1,low,S1,0,3.5,1
i3,c.tiff,p2,high,S1,1,12,0
i4,d.tiff,p3,low,S2,1,1e1,yes
i5,"e, f.tiff",p4,high,S2,0,7,no
i6,g.tiff,p5,,S2,,,
"""
EXCEL_SHEET = b"\xef\xbb\xbfsep=;\r\nslide_id;path;case_id;grade\r\n" + b"".join(
    f"{n};a.mcd#{n};{n};{1 + n % 2}\r\n".encode() for n in range(6)
)
STEINBOCK = b"channel,name,keep\nIr191,DNA1,0\nEr170,CD3,1\nPr141,Ki-67,\n"
MARKERS = b"cycle,channel_number,marker_name,remove\n1,1,DAPI,TRUE\n1,2,CD8a,\n2,3,Pan CK,FALSE\n"
SPLITS = tuple(f",train,val,test\n0,i{a},i{b},i{c}\n1,,,i{d}\n".encode() for a, b, c, d in ((1, 3, 4, 5), (4, 5, 1, 3)))
TRUTH = b"channel,informative,grade\nCD3,1,3\nKi-67,0,1.5\nCD8a,0,0\n"
CELLS = b"cell,grade,CD3,Ki-67\n1,1,0.5,2\n2,1,1.25,0\n3,2,2,3e1\n4,3,7,1\n5,,1,1\n"
RANKING = pd.DataFrame({"channel": ["CD3", "Ki-67", "CD8a"], "position": [1, 2, 3], "score": [0.5, 0.25, -0.125]})
SQUARE = [[0, 0], [0, 9.5], [9, 9], [9, 0], [0, 0]]
POLYGON = {"type": "Polygon", "coordinates": [SQUARE, [[2, 2], [2, 4], [4, 3]]]}
FEATURES = {
    "type": "FeatureCollection",
    "features": [
        {"type": "Feature", "properties": {"name": "tissue"}, "geometry": POLYGON},
        {"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]}},
        {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": [POLYGON]}},
    ],
}
GRAPH = {
    "token": "0a1b2c",
    "profile": "/p.yaml",
    "container_sha256": None,
    "submitted": "2026-01-01",
    "released": True,
    "jobs": [
        {"name": "tile", "stage": "tile", "job_id": "12", "is_array": True, "shares": [["a"], ["b"]], "after": []}
    ],
}


def read_study(folder: Path) -> None:
    dump_study(load_study(folder / "study.yaml"))


def read_samplesheet(folder: Path) -> None:
    """By classes, grades, numbers and times, and with every kind of folds; refused where all of them are."""
    sheet, panel = folder / "samplesheet.csv", folder / "panel.csv"
    kinds = [
        {"label": "grade", "panel": panel},
        {"label": "grade", "outcome": "continuous"},
        {"label": "grade", "outcome": "ordinal", "order": ("1", "2", "low", "high")},
        {"outcome": "survival", "time": "months", "event": "died"},
    ]
    refusals = []
    for kind in kinds:
        settings = CohortSettings(samplesheet=sheet, root=folder, **kind)
        try:
            cohort = read_cohort(settings, 2, need_images=False)
        except PlexrankError as error:
            refusals.append(error)
            continue
        for split in ("folds", "site", "given"):
            with contextlib.suppress(PlexrankError):
                deal(settings, cohort, split)
    raise_problems(refusals[:1] if len(refusals) == len(kinds) else [])


def deal(settings: CohortSettings, cohort: Cohort, split: str | Path) -> None:
    study = Study(name="x", cohort=settings, train=TrainSettings(folds=2, split=split))
    folds = make_folds(study, cohort.images, cohort.outcome)
    for fold in range(2):
        for role in ("held_out", "validation", "training"):
            folds.with_role(fold, role)


def read_splits(folder: Path) -> None:
    """As CLAM writes them."""
    settings = CohortSettings(samplesheet=folder / "samplesheet.csv", root=folder, label="grade")
    deal(settings, read_cohort(settings, 2, need_images=False), folder)


def read_panel_file(folder: Path) -> None:
    """By itself, and for images with names and without."""
    panel = read_panel(folder / "panel.csv")
    notes_on_names(panel)
    refusals = []
    for found, ids in ((None, None), (("DNA1", "CD3", "Ki-67"), ("Ir191", "Er170", "Pr141")), (("1", "2", "3"), None)):
        try:
            locate_channels(panel, found, 3, "an image", ids)
        except PlexrankError as error:
            refusals.append(error)
    raise_problems(refusals[:1] if len(refusals) == 3 else [])


def read_truth(folder: Path) -> None:
    evaluate(RANKING, pd.DataFrame(read_table(folder / "truth.csv").rows), "truth").to_text()


def read_cells(folder: Path) -> None:
    truth = single_cell_truth(folder / "cells.csv", "grade", ["CD3", "Ki-67"])
    evaluate(RANKING.iloc[:2], truth).to_text()


def read_outline(folder: Path) -> None:
    np.asarray(open_mask(folder / "a.geojson", 16, 16).data.compute(scheduler="synchronous")).sum()


def of_file(name: str, *contents: bytes) -> list[Seed]:
    return [{name: content} for content in contents]


def splits_seeds() -> list[Seed]:
    return [{"samplesheet.csv": SHEET, "splits_0.csv": SPLITS[0], "splits_1.csv": SPLITS[1]}]


def outline_seeds() -> list[Seed]:
    return of_file("a.geojson", *(json.dumps(one, indent=1).encode() for one in (POLYGON, FEATURES, [FEATURES])))


STUDY_WORDS = (
    *(
        b"!!timestamp x",
        b"!!bool maybe",
        b'!!int "-"',
        b"*t",
        b"&t",
        b"<<: *t",
        b"? [a]",
        b"1:1:1",
        b"0x",
        b"- ",
        b": ",
    ),
    *(b"|\n", b"'", b"\\ud800", b"2001-99-99", b"1" * 5000, b"cohort", b"site", b"given", b".nan"),
)
CELL_WORDS = (
    *(b"sep=;\n", b'sep="', b"\r", b'"', b"=cmd()", b"\x1b[2J", b"image_id", b"path", b"grade", b"\xe2\x80\x8b"),
    *(b"NA", b"-0", b"1e-400", b"keep", b"marker_name", b"channel", b"cycle", b"\xef\xbb\xbf", b"#REF!"),
)
JSON_WORDS = (
    *(b'"type"', b"Feature", b"FeatureCollection", b"Polygon", b"coordinates", b"NaN", b"Infinity", b"1e308", b"["),
    *(b'"\\ud800"', b"[[0, 0]]", b"1" * 5000),
)

TARGETS = [
    Target("study", lambda: of_file("study.yaml", PLAIN_STUDY, SURVIVAL_STUDY), read_study, STUDY_WORDS),
    Target("profile", lambda: of_file("p.yaml", PROFILE, PBS), lambda at: load_profile(at / "p.yaml"), STUDY_WORDS),
    Target(
        "samplesheet",
        lambda: [{"samplesheet.csv": sheet, "panel.csv": STEINBOCK} for sheet in (SHEET, EXCEL_SHEET)],
        read_samplesheet,
        CELL_WORDS,
    ),
    Target("CLAM splits", splits_seeds, read_splits, CELL_WORDS),
    Target("panel", lambda: of_file("panel.csv", STEINBOCK, MARKERS), read_panel_file, CELL_WORDS),
    Target("truth", lambda: of_file("truth.csv", TRUTH), read_truth, CELL_WORDS),
    Target("single cells", lambda: of_file("cells.csv", CELLS), read_cells, CELL_WORDS),
    Target("GeoJSON", outline_seeds, read_outline, JSON_WORDS),
    Target(
        "submitted jobs",
        lambda: of_file("graph.json", json.dumps(GRAPH).encode()),
        lambda at: read_graph(at / "graph.json"),
        JSON_WORDS,
    ),
]
