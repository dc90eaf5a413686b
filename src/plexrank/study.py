"""Reading study files: YAML to settings, with every problem at once.

This module is the only reader of study files.
"""

from __future__ import annotations

import copy
import datetime
import difflib
import itertools
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from plexrank.errors import (
    MissingInputError,
    PlexrankError,
    Problems,
    StudyError,
    naming_input,
    one_line,
    problems_of,
    raise_problems,
    resolve_input,
)
from plexrank.limits import YAML_BYTES
from plexrank.settings import Section, Study
from plexrank.wording import shown

_YAML_TAG = "tag:yaml.org,2002:"
_KNOWN_TAGS = frozenset({"null", "bool", "int", "float", "str", "timestamp", "seq", "map", "merge", "value"})
_MOST_VALUES = 10_000
_LARGEST = 10**1000


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read, override, validate and resolve a study file.

    Args:
        path: the YAML file; relative paths in it start at its folder.
        overrides: ``section.key=value`` strings, the value read as YAML.

    Raises:
        MissingInputError: there is no such file.
        StudyError: it is no YAML mapping, or an override is malformed.
        Problems: several keys are unknown or have wrong values.
    """
    study, problems = survey_study(path, overrides)
    if study is None or problems:
        raise problems[0] if len(problems) == 1 else Problems(problems)
    return study


def survey_study(path: Path, overrides: Sequence[str] = ()) -> tuple[Study | None, list[PlexrankError]]:
    """Like :func:`load_study`, but returns the problems beside what remains without the keys they are about.

    Returns:
        The study with defaults in place of wrong values, ``None`` where a key without default is wrong;
        and every problem.
    """
    try:
        raw = read_mapping(path, Study)
    except PlexrankError as error:
        return None, problems_of(error)
    problems: list[PlexrankError] = []
    for override in overrides:
        try:
            _apply_override(raw, override)
        except PlexrankError as error:
            problems += problems_of(error)
    study, wrong = _validate(path, raw)
    problems += wrong
    if study is None:
        return None, problems
    try:
        return _resolve_paths(path, study), problems
    except PlexrankError as error:
        return None, [*problems, *problems_of(error)]


def _validate(path: Path, raw: dict[str, Any]) -> tuple[Study | None, list[PlexrankError]]:
    """The study of what is right, and what is wrong at first sight; leaving out a key may bring up more."""
    raw = copy.deepcopy(raw)
    problems: list[PlexrankError] = []
    while True:
        try:
            return Study.model_validate(raw), problems
        except ValidationError as error:
            problems = problems or explain(path, Study, error)
            left_out = [_leave_out(raw, detail["loc"]) for detail in error.errors()]
            if not any(left_out):
                return None, problems
            raw.setdefault("name", "unnamed")


def _leave_out(raw: Any, location: Sequence[int | str]) -> bool:
    """Delete the deepest key on the way to ``location``; whether there was one."""
    owner, last = None, None
    for part in location:
        if not isinstance(raw, dict) or part not in raw:
            break
        owner, last, raw = raw, part, raw[part]
    if owner is None:
        return False
    del owner[last]
    return True


def dump_study(study: Study) -> str:
    """The study as YAML text that :func:`load_study` reads back to an equal study."""
    text: str = yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
    return text


class _StrictLoader(yaml.SafeLoader):
    """Refuses what YAML loses silently, a key that is there twice, and what no study needs.

    That is: aliases that unfold to thousands of values or hold themselves, and tags of other kinds than text, numbers,
    truth values, dates, lists and mappings.
    """

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _count_unfolded(node, {})
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag.removeprefix(_YAML_TAG) not in _KNOWN_TAGS:
            raise yaml.MarkedYAMLError(problem=f"tag {node.tag!r} is unknown; remove it", problem_mark=node.start_mark)
        try:
            value = super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:  # by what is malformed
            reason = f": {error}" if isinstance(error, ValueError) else ""
            problem = f"{shown(node.value)} is no {node.tag.removeprefix(_YAML_TAG)}{reason}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise yaml.MarkedYAMLError(problem="a whole number beyond all reason", problem_mark=node.start_mark)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is there twice", problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def _count_unfolded(node: yaml.Node, known: dict[int, int | None]) -> int:
    """Values below a node with every alias written out; each node is looked at once."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if (counted := known.get(id(node), 0)) is None:
        raise yaml.MarkedYAMLError(problem="an alias stands within what it names", problem_mark=node.start_mark)
    if counted:
        return counted
    known[id(node)] = None
    parts = itertools.chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else node.value
    total = 1 + sum(_count_unfolded(part, known) for part in parts)
    if total > _MOST_VALUES:
        problem = f"more than {_MOST_VALUES:,} values, aliases written out"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    known[id(node)] = total
    return total


def _parse_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except RecursionError as error:
        raise StudyError(f"{where}: nested too deeply; a study has sections and keys, no deeper") from error
    except yaml.YAMLError as error:
        raise StudyError(f"{where}: not readable as YAML ({one_line(error)}); fix the syntax there") from error


