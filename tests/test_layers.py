"""Imports run downwards only, every concern has one owner, and no file grows beyond what is read at once."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import plexrank
from plexrank.machine.environment_names import SRUN_NAMES, TORCHRUN_NAMES

SOURCE = Path(plexrank.__file__).parent
LAYERS = [
    {"arrays", "errors", "wording"},
    {"limits", "statistics"},
    {"outcome"},
    {"machine"},
    {"rundir", "progress"},
    {"models", "attribution"},
    {"settings"},
    {"study", "images", "tiles", "readout", "report", "evaluation"},
    {"cohorts", "distributed"},
    {"ranking", "planning", "simulate", "training"},
    {"stages"},
    {"launch"},
    {"api"},
    {"cli"},
    {"plexrank", "__main__"},
]
OWNERS = {
    "yaml": {"study", "simulate", "launch/profile"},
    "torch.distributed": {"distributed"},
    "zarr": {"tiles/store", "attribution/store", "images/ome_zarr", "images/zarr_codecs"},
    "dask": {"api/image_tiles", "images", "tiles", "ranking/aggregate", "launch/allocation"},
    "distributed": {"launch/allocation"},
    "dask_jobqueue": {"launch/allocation"},
    "scipy.stats": {"ranking", "evaluation", "statistics", "outcome"},
    "torch": {"models", "training", "attribution", "readout", "distributed", "machine/devices", "stages"},
    "submitit": {"launch"},
    "anndata": {"api/annotated", "api/opened_run"},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return "plexrank" if parts == ("__init__",) else parts[0]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer_of(name: str) -> int:
    return next(index for index, layer in enumerate(LAYERS) if name in layer)


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downwards(path: Path) -> None:
    own = module_name(path)
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "plexrank" or len(parts) == 1 or not is_module(parts[1]) or parts[1] == own:
            continue
        assert layer_of(parts[1]) < layer_of(own), f"{path.relative_to(SOURCE)} imports {name}"


def is_module(name: str) -> bool:
    return (SOURCE / name).is_dir() or (SOURCE / f"{name}.py").is_file()


@pytest.mark.parametrize("package", OWNERS)
def test_every_concern_has_one_owner(package: str) -> None:
    users = {
        str(path.relative_to(SOURCE).with_suffix(""))
        for path in FILES
        if any(name == package or name.startswith(f"{package}.") for name in imported(path))
    }
    strangers = {user for user in users if not any(user == o or user.startswith(f"{o}/") for o in OWNERS[package])}
    assert not strangers, f"{package} is imported by {sorted(strangers)}"


def test_no_file_is_longer_than_400_lines() -> None:
    files = [*FILES, *Path(__file__).parent.rglob("*.py")]
    lengths = {path.name: len(path.read_text().splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


@pytest.mark.parametrize("name", [*TORCHRUN_NAMES, *SRUN_NAMES])
def test_what_launchers_call_their_numbers_is_spelt_once(name: str) -> None:
    spelt = [
        path.relative_to(SOURCE).as_posix()
        for path in FILES
        if any(isinstance(node, ast.Constant) and node.value == name for node in ast.walk(ast.parse(path.read_text())))
    ]
    assert spelt == ["machine/environment_names.py"]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("plexrank", {"torch", "zarr", "dask", "numpy"}),
        ("plexrank.cli", {"torch", "zarr", "dask", "numpy", "pydantic"}),
        ("plexrank.api.opened_run", {"torch", "zarr", "dask", "matplotlib"}),
        ("plexrank.api.held_out", {"torch"}),
        ("plexrank.planning.plan", {"torch", "zarr", "dask", "scipy.stats", "sklearn"}),
        ("plexrank.planning.check", {"torch"}),
        ("plexrank.launch.status", {"torch", "zarr"}),
        ("plexrank.launch.submit", {"torch", "zarr", "dask"}),
        ("plexrank.models.architectures", {"torch"}),
        ("plexrank.attribution.methods", {"torch"}),
        ("plexrank.statistics.rank_tests", {"torch"}),
    ],
)
def test_light_modules_stay_light(module: str, absent: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not absent & set(loaded)
