"""What cohorts of thousands of images cost where nothing but files is looked at: prints one line of JSON.

A tiny image, linked as often as there are to be images, so that the time goes into what is done for each image beside
its pixels. All ratios compare within this run. CPU seconds are those of the command and its threads. See README.md in
this folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
import zarr

from plexrank.attribution.store import AttributionBlock, ExplainedUnit, writing_attribution

FEW, SIZES, FINISHED, STATUS = 16, (500, 2000, 4000), 2000, 1000
ROUNDS = 5
STUDY = """name: scale
cohort: {{samplesheet: samplesheet.csv, label: label}}
tile: {{tile_px: 16}}
model: {{backbone: shallow, weights: none}}
train: {{epochs: 1, batch_tiles: 64, crop_px: 16, folds: {folds}, seeds: {seeds}}}
rank: {{bootstrap: 100}}
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": ""}  # compiled once, as when installed


def write_cohort(folder: Path, images: int, *, is_zarr: bool = False, folds: int = 2, seeds: int = 1) -> Path:
    (folder / "images").mkdir(parents=True)
    pixels = np.random.default_rng(0).poisson(3, (3, 16, 16)).astype(np.uint8)
    one = folder / ("one.ome.zarr" if is_zarr else "one.ome.tiff")
    if is_zarr:
        write_zarr(one, pixels)
    else:
        tifffile.imwrite(one, pixels, metadata={"axes": "CYX", "Channel": {"Name": ["A", "B", "C"]}})
    rows = ["image_id,path,patient_id,label"]
    for number in range(images):
        path = folder / "images" / f"{number:05}{''.join(one.suffixes)}"
        if is_zarr:
            shutil.copytree(one, path, copy_function=os.link)
        else:
            os.link(one, path)
        rows.append(f"i{number:05},{path.relative_to(folder)},p{number:05},{'ab'[number % 2]}")
    (folder / "samplesheet.csv").write_text("\n".join(rows) + "\n")
    (folder / "study.yaml").write_text(STUDY.format(folds=folds, seeds=seeds))
    return folder / "study.yaml"


