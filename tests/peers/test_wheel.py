"""The built wheel in empty environments, with every extra, for every Python that this machine has."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
NOT_FOR_USERS = {"dev", "docs", "peers"}
LOADS = {
    "imc": ("readimc",),
    "distributed": ("distributed", "dask_jobqueue", "cryptography"),
    "tensorboard": ("tensorboard",),
    "anndata": ("anndata",),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, bin_folder: Path) -> Path:
    """Built of a copy of what the repository holds."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    run(bin_folder / "uv", "build", "--wheel", "--no-build-isolation", "--python", bin_folder / "python", folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


def run(*words: object, folder: Path | None = None) -> str:
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def interpreters() -> Iterator[tuple[str, Path]]:
    """The first of each version on the path, otherwise of pyenv."""
    for version in PYTHONS:
        of_pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python{version}"))
        for found in [shutil.which(f"python{version}"), *of_pyenv]:
            if found and subprocess.run([found, "-c", "import venv"], capture_output=True).returncode == 0:
                yield version, Path(found)
                break


def extras() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"]) - NOT_FOR_USERS


def test_a_wheel_holds_the_package_and_its_templates_alone(wheel: Path) -> None:
    import zipfile

    names = zipfile.ZipFile(wheel).namelist()
    packaged = {name for name in names if name.startswith("plexrank/")}
    expected = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "plexrank").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packaged == expected
    assert all(re.match(r"plexrank-[\d.]+\.dist-info/", name) for name in set(names) - packaged)


def test_it_installs_with_every_extra_and_runs(wheel: Path, bin_folder: Path, tmp_path: Path) -> None:
    assert extras() == set(LOADS)
    tried = dict(interpreters())
    assert tried
    for version, python in tried.items():
        own = tmp_path / version
        run(bin_folder / "uv", "venv", "--quiet", "--python", python, own / "venv")
        run(
            *(bin_folder / "uv", "pip", "install", "--quiet", "--python", own / "venv" / "bin" / "python"),
            *("--constraint", ROOT / "requirements.lock", f"plexrank[{','.join(sorted(extras()))}] @ file://{wheel}"),
        )
        loads = ", ".join(name for names in LOADS.values() for name in names)
        run(own / "venv" / "bin" / "python", "-I", "-c", f"import {loads}", folder=own)
        plexrank = own / "venv" / "bin" / "plexrank"
        assert run(plexrank, "--version", folder=own).startswith("plexrank ")
        run(plexrank, "simulate", "demo", "--out", "cohort", "--images", 20, "--channels", 4, "--size", 32, folder=own)
        few = ("train.epochs=1", "train.folds=2", "train.seeds=1", "rank.bootstrap=100", "rank.permutations=100")
        overrides = [word for one in few for word in ("--set", one)]
        run(plexrank, "run", "cohort/study.yaml", "--out", "run", *overrides, folder=own)
        assert (own / "run" / "report" / "report.html").is_file()
        shutil.rmtree(own)
    print("Pythons:", ", ".join(tried))