def read_mapping(path: Path, model: type[Section]) -> dict[str, Any]:
    """The top level of a YAML file, not validated yet.

    Args:
        path: the file.
        model: what it should hold; names what is expected in messages.

    Raises:
        MissingInputError: there is no such file.
        StudyError: it is no YAML mapping.
    """
    kind = model.__name__.lower()
    with naming_input(str(path)):
        if not path.is_file():
            what = "a folder" if path.is_dir() else f"no such {kind} file"
            raise MissingInputError(f"{path}: {what}; give the path of a {kind}.yaml")
        YAML_BYTES.require(path.stat().st_size, str(path), StudyError)
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    raw = _parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        example = next(iter(model.model_fields))
        raise StudyError(f"{path}: expected a mapping of keys such as {example}:, found {type(raw).__name__}")
    odd = [key for key in raw if not isinstance(key, str)]
    if odd:
        raise StudyError(f"{path}: key {odd[0]!r} is not text; the keys are {', '.join(model.model_fields)}")
    return raw


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not last or len(sections) > 1 or "" in sections:
        raise StudyError(f"--set {override}: expected section.key=value, such as train.epochs=20")
    target = raw
    for section in sections:
        if target.get(section) is None:
            target[section] = {}
        target = target[section]
        if not isinstance(target, dict):
            raise StudyError(f"--set {override}: {section} is a single value, not a section")
    target[last] = _parse_yaml(value, f"--set {override}")


def _resolve_paths(path: Path, study: Study) -> Study:
    base = resolve_input(path, str(path)).parent
    problems: list[PlexrankError] = []

    def resolve(key: str, value: Path) -> Path:
        try:
            return resolve_input(base / value, f"{path}: {key}")
        except PlexrankError as error:
            problems.append(error)
            return value

    cohort = study.cohort
    samplesheet = resolve("cohort.samplesheet", cohort.samplesheet)
    resolved = cohort.model_copy(
        update={
            "samplesheet": samplesheet,
            "root": resolve("cohort.root", cohort.root) if cohort.root else samplesheet.parent,
            "panel": resolve("cohort.panel", cohort.panel) if cohort.panel else None,
            "truth": resolve("cohort.truth", cohort.truth) if cohort.truth else None,
        }
    )
    model = study.model
    if isinstance(model.weights, Path):
        model = model.model_copy(update={"weights": resolve("model.weights", model.weights)})
    train = study.train
    if isinstance(train.split, Path):
        train = train.model_copy(update={"split": resolve("train.split", train.split)})
    raise_problems(problems)
    return study.model_copy(update={"cohort": resolved, "model": model, "train": train})


def explain(path: Path, model: type[Section], error: ValidationError) -> list[PlexrankError]:
    """What is wrong with each key of a file, with a suggestion for one that is unknown."""
    return [StudyError(f"{path}: {_explain_one(model, detail)}") for detail in error.errors()]


def _explain_one(model: type[Section], detail: Any) -> str:
    location = [str(part) for part in detail["loc"]]
    key = ".".join(location)
    found = detail.get("input")
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key{_suggest(model, location)}"
    if detail["type"] == "missing":
        return f"{key}: required and missing"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return message if not location or message.startswith(f"{location[0]}.") else f"{key}: {message}"
    if detail["type"] == "path_type":
        message = "expected a path"
    if detail["type"] == "tuple_type":
        message = "expected a list, such as [A, B]"
    if detail["type"] == "string_type" and isinstance(found, bool | int | float | datetime.date | None):
        return f"{key}: {_what_yaml_made(found)}; put what you mean in quotes, such as {_quoted(found)}"
    if detail["type"] == "string_pattern_mismatch":
        message = "letters, digits, '.', '_' and '-' only, at most 64, starting with a letter or digit"
    return f"{key}: {message[0].lower()}{message[1:]}, got {shown(found)}"


def _what_yaml_made(found: object) -> str:
    if found is None:
        return "expected text, and YAML reads null, ~ or nothing as no value"
    if isinstance(found, bool):
        words = "yes, on and true" if found else "no, off and false"
        return f"expected text, and YAML makes the truth value {found} of {words}"
    kind = "date" if isinstance(found, datetime.date) else "number"
    return f"expected text, and YAML reads {found} as a {kind}"


def _quoted(found: object) -> str:
    if found is None:
        return '"null"'
    return {True: '"yes"', False: '"no"'}[found] if isinstance(found, bool) else f'"{found}"'


def _suggest(model: type[Section], location: Sequence[str]) -> str:
    section: type[BaseModel] = model
    for part in location[:-1]:
        field = section.model_fields[part].annotation
        if not (isinstance(field, type) and issubclass(field, BaseModel)):
            return ""
        section = field
    known = list(section.model_fields)
    near = difflib.get_close_matches(location[-1], known, n=1)
    if near:
        return f"; did you mean {'.'.join([*location[:-1], near[0]])}?"
    elsewhere = [key for key in _keys(model) if key.rpartition(".")[2] == location[-1]]
    return f"; did you mean {elsewhere[0]}?" if elsewhere else f"; known keys: {', '.join(known)}"


def _keys(model: type[BaseModel]) -> Iterator[str]:
    """All keys of a model, with those of its sections, dotted."""
    for name, field in model.model_fields.items():
        yield name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (f"{name}.{key}" for key in _keys(field.annotation))
