"""What is known before any compute."""

from pathlib import Path

import pytest

from plexrank.check import TILE_CACHE_BYTES, check_study_file
from plexrank.training.data import CACHE_BYTES


def test_the_memory_of_training_is_bounded_by_its_cache() -> None:
    assert TILE_CACHE_BYTES == CACHE_BYTES


@pytest.mark.parametrize(
    ("ordered", "problem"),
    [
        ("[A, B]", None),
        ("[]", None),
        ("[A]", "rank.ordered is A, but the classes are A, B"),
        ("[A, B, B]", "rank.ordered is A, B, B, but the classes are A, B"),
    ],
)
def test_an_order_of_the_classes_names_each_once(tiny_study: Path, ordered: str, problem: str | None) -> None:
    found = check_study_file(tiny_study, [f"rank.ordered={ordered}"]).problems
    assert [str(one).partition(";")[0] for one in found] == ([] if problem is None else [problem])


@pytest.mark.parametrize(("tile_px", "is_told"), [(32, False), (64, False), (128, True)])
def test_images_much_smaller_than_a_tile_are_told(tiny_study: Path, tile_px: int, is_told: bool) -> None:
    result = check_study_file(tiny_study, [f"tile.tile_px={tile_px}", "train.crop_px=32"])
    assert not result.problems
    told = [warning for warning in result.warnings if "32 images are less than half as high or wide" in warning]
    assert len(told) == is_told
