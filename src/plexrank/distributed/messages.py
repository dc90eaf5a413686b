"""Values and errors as bytes: a length, JSON, and the tensors' own bytes in its order; nothing that runs code."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from plexrank import errors
from plexrank.errors import PlexrankError, naming_damage

_PLAIN = (bool, int, float, str)
_LENGTH = 8
"""Bytes of the number, least significant first, that says how long the JSON is."""
_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        *(errors.PlexrankError, errors.StudyError, errors.ImageDataError, errors.MissingInputError),
        *(errors.RunDirError, errors.ReadFailedError, errors.StoppedEarly, ValueError),
    )
}
"""Errors that travel; others as the nearest kind that they are of."""


def packed(value: object) -> bytes:
    """Bytes of tensors, arrays, paths, plain values, and lists, tuples, sets and dicts of them.

    Raises:
        TypeError: it holds something else.
    """
    tensors: list[Tensor] = []
    text = json.dumps(_taken_apart(value, tensors)).encode()
    parts = [one.as_strided((one.numel(),), (1,)).view(torch.uint8).numpy().tobytes() for one in tensors]
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, *parts])


def unpacked(content: bytes) -> Any:
    """What :func:`packed` was given.

    Raises:
        PlexrankError: these are other bytes.
    """
    with naming_damage("another process sent what cannot be read", "run the same command again", PlexrankError):
        buffer = io.BytesIO(content)
        length = int.from_bytes(buffer.read(_LENGTH), "little")
        return _put_together(json.loads(buffer.read(length)), buffer)


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


def _taken_apart(value: object, tensors: list[Tensor]) -> object:
    """What JSON holds of a value, whose tensors are put beside it."""
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, Tensor):
        dense = _dense(value.detach().cpu())
        tensors.append(dense)
        return ["tensor", str(dense.dtype).removeprefix("torch."), list(dense.shape), list(dense.stride())]
    if isinstance(value, np.ndarray):
        native = np.array(value, value.dtype.newbyteorder("="), order="C")
        return ["array", _taken_apart(torch.from_numpy(native), tensors)]
    if isinstance(value, np.generic) and not isinstance(value.item(), np.generic):
        return _taken_apart(value.item(), tensors)
    if isinstance(value, Path):
        return ["path", str(value)]
    if isinstance(value, dict):
        return ["dict", [[_taken_apart(key, tensors), _taken_apart(one, tensors)] for key, one in value.items()]]
    for kind in (list, tuple, set):
        if type(value) is kind:
            return [kind.__name__, [_taken_apart(one, tensors) for one in value]]
    raise TypeError(f"{type(value).__name__} is not for another process")


def _put_together(found: Any, buffer: BinaryIO) -> Any:
    """The value, whose tensors follow in the buffer."""
    if not isinstance(found, list):
        return found
    kind, content = found[:2]
    if kind == "tensor":
        _, name, shape, stride = found
        return _tensor(name, shape, stride, buffer)
    if kind == "array":
        return _put_together(content, buffer).numpy()
    if kind == "path":
        return Path(content)
    if kind == "dict":
        return {_put_together(key, buffer): _put_together(one, buffer) for key, one in content}
    return {"list": list, "tuple": tuple, "set": set}[kind](_put_together(one, buffer) for one in content)


def _dense(tensor: Tensor) -> Tensor:
    """The tensor in its own order of elements in memory, on which the sums of a training depend; without gaps."""
    reach = 1 + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor if tensor.numel() == reach else tensor.contiguous()


def _tensor(name: str, shape: list[int], stride: list[int], buffer: BinaryIO) -> Tensor:
    dtype = getattr(torch, name)
    nbytes = math.prod(shape) * dtype.itemsize
    if not nbytes:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(buffer.read(nbytes)), dtype=dtype).as_strided(shape, stride)
