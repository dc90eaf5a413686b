"""What names mean: which spellings are one, and that no set of names, panel or order gives a plane another's name."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plexrank.cohorts.panel import Channel, Panel
from plexrank.cohorts.panel_match import locate_channels
from plexrank.errors import StudyError
from plexrank.images.channel_names import fold_name, fold_without_isotopes, isotopes_within, say_only_places


@pytest.mark.parametrize(
    "spellings",
    [
        ("Pr141", "141Pr", "Pr141Di", "141pr", "PR141", "Pr(141)", "141-Pr", "Pr141Dd"),
        ("Cd106", "106Cd", "106CD", "Cd106Di"),
        ("CD106", "cd-106", "cd106"),
        ("Y89", "89Y"),
        ("HLA-DR", "hla dr", "HLA_DR", "HLA.DR", "HLA/DR", "HLA\u2013DR", " HLA\u00a0DR "),
        ("IL-1", "IL1", "il_1"),
        ("CD3_1", "CD3-1", "CD3.1", "cd3 1"),
        ("é", "e\u0301"),
    ],
)
def test_spellings_of_one_name(spellings: tuple[str, ...]) -> None:
    assert len({fold_name(name) for name in spellings}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CD3_1", "CD31"),
        ("CD3-1", "CD31"),
        ("CD3.1", "CD31"),
        ("CD4", "CD44"),
        ("CD8", "CD8a"),
        ("4-1BB", "41BB"),
        ("Cd106", "CD106"),
        ("CD45", "45CD"),
        ("CD3²", "CD32"),
        ("-", "."),
    ],
)
def test_names_that_are_two(one: str, other: str) -> None:
    assert fold_name(one) != fold_name(other)


def test_isotopes_stand_as_words_of_names() -> None:
    assert isotopes_within("141Pr-CD3(Pr141Di)") == {"141pr"}
    assert fold_without_isotopes("141Pr-CD3(Pr141Di)") == "cd3"
    assert isotopes_within("CD106_CD45") == frozenset()
    assert fold_without_isotopes("Ag107_Ag107") == ""


@pytest.mark.parametrize(
    ("names", "is_so"),
    [
        (("0", "1", "2"), True),
        (("Channel:0:0", "Channel:0:1"), True),
        (("C1", "C2"), True),
        (("1", "3", "2"), False),
        (("C3", "C4"), False),
        (("DAPI", "FITC", "DAPI", "FITC"), True),
        (("DAPI", "FITC"), False),
        (("DAPI", "PECAM1", "DAPI"), False),
        (("CD3", "CD3"), False),
    ],
)
def test_names_that_say_only_places(names: tuple[str, ...], is_so: bool) -> None:
    assert say_only_places(names) is is_so


PROTEINS = ("CD3", "CD3_1", "CD31", "CD4", "CD44", "Ki-67", "HLA-DR", "DAPI", "Cd106", "CD106", "C3", "1", "2", "SMA")
METALS = ("Pr141", "Nd142", "Nd144", "Er170", "Ir191", "Cd106", "Y89")
RESPELL = (str, str.lower, lambda name: name.replace("-", " "), lambda name: f" {name}")


@st.composite
def files_and_panels(draw: st.DrawFn) -> tuple[list[str], list[str] | None, list[tuple[str, str]], int]:
    """Names and metals of a file, rows of a panel in any order, and a seed for spellings."""
    names = draw(st.lists(st.sampled_from(PROTEINS), min_size=1, max_size=6, unique=True))
    metals = draw(st.one_of(st.none(), st.permutations(METALS).map(lambda own: list(own[: len(names)]))))
    panel_names = draw(st.lists(st.sampled_from(PROTEINS), min_size=1, max_size=6, unique=True))
    numbers = draw(st.permutations(range(1, len(panel_names) + 1)))
    ids = draw(st.sampled_from([[str(n) for n in numbers], panel_names, list(METALS[: len(panel_names)])]))
    rows = list(zip(ids, panel_names, strict=True))
    return names, metals, rows, draw(st.integers(0, 99))


@settings(max_examples=300, deadline=None)
@given(files_and_panels())
def test_no_plane_gets_the_name_of_another(
    case: tuple[list[str], list[str] | None, list[tuple[str, str]], int],
) -> None:
    """Whatever is located is called so in the file, by name or by metal; or there is a message."""
    names, metals, rows, seed = case
    chance = random.Random(seed)
    spelled = [chance.choice(RESPELL)(name) if not name.startswith(("Cd", "CD106")) else name for name in names]
    panel = Panel(Path("panel.csv"), tuple(Channel(own, name) for own, name in rows))
    try:
        located = locate_channels(panel, spelled, len(names), "image", metals)
    except StudyError:
        return
    id_of = {name: own for own, name in rows}
    for name, plane in zip(located.names, located.indices, strict=True):
        held = {fold_name(spelled[plane]), *([] if metals is None else [fold_name(metals[plane])])}
        only_places = metals is None and say_only_places(spelled)
        assert only_places or {fold_name(name), fold_name(id_of[name])} & held
        others = {fold_name(other) for other in names} - {fold_name(names[plane])}
        assert only_places or fold_name(name) not in others, "the file calls another plane so"
    if not say_only_places(spelled):
        used = {spelled[plane] for plane in located.indices}
        assert used | set(located.unlisted) == set(spelled)


@settings(max_examples=100, deadline=None)
@given(st.permutations(PROTEINS).flatmap(lambda own: st.tuples(st.just(own), st.permutations(own))))
def test_a_panel_in_any_order_finds_every_name(case: tuple[list[str], list[str]]) -> None:
    names, order = case
    panel = Panel(Path("panel.csv"), tuple(Channel(name, name) for name in order))
    located = locate_channels(panel, names, len(names), "image")
    assert [names[plane] for plane in located.indices] == list(located.names) == order