def write_zarr(path: Path, pixels: np.ndarray) -> None:
    group = zarr.create_group(path, zarr_format=3)
    group.create_array("0", data=pixels, chunks=(1, 16, 16), dimension_names=("c", "y", "x"))
    axes = [{"name": "c", "type": "channel"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    multiscales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    channels = [
        {"label": name, "color": "FFFFFF", "window": {"min": 0, "max": 9, "start": 0, "end": 9}} for name in "ABC"
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales, "omero": {"channels": channels}}


def cpu_seconds(*arguments: object) -> tuple[float, float]:
    """CPU seconds of a command, and the most memory that it held, MiB."""
    command = [sys.executable, "-m", "plexrank", *map(str, arguments)]
    code = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, "
        "stderr=subprocess.PIPE, text=True); used = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, done.stderr[-500:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    status, seconds, peak_mib, said = done.stdout.split(" ", 3)
    if status != "0":
        raise SystemExit(f"{' '.join(command)}: {said}")
    return float(seconds), float(peak_mib)


def stat_calls(*arguments: object) -> int:
    """How often a command asks for the state of a file, by strace."""
    calls = "stat,lstat,fstat,newfstatat,statx"
    command = ["strace", "-f", "-c", "-e", f"trace={calls}", sys.executable, "-m", "plexrank", *map(str, arguments)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT).stderr
    return sum(int(calls) for calls in re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+).* (?:\w*stat\w*)$", said, flags=re.M))


def growth(work: Path) -> dict[str, float]:
    """CPU of each command for the sizes of SIZES, the best of all rounds, and how it grows with the images."""
    studies = {images: write_cohort(work / f"c{images}", images) for images in (FEW, *SIZES)}
    best: dict[tuple[str, int], float] = {}
    for round_ in range(ROUNDS):
        for images, study in studies.items():
            run = work / f"r{images}"
            commands = {
                "check": ("check", study, "--quick"),
                "tile": ("run", study, "--out", run, "--until", "tile"),
                "dry_run": ("run", study, "--out", run, "--dry-run"),
                "status": ("status", run),
            }
            for name, command in commands.items():
                if name != "tile" or round_ == 0:
                    best[name, images] = min(best.get((name, images), float("inf")), cpu_seconds(*command)[0])
    result = {}
    for name in commands:
        some, half, many = (best[name, images] for images in SIZES)
        early, late = (half - some) / (SIZES[1] - SIZES[0]), (many - half) / (SIZES[2] - SIZES[1])
        result |= {
            f"{name}_growth": round(many / SIZES[2] / (some / SIZES[0]), 2),
            f"{name}_ms_more": round(1000 * late, 2),
            f"{name}_steeper": round(late / early, 2),
        }
    return result


def statuses(work: Path) -> dict[str, float]:
    """What ``status`` takes of a thousand tiled images with 2 and with 15 trainings to do."""
    result: dict[str, float] = {}
    for kind, is_zarr in (("tiff", False), ("zarr", True)):
        study = write_cohort(work / kind, STATUS, is_zarr=is_zarr, folds=5, seeds=3)
        cpu_seconds("run", study, "--out", work / f"run-{kind}", "--until", "tile")
        result[f"status_{kind}_s"] = round(cpu_seconds("status", work / f"run-{kind}")[0], 2)
    if shutil.which("strace"):
        few = stat_calls("status", work / f"r{FEW}")
        calls = {}
        for units, seeds in ((2, 1), (30, 15)):
            run = work / "run-units"
            study = work / f"c{SIZES[0]}" / "study.yaml"
            cpu_seconds("run", study, "--out", run, "--until", "tile", "--set", f"train.seeds={seeds}")
            calls[units] = (stat_calls("status", run) - few) / SIZES[0]
        result |= {"stat_calls_an_image": round(calls[2], 1), "more_for_30_units": round(calls[30] - calls[2], 1)}
    tiles = work / f"r{SIZES[0]}" / "tiles"
    return result | {"files_an_image": len([*tiles.glob("i00000*"), *tiles.glob("i00000*/**/*")])}


def finished(work: Path) -> dict[str, float]:
    """What a finished run takes to say so."""
    study, run = write_cohort(work / "finished", FINISHED), work / "run-finished"
    cpu_seconds("run", study, "--out", run)
    status = min(cpu_seconds("status", run)[0] for _ in range(3))
    answers = [cpu_seconds("run", study, "--out", run) for _ in range(3)]
    seconds, peak_mib = min(answer[0] for answer in answers), max(answer[1] for answer in answers)
    return {
        "status_s": round(status, 2),
        "finished_s": round(seconds, 2),
        "finished_of_status": round(seconds / status, 2),
        "finished_mib": round(peak_mib),
    }


def attribution_mib(tiles: int) -> float:
    """Most memory of a process that writes what a unit says of so many tiles of 40 channels, block by block."""
    code = f"import scale; scale.write_attribution({tiles})"
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def write_attribution(tiles: int) -> None:
    unit = ExplainedUnit(0, 0, tuple(f"C{n}" for n in range(40)), ("a", "b", "c"), "", ("gradient", "occlusion"))
    at_once, rng = unit.tiles_at_once(), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, writing_attribution(Path(folder) / "unit.zarr", unit, tiles) as write:
        for start in range(0, tiles, at_once):
            number = min(at_once, tiles - start)
            arrays = {name: rng.random(shape, np.float32) for name, shape in unit.shapes(number).items()}
            values = {method: arrays.pop(method) for method in unit.methods}
            write(AttributionBlock(**{**arrays, "tile_id": np.arange(start, start + number)}, values=values))
    print(int(re.findall(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[0]) / 1024)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        result: dict[str, float] = {**growth(work), **statuses(work), **finished(work)}
    result["attribution_mib_a_tenth"], result["attribution_mib_a_million"] = (
        round(attribution_mib(tiles)) for tiles in (10**5, 10**6)
    )
    print(json.dumps({"cores": os.cpu_count(), "load_average": round(os.getloadavg()[0], 1), **result}))


if __name__ == "__main__":
    main()
