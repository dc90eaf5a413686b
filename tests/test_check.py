"""What is known before any compute."""

from plexrank.check import TILE_CACHE_BYTES
from plexrank.training.data import CACHE_BYTES


def test_the_memory_of_training_is_bounded_by_its_cache() -> None:
    assert TILE_CACHE_BYTES == CACHE_BYTES
