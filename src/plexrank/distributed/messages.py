"""Values and errors as bytes that only become plain values and tensors again: torch loads nothing else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plexrank import errors
from plexrank.errors import PlexrankError, naming_damage

_PLAIN = (bool, int, float, str, Tensor)
_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        *(errors.PlexrankError, errors.StudyError, errors.ImageDataError, errors.MissingInputError),
        *(errors.RunDirError, errors.StoppedEarly, ValueError),
    )
}
"""Errors that travel; others as the nearest kind that they are of."""


def packed(value: object) -> bytes:
    """Bytes of tensors, arrays, paths, plain values, and lists, tuples, sets and dicts of them.

    Raises:
        TypeError: it holds something else.
    """
    buffer = io.BytesIO()
    torch.save(_taken_apart(value), buffer)
    return buffer.getvalue()


def unpacked(content: bytes) -> Any:
    """What :func:`packed` was given.

    Raises:
        PlexrankError: these are other bytes.
    """
    with naming_damage("another process sent what cannot be read", "run the same command again", PlexrankError):
        return _put_together(torch.load(io.BytesIO(content), weights_only=True, map_location="cpu"))


def packed_error(error: Exception) -> list[object]:
    """An error as plain values: what kind it is, and what it says."""
    if isinstance(error, errors.Problems):
        return ["Problems", [packed_error(one) for one in error.problems]]
    if isinstance(error, OSError):
        return [
            "OSError",
            error.errno,
            error.strerror or str(error),
            None if error.filename is None else str(error.filename),
        ]
    kind = next((one.__name__ for one in type(error).__mro__ if one.__name__ in _ERRORS), PlexrankError.__name__)
    return [kind, str(error)]


def unpacked_error(found: list[Any]) -> Exception:
    """The error that :func:`packed_error` was given, or its nearest kind."""
    kind, *said = found
    if kind == "Problems":
        return errors.Problems([one for one in map(unpacked_error, said[0]) if isinstance(one, PlexrankError)])
    if kind == "OSError":
        number, reason, filename = said
        return OSError(reason) if number is None else OSError(number, reason, *([] if filename is None else [filename]))
    return _ERRORS.get(kind, PlexrankError)(str(said[0]))


def _taken_apart(value: object) -> object:
    if value is None or type(value) in _PLAIN or isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray):
        return ["array", torch.from_numpy(np.ascontiguousarray(value)), list(value.shape)]
    if isinstance(value, np.generic):
        return _taken_apart(value.item())
    if isinstance(value, Path):
        return ["path", str(value)]
    if isinstance(value, dict):
        return ["dict", [[_taken_apart(key), _taken_apart(one)] for key, one in value.items()]]
    for kind in (list, tuple, set):
        if type(value) is kind:
            return [kind.__name__, [_taken_apart(one) for one in value]]
    raise TypeError(f"{type(value).__name__} is not for another process")


def _put_together(found: Any) -> Any:
    if not isinstance(found, list):
        return found
    kind, content = found[0], found[1]
    if kind == "array":
        return content.numpy().reshape(found[2])
    if kind == "path":
        return Path(content)
    if kind == "dict":
        return {_put_together(key): _put_together(one) for key, one in content}
    return {"list": list, "tuple": tuple, "set": set}[kind](map(_put_together, content))
