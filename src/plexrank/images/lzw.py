"""LZW segments looked at before they are decoded: the decoder takes what follows a Clear code on trust.

A code there that is no byte leads it to memory that holds nothing, which can end the process. The codes: TIFF 6.0,
section 13.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_CLEAR, _END = 256, 257
_CODES_OF_WIDTH = ((9, 254), (10, 512), (11, 1024), (12, 2308))
"""Bits of a code, and how many of them follow each other after a Clear code; no table holds more than 4096."""
_WIDTHS = np.repeat(*(np.array(column, np.uint32) for column in zip(*_CODES_OF_WIDTH, strict=True)))
_STARTS = np.concatenate([[0], np.cumsum(_WIDTHS)]).astype(np.int64)
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_lzw(segment: bytes, *, is_reversed: bool = False) -> None:
    """Hold every code after a Clear code against what may stand there.

    Args:
        segment: compressed bytes.
        is_reversed: bytes have their lowest bit first (FillOrder 2).

    Raises:
        ValueError: another code stands there, or none comes, or the codes are of the kind before TIFF 6.0.
    """
    if is_reversed:
        segment = segment.translate(_REVERSED)
    if segment[:1] == b"\0" and segment[1:2] and segment[1] & 1:
        raise ValueError("LZW of before 1992, which is not read; export it with Deflate, LZW or Zstandard")
    windows: npt.NDArray[np.uint32] = np.ndarray(len(segment) + 1, ">u4", segment + bytes(4), strides=(1,))
    start, num_bits = 0, 8 * len(segment)
    while start + 9 <= num_bits:
        codes = _codes_from(windows, start, num_bits)
        if codes[0] >= _CLEAR and codes[0] not in (_CLEAR, _END):
            raise ValueError(f"an LZW segment is damaged: code {codes[0]} after a Clear code")
        is_mark = (codes == _CLEAR) | (codes == _END)
        mark = int(is_mark.argmax())
        if not is_mark[mark] and len(codes) == len(_WIDTHS):
            raise ValueError(f"an LZW segment is damaged: no Clear code after {len(codes)} others")
        if not is_mark[mark] or codes[mark] == _END:
            return
        start += int(_STARTS[mark + 1])


def _codes_from(windows: npt.NDArray[np.uint32], start: int, num_bits: int) -> npt.NDArray[np.uint32]:
    """The codes that begin at a bit, as many as there are before a Clear code must come."""
    count = int(np.searchsorted(_STARTS, num_bits - start, side="right")) - 1
    places = _STARTS[:count] + start
    words = windows[places >> 3].astype(np.uint32) << (places & 7).astype(np.uint32)
    codes: npt.NDArray[np.uint32] = words >> (np.uint32(32) - _WIDTHS[:count])
    return codes
