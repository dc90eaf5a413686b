"""The importances by name: from r (tile, channel) and the classifier behind it, signed and for every class.

r is NaN where a tile's image lacks the channel; the classifier copes with that, and the importance is NaN there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor

from plexrank.attribution.chunks import Classifier
from plexrank.attribution.gradients import (
    deeplift,
    expected_gradients,
    gradient,
    gradient_paper,
    gradient_x_input,
    integrated_gradients,
)
from plexrank.attribution.replacement import lime, occlusion, permutation, shapley

Method = Callable[[Classifier, Tensor, Tensor], Tensor]

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "gradient": gradient,
        "gradient_paper": gradient_paper,
        "gradient_x_input": gradient_x_input,
        "integrated_gradients": integrated_gradients,
        "expected_gradients": expected_gradients,
        "occlusion": occlusion,
        "permutation": permutation,
        "shapley": shapley,
        "lime": lime,
        "deeplift": deeplift,
    }
)
"""Every method by the name that a study gives it; all are called with (classify, r, background), the background being
r (image, channel) of the training images."""
