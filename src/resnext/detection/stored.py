"""Proposals on disk between the two steps: shards of float32 boxes, mapped into memory.

A shard of `SHARD` images is one safetensors file that appears whole. Its head says of which images,
which weights and which settings it is; any other is refused. Boxes are in pixels of the original.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from resnext.errors import DataError
from resnext.training.checkpoint import save_weights, words_of

SHARD = 500
"""Images of a shard: so many are made again at most after an interruption."""


def key_of(ids: Sequence[int], weights: str, settings: Mapping[str, object]) -> str:
    """What proposals belong to: SHA-256 of images, weights and settings."""
    text = json.dumps([list(map(int, ids)), weights, dict(sorted(settings.items()))])
    return hashlib.sha256(text.encode()).hexdigest()


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of tensors and their names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Stored:
    """The proposals of a set of images.

    Attributes:
        folder: of the shards.
        key: what they belong to.
        ids: of all images, in the order of the shards.
    """

    folder: Path
    key: str
    ids: tuple[int, ...]

    def path(self, shard: int) -> Path:
        """Of a shard."""
        return self.folder / f"{shard:05d}.safetensors"

    def shards(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Number and images of each."""
        for shard, start in enumerate(range(0, len(self.ids), SHARD)):
            yield shard, self.ids[start : start + SHARD]

    def missing(self) -> list[tuple[int, tuple[int, ...]]]:
        """The shards that are still to be made.

        Raises:
            DataError: one that is there belongs to something else.
        """
        found = []
        for shard, ids in self.shards():
            if not self.path(shard).exists():
                found.append((shard, ids))
                continue
            key = words_of(self.path(shard)).get("key")
            if key != self.key:
                raise DataError(
                    f"expected proposals {self.key[:12]} of these images and weights, found "
                    f"{(key or 'others')[:12]} in {self.path(shard)}; take another folder"
                )
        return found

    def write(self, shard: int, found: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Keep boxes and scores of a shard's images.

        Raises:
            ResourceError: it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        ends = np.cumsum([len(boxes) for boxes, _ in found])
        tensors = {
            "boxes": torch.cat([boxes.float().cpu() for boxes, _ in found]),
            "scores": torch.cat([scores.float().cpu() for _, scores in found]),
            "ends": torch.from_numpy(ends.astype(np.int64)),
        }
        save_weights(self.path(shard), tensors, {"key": self.key})

    def boxes(self, image_id: int) -> Tensor:
        """Of an image, P x 4, best first.

        Raises:
            DataError: there is none such.
        """
        return self._read(image_id, "boxes")

    def scores(self, image_id: int) -> Tensor:
        """Of its boxes."""
        return self._read(image_id, "scores")

    def _read(self, image_id: int, name: str) -> Tensor:
        at = int(np.searchsorted(self.ids, image_id))
        if at >= len(self.ids) or self.ids[at] != image_id:
            raise DataError(f"expected proposals of image {image_id}, found none in {self.folder}")
        with safe_open(self.path(at // SHARD), framework="pt") as file:
            ends = file.get_tensor("ends")
            place = at % SHARD
            begin = int(ends[place - 1]) if place else 0
            part: Tensor = file.get_slice(name)[begin : int(ends[place])]
        return part
