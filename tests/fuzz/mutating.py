"""Ways to break a file: bits, bytes, spans, numbers, words, and parts of another file."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

INTEGERS = (0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 1024, 32767, 32768, 65535, 65536)
LARGE = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**35, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
WORDS = (
    *(b"", b"0", b"-1", b"1e30", b"1e400", b"999999999", b"4294967296", b"99999999999999999999", b"nan", b"NaN"),
    *(b"inf", b"-inf", b"1.5", b"null", b"true", b"[]", b"{}", b'""', b" ", b"\0", b"\xff\xfe", b"../..", b"/"),
    *(b"[" * 200, b"<a>" * 200, b"'", b'"', b"\n", b"\t", b",", b"\xc3", "\u202e".encode(), b"x" * 5000),
)
TOKEN = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|[A-Za-z_]{2,}")

Change = Callable[[random.Random, bytearray, bytes, Sequence[bytes]], None]


def mutate(chance: random.Random, content: bytes, donor: bytes, tokens: Sequence[bytes]) -> bytes:
    """A broken copy of a file's content.

    Args:
        chance: decides how.
        content: of the file.
        donor: of another file, parts of which may be put in.
        tokens: words of the format.
    """
    own = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 1, 2, 2, 3, 5, 9))):
        chance.choices(_CHANGES, _WEIGHTS)[0](chance, own, donor, tokens)
    return bytes(own)


def _place(chance: random.Random, own: bytearray) -> int:
    """Somewhere, more often near the beginning or the end, where headers stand."""
    where = chance.random()
    if where < 0.5 or len(own) < 512:
        return chance.randrange(len(own) + 1)
    near = chance.randrange(512)
    return near if where < 0.8 else len(own) - near


def _flip_bit(chance: random.Random, own: bytearray, donor: bytes, tokens: Sequence[bytes]) -> None:
    place = _place(chance, own)
    if place < len(own):
        own[place] ^= 1 << chance.randrange(8)


def _set_byte(chance: random.Random, own: bytearray, donor: bytes, tokens: Sequence[bytes]) -> None:
    place = _place(chance, own)
    if place < len(own):
        own[place] = chance.choice((0, 255, 127, 128, chance.randrange(256)))


def _set_integer(chance: random.Random, own: bytearray, donor: bytes, tokens: Sequence[bytes]) -> None:
    """A number of 2, 4 or 8 bytes, often where one may stand."""
    code = chance.choice("HIIQ")
    size = struct.calcsize(code)
    place = _place(chance, own) // 2 * 2
    number = chance.choice((*INTEGERS, *LARGE, len(own), len(own) - 1, place)) % 2 ** (8 * size)
    own[place : place + size] = struct.pack(chance.choice("<<<>") + code, number)


def _cut(chance: random.Random, own: bytearray, donor: bytes, tokens: Sequence[bytes]) -> None:
    del own[_place(chance, own) :]


def _remove(chance: random.Random, own: bytearray, donor: bytes, tokens: Sequence[bytes]) -> None:
    place = _place(chance, own)
    del own[place : place + chance.choice((1, 2, 4, 12, 16, 100, chance.randrange(1, len(own) + 2)))]


def _repeat(chance: random.Random, own: bytearray, donor: bytes, tokens: Sequence[bytes]) -> None:
    place = _place(chance, own)
    span = own[place : place + chance.choice((1, 4, 12, 20, 100, 1000))]
    own[place:place] = span * chance.choice((1, 1, 2, 10))


def _put_in(chance: random.Random, own: bytearray, donor: bytes, tokens: Sequence[bytes]) -> None:
    place = _place(chance, own)
    own[place:place] = chance.choice((*WORDS, *tokens))


def _splice(chance: random.Random, own: bytearray, donor: bytes, tokens: Sequence[bytes]) -> None:
    if donor:
        place, start = _place(chance, own), chance.randrange(len(donor))
        span = donor[start : start + chance.choice((4, 12, 20, 100, 1000, len(donor)))]
        own[place : place + chance.choice((0, len(span), len(own)))] = span


def _replace_token(chance: random.Random, own: bytearray, donor: bytes, tokens: Sequence[bytes]) -> None:
    """A number or word by another."""
    place = _place(chance, own)
    match = TOKEN.search(own, place) or TOKEN.search(own)
    if match is not None:
        own[match.start() : match.end()] = chance.choice((*WORDS, *tokens))


def _replace_number(chance: random.Random, own: bytearray, donor: bytes, tokens: Sequence[bytes]) -> None:
    """A number in a text by one that is near, or extreme."""
    matches = list(re.finditer(rb"-?[0-9]+", own)) if len(own) < 20_000 else []
    if matches:
        match = chance.choice(matches)
        old = int(match[0][:18] or b"0")
        near = str(chance.choice((old + 1, old - 1, -old, old * 2, old * 10**9, 0, 10**9, 10**30, 2**31, 2**63)))
        own[match.start() : match.end()] = near.encode()


def _zero(chance: random.Random, own: bytearray, donor: bytes, tokens: Sequence[bytes]) -> None:
    place = _place(chance, own)
    length = min(chance.choice((4, 8, 64, 512, 4096)), len(own) - place)
    own[place : place + length] = bytes(length)


_CHANGES: tuple[Change, ...] = (
    *(_flip_bit, _set_byte, _set_integer, _cut, _remove, _repeat, _put_in, _splice, _replace_token),
    *(_replace_number, _zero),
)
_WEIGHTS = (3, 3, 5, 1, 2, 2, 2, 1, 3, 3, 1)
