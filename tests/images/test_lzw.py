"""LZW segments: all that encoders write passes, and no code that the decoder would follow into the void."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from image_files import noise
from plexrank.errors import ImageDataError
from plexrank.images.lzw import check_lzw
from plexrank.images.open import open_image


def packed(*codes: int) -> bytes:
    """Codes of 9 bits."""
    bits = "".join(f"{code:09b}" for code in codes)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def reversed_bits(content: bytes) -> bytes:
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in content)


@pytest.mark.parametrize("size", [0, 1, 250, 5000, 300_000])
@pytest.mark.parametrize("values", [2, 256])
def test_what_encoders_write_passes(size: int, values: int) -> None:
    content = np.random.default_rng(size).integers(values, size=size, dtype=np.uint8).tobytes()
    segment = imagecodecs.lzw_encode(content)
    check_lzw(segment)
    check_lzw(reversed_bits(segment), is_reversed=True)
    check_lzw(segment[: len(segment) // 2])


def test_a_code_that_no_table_holds_is_refused() -> None:
    check_lzw(packed(256, 1, 258, 257))
    check_lzw(packed(256, 256, 1, 257, 300))
    for codes in ((300,), (256, 258), (256, 1, 2, 256, 300, 257)):
        with pytest.raises(ValueError, match=r"an LZW segment is damaged: code (300|258) after a Clear code"):
            check_lzw(packed(*codes))
    many = imagecodecs.lzw_encode(np.random.default_rng(0).bytes(300_000))
    with pytest.raises(ValueError, match="after a Clear code"):  # the 40th table or so, of codes of 9 to 12 bits
        check_lzw(with_a_wrong_code_in_the_last_table(many))
    with pytest.raises(ValueError, match="no Clear code after 4098 others"):
        check_lzw(bytes(8000))
    with pytest.raises(ValueError, match="LZW of before 1992"):
        check_lzw(b"\0\1" + bytes(9))


def with_a_wrong_code_in_the_last_table(segment: bytes) -> bytes:
    """Its bits up to the last Clear code that was found by reading code for code, then 511."""
    bits = "".join(f"{byte:08b}" for byte in segment)
    place, width, count, last = 0, 9, 0, 0
    while place + width <= len(bits):
        code = int(bits[place : place + width], 2)
        place += width
        if code == 257:
            break
        count = 0 if code == 256 else count + 1
        last = place if code == 256 else last
        width = next(bits_ for bits_, upto in ((9, 254), (10, 766), (11, 1790), (12, 10**9)) if count < upto)
    bits = bits[:last] + "1" * 9
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def test_an_image_with_such_a_code_is_refused(tmp_path: Path) -> None:
    pixels = noise((1, 40, 50))
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", compression="lzw", metadata=None)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif").data.compute(), pixels)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset = file.pages.first.dataoffsets[0]
    with (tmp_path / "a.tif").open("r+b") as raw:
        raw.seek(offset)
        raw.write(packed(256, 300, 1, 2))
    with pytest.raises(ImageDataError, match=r"pixels cannot be decoded \(an LZW segment is damaged: code 300"):
        open_image(tmp_path / "a.tif").data.compute()
