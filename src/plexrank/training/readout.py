"""What is read off a network under training: predictions of images, and the classifier that is fitted last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from plexrank.arrays import FloatArray, IntArray
from plexrank.distributed import ProcessInfo, from_first
from plexrank.errors import PlexrankError
from plexrank.models.build import Network
from plexrank.models.channel_embedding import ChannelEmbedding
from plexrank.readout.blending import IntensityBlend, fit_blend, log_means, mean_offset
from plexrank.readout.linear import FALLBACK_STRENGTH, LinearClassifier, fit_readout
from plexrank.readout.pooling import AttentionPooling, Bags, fit_attention, make_bags, tile_weights
from plexrank.settings import PROBE_TILES, ModelSettings
from plexrank.training.data import TrainingTiles, evenly_spaced
from plexrank.training.embedding import embed_tiles, mean_over_images, outputs_of_tiles
from plexrank.training.losses import Loss


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """Mean r of images.

    Attributes:
        images: (image,) in rising order.
        first: (image,) position of each one's first tile among those that were asked for.
        mean: (image, channel) float64; NaN where an image lacks the channel, all through where there is no embedding.
        attention: what weighs the tiles of an image, ``None`` where they count alike.
        blend: what took the intensities into ``mean``, ``None`` where it is that of r alone.
    """

    images: IntArray
    first: IntArray
    mean: FloatArray
    attention: AttentionPooling | None = None
    blend: IntensityBlend | None = None


@dataclass(frozen=True, eq=False)
class Readout:
    """A network, and the tiles it is judged by. Its methods are collectives.

    Attributes:
        loss: by which attention is trained.
        train_index: (tile,) tile indices that the classifier may be fitted to.
        seed: of the classifier's inner splits.
        diverged: the error that says that the network no longer gives finite numbers.
    """

    network: Network
    settings: ModelSettings
    tiles: TrainingTiles
    loss: Loss
    train_index: IntArray
    seed: int
    info: ProcessInfo
    diverged: Callable[[], PlexrankError]

    def image_outputs(self, index: IntArray) -> tuple[IntArray, FloatArray]:
        """A tile (image,) of each image, and outputs averaged over those of the image (image, output).

        By the kind of classifier that will be used.

        Raises:
            PlexrankError: the embedding is not finite.
        """
        _, first, outputs = mean_over_images(self._tile_outputs(index), self.tiles.image_index[index])
        return index[first], from_first(outputs, self.info)

    def _tile_outputs(self, index: IntArray) -> NDArray[np.float32]:
        if not isinstance(self.network, ChannelEmbedding):
            return outputs_of_tiles(self.network, self.tiles, index, self.info)
        r = torch.from_numpy(self._finite_embedding(self.network, index)).to(self.info.device)
        classify = self._probe(self.network).to(self.info.device) if self.settings.refits else self.network.classify
        with torch.inference_mode():
            outputs: NDArray[np.float32] = classify(r).cpu().numpy()
        return outputs

    def _finite_embedding(self, network: ChannelEmbedding, index: IntArray) -> NDArray[np.float32]:
        r = embed_tiles(network, self.tiles, index, self.info)
        present = self.tiles.present(index)
        if not np.isfinite(r if present is None else r[present.numpy()]).all():
            raise self.diverged()
        return r

    def _probe(self, network: ChannelEmbedding) -> LinearClassifier:
        """A linear classifier of at most :data:`PROBE_TILES` training tiles, every group with as many where it can."""
        group = self.tiles.outcome.group_of(self.tiles.labels[self.train_index])
        per_group = PROBE_TILES // len(self.tiles.outcome.groups)
        chosen = [evenly_spaced(self.train_index[group == one], per_group) for one in np.unique(group)]
        index = np.sort(np.concatenate(chosen))
        r = self._finite_embedding(network, index)
        _, first, mean = mean_over_images(r, self.tiles.image_index[index])
        return self._fit(index[first], mean, FALLBACK_STRENGTH)

    def _fit(self, seen: IntArray, mean: FloatArray, strength: float | None = None) -> LinearClassifier:
        """A linear classifier of mean embeddings (image, channel); ``seen`` (image,) is a tile of each image."""
        tiles = self.tiles
        labels, patients, stratum = tiles.labels[seen], tiles.patient_ids[seen], tiles.stratum[seen]
        return fit_readout(tiles.outcome, mean, labels, patients, self.seed, strength, stratum)

    def recenter(self, index: IntArray) -> None:
        """Standardise r by the images of these tiles: the scale on which channels are compared and classified."""
        if not isinstance(self.network, ChannelEmbedding):
            return
        mean = torch.from_numpy(self.image_embedding(index).mean)
        center = mean.nanmean(dim=0)
        self.network.recenter(center, (mean - center).square().nanmean(dim=0))

    def image_embedding(self, index: IntArray) -> ImageEmbedding:
        """The mean r of the images of these tiles, all of each."""
        return ImageEmbedding(*mean_over_images(self._embedding(index), self.tiles.image_index[index]))

    def _embedding(self, index: IntArray) -> NDArray[np.float32]:
        if isinstance(self.network, ChannelEmbedding):
            return embed_tiles(self.network, self.tiles, index, self.info)
        return np.full((len(index), self.network.num_channels), np.nan, dtype=np.float32)

    def pooled_embedding(self, index: IntArray, validation_index: IntArray) -> ImageEmbedding:
        """The mean r of images by the study's pooling, intensities blended in; attention and blend are fitted here.

        Args:
            index: (tile,) rising, those of training and validation, all of each image.
            validation_index: those among them that are not trained on.
        """
        r, image = self._embedding(index), self.tiles.image_index[index]
        attention = None
        if self.settings.pooling == "attention":
            held = np.isin(index, validation_index)
            training, validation = (self._bags(index[rows], r[rows]) for rows in (~held, held))
            outputs, ordered = len(self.tiles.outcome.output_names), self.loss.has_ordered_outputs
            attention = fit_attention(training, validation, outputs, self.seed, self.loss.of_images, ordered)
        weights = tile_weights(attention, r, image)
        blend = self._fit_blend(index, r, weights) if self.settings.blends else None
        if blend is not None:
            r = blend.apply(r, self._channel_means(index))
        return ImageEmbedding(*mean_over_images(r, image, weights), attention, blend)

    def _bags(self, index: IntArray, r: NDArray[np.float32]) -> Bags:
        tiles = self.tiles
        return make_bags(r, tiles.image_index[index], tiles.labels[index], tiles.stratum[index])

    def _fit_blend(self, index: IntArray, r: NDArray[np.float32], weights: NDArray[np.float32]) -> IntensityBlend:
        image, means = self.tiles.image_index[index], self._channel_means(index)
        offset = mean_offset(mean_over_images(means, image, weights)[2])
        r_of_images, logs = (mean_over_images(values, image, weights)[2] for values in (r, log_means(means, offset)))
        share, standardize = self.settings.intensity_share, self.settings.standardize
        return fit_blend(r_of_images, logs, offset, share, standardize=standardize)

    def _channel_means(self, index: IntArray) -> NDArray[np.floating]:
        if self.tiles.channel_means is None:
            raise ValueError("intensities are to be blended into the embedding, and the tiles know no channel means")
        return self.tiles.channel_means[index]

    def fit_classifier(self, index: IntArray, embedding: ImageEmbedding) -> LinearClassifier:
        """The linear classifier of the images of these tiles; not a collective."""
        return self._fit(index[embedding.first], embedding.mean)
