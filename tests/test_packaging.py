"""What ships beside the wheel: the conda recipe, the labels of the container, the module for Nextflow."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import plexrank
from conftest import TINY

ROOT = Path(__file__).parent.parent
ON_CONDA = {"dask[array]": "dask-core", "matplotlib": "matplotlib-base", "torch": "pytorch"}
MODULE = ROOT / "container" / "nextflow"


def parted(requirement: str) -> tuple[str, str]:
    """Name and version of a requirement."""
    found = re.fullmatch(r"([\w.\-\[\]]+)\s*(.*)", requirement)
    assert found
    return found[1], found[2]


def test_the_recipe_has_the_dependencies_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    recipe = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text())
    expected = {ON_CONDA.get(name, name): version for name, version in map(parted, project["dependencies"])}
    expected["python"] = project["requires-python"]
    assert dict(map(parted, recipe["requirements"]["run"])) == expected
    assert recipe["context"]["version"] == plexrank.__version__
    assert recipe["about"]["license"] == project["license"]


def test_the_container_says_what_is_in_it() -> None:
    definition = (ROOT / "container" / "plexrank.def").read_text()
    labels = dict(re.findall(r"^    org\.opencontainers\.image\.(\w+) (.*)$", definition, flags=re.MULTILINE))
    assert labels["title"] == "plexrank"
    assert labels["version"] == plexrank.__version__
    assert labels["licenses"] == "BSD-3-Clause"


def script_of(module: str, part: str) -> str:
    found = re.search(rf'^    {part}:\n.*?"""\n(.*?)^    """', module, flags=re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def filled(script: str, **values: str) -> str:
    """The script as Nextflow hands it to bash: without indentation, variables filled in."""
    lines = [line.removeprefix("    ") for line in script.splitlines()]
    text = re.sub(r"(?<!\\)\$(?:\{([\w.]+)\}|(\w+))", lambda match: values[match[1] or match[2]], "\n".join(lines))
    return text.replace("\\$", "$") + "\n"


@pytest.mark.parametrize("part", ["script", "stub"])
def test_the_module_for_nextflow_writes_what_it_promises(tmp_path: Path, tiny_study: Path, part: str) -> None:
    module = (MODULE / "main.nf").read_text()
    (tmp_path / "cohort").symlink_to(tiny_study.parent)  # as Nextflow stages its inputs
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "plexrank").write_text(f'#!/bin/sh\nexec {sys.executable} -m plexrank "$@"\n')
    (tmp_path / "bin" / "plexrank").chmod(0o755)
    script = filled(
        script_of(module, part),
        **{"task.cpus": "1", "task.process": "PLEXRANK_RUN", "cohort": "cohort", "prefix": "run"},
        args=" ".join(f"--set {override}" for override in (*TINY, "train.epochs=1", "train.seeds=1")),
    )
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    promised = re.findall(r'path[ (]"(\S+?)"\)?\s*, emit', module)
    assert len(promised) == 7
    for path in promised:
        assert (tmp_path / path.replace("${prefix}", "run")).exists(), path
    assert yaml.safe_load((tmp_path / "versions.yml").read_text()) == {
        "PLEXRANK_RUN": {"plexrank": plexrank.__version__}
    }


def test_the_description_of_the_module_names_its_outputs() -> None:
    described = yaml.safe_load((MODULE / "meta.yml").read_text())
    emitted = re.findall(r"emit: (\w+)", (MODULE / "main.nf").read_text())
    assert [next(iter(output)) for output in described["output"]] == emitted
