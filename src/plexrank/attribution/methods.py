"""The importances that a study can ask for, each declared here and nowhere else. Loads no torch.

The settings take their choices from here, ranking its properties, and attributing the function, loaded when it is used.
Importances are computed from r (tile, channel) and the classifier behind it, signed and for every class. r is NaN
where a tile's image lacks the channel; the classifier copes with that, and the importance is NaN there.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from plexrank.attribution.chunks import Classifier


@dataclass(frozen=True, kw_only=True)
class Method:
    """An importance; none of its properties has a default, so that whoever adds one has to state them all.

    Attributes:
        from_embedding: name in ``plexrank.attribution`` of the function that computes it from r, ``None`` where the
            channel embedding has no such importance.
        on_tiles: name in ``plexrank.training.explain.TILE_METHODS`` of what networks without a channel embedding
            compute for it, ``None`` where they have no such importance.
        only_for: the one architecture that has it, ``None`` where it is for all.
        is_proportional: whether it is proportional to the coefficients of a linear classifier, so that intervals can
            come from refitting that.
    """

    from_embedding: str | None
    on_tiles: str | None
    only_for: str | None
    is_proportional: bool

    @property
    def compute(self) -> Callable[[Classifier, Tensor, Tensor], Tensor]:
        """(classify, r, background) → (tile, channel, class); the background is r (image, channel) of training images.

        Raises:
            ValueError: the channel embedding has no such importance.
        """
        if self.from_embedding is None:
            raise ValueError("not an importance of the channel embedding")
        function: Callable[[Classifier, Tensor, Tensor], Tensor] = pkgutil.resolve_name(
            f"plexrank.attribution.{self.from_embedding}"
        )
        return function


def _of_embedding(function: str) -> Method:
    """One that rests on the channel embedding; for a linear classifier (r − reference) × coefficient."""
    return Method(from_embedding=function, on_tiles=None, only_for=None, is_proportional=True)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "gradient": Method(
            from_embedding="gradients.gradient", on_tiles="gradient", only_for=None, is_proportional=True
        ),
        "gradient_paper": Method(  # scaled within a tile
            from_embedding="gradients.gradient_paper", on_tiles="gradient_paper", only_for=None, is_proportional=False
        ),
        "gradient_x_input": _of_embedding("gradients.gradient_x_input"),
        "integrated_gradients": _of_embedding("gradients.integrated_gradients"),
        "expected_gradients": _of_embedding("gradients.expected_gradients"),
        "occlusion": Method(
            from_embedding="replacement.occlusion", on_tiles="occlusion", only_for=None, is_proportional=True
        ),
        "permutation": _of_embedding("replacement.permutation"),
        "shapley": _of_embedding("replacement.shapley"),
        "lime": _of_embedding("replacement.lime"),
        "deeplift": _of_embedding("gradients.deeplift"),
        "gradcam": Method(from_embedding=None, on_tiles="gradient", only_for="bsn", is_proportional=False),
    }
)
"""Every importance by name; bsn's gradient is Grad-CAM."""
OF_EMBEDDING = tuple(name for name, method in METHODS.items() if method.from_embedding is not None)
"""Those of the channel embedding."""

if TYPE_CHECKING:
    MethodName = str
else:  # the same names for the schema of the settings
    MethodName = Literal[tuple(METHODS)]
