"""The documentation: its commands run, its links lead somewhere, its reference is that of the code."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from conftest import Plexrank
from plexrank import limits
from plexrank.ranking import columns
from plexrank.settings import Study
from plexrank.study import load_study

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for where in (".", "docs", "slurm", "container") for path in (ROOT / where).glob("*.md"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_readme_and_its_python_run(
    tmp_path: Path, plexrank: Plexrank, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    (commands,) = blocks(ROOT / "README.md", "sh")
    monkeypatch.chdir(tmp_path)
    for line in commands.splitlines():
        name, *arguments = shlex.split(line)
        assert name == "plexrank"
        done = plexrank(*arguments)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report" / "report.html").is_file()
    assert "recall_at" in done.stdout
    (code,) = [block for block in blocks(ROOT / "README.md", "python") if "open_run" in block]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "train: all 3 done already" in done.stderr
    assert (tmp_path / "ranking.png").is_file()
    assert (tmp_path / "run.h5ad").is_file()


def test_architecture_names_every_room_and_only_files_that_exist() -> None:
    source, page = ROOT / "src" / "plexrank", (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([a-z_/]+(?:\.py|\.html|/))`", page))
    assert not {name for name in named if not (source / name).exists() and not (ROOT / name).exists()}
    rooms = {f"{path.name}/" if path.is_dir() else path.name for path in source.iterdir() if path.suffix in ("", ".py")}
    assert not {room for room in rooms if not room.startswith("__")} - named


def test_make_targets_of_the_readme_exist() -> None:
    targets = re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert targets
    for target in targets:
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE), target


def test_a_fresh_checkout_is_locked_before_it_is_installed(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path)
    said = subprocess.run(["make", "-n", "lock", "install"], cwd=tmp_path, capture_output=True, text=True, check=True)
    steps = ["-m venv .venv", "pip install --quiet uv==", "uv pip compile", "--require-hashes", "--editable ."]
    places = [said.stdout.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not link.startswith("http"):
            assert (page.parent / link.split("#")[0]).exists(), link


def test_the_study_of_the_readme_is_valid(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "README.md", "yaml")
    (tmp_path / "study.yaml").write_text(text)
    assert load_study(tmp_path / "study.yaml").cohort.exclude_channels == ("DNA1",)


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_configs_are_valid(config: Path) -> None:
    assert load_study(config).name


def reference() -> str:
    """docs/study.md as the code has it."""
    lines = [
        "# The study file\n",
        "Every key with its default. Paths start at the study's folder. `--set section.key=value` overrides a key.\n",
        "| key | default | meaning |\n| --- | --- | --- |",
    ]
    for name, field in Study.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            lines += [
                row(f"{name}.{key}", part.default, f"{part.description}{values(part.annotation)}")
                for key, part in section.model_fields.items()
            ]
        else:
            lines.append(row(name, field.default, field.description))
    return "\n".join(lines) + "\n"


def values(annotation: object) -> str:
    """What a key may be, where that is one of a few words."""
    kinds = [annotation, *get_args(annotation)]
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind) if isinstance(word, str)]
    return f" ({', '.join(f'`{word}`' for word in words)})" if len(words) > 1 else ""


def row(key: str, default: object, meaning: str | None) -> str:
    if default is PydanticUndefined:
        shown = "required"
    elif default in (None, ()):
        shown = "–"
    else:
        shown = f"`{', '.join(default) if isinstance(default, tuple) else default}`"
    assert meaning, f"{key} has no description"
    return f"| `{key}` | {shown} | {meaning} |"


def test_the_reference_is_that_of_the_code() -> None:
    page = ROOT / "docs" / "study.md"
    assert page.read_text() == reference(), "write tests/test_docs.py: reference() into docs/study.md"


def test_the_columns_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "columns.md").read_text()
    assert page == columns.page(), "python -m plexrank.ranking.columns > docs/columns.md"


def test_the_limits_are_those_of_the_code() -> None:
    assert (ROOT / "docs" / "limits.md").read_text() == limits.page(), "python -m plexrank.limits > docs/limits.md"
