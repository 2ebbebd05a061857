"""Losses weighted by class, for data whose classes differ in size."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnext.training.recipe import Recipe


def class_weights(recipe: Recipe, labels: NDArray[np.int64], classes: int) -> Tensor | None:
    """What the loss of an image of each class counts; None where all count alike.

    ``balanced``: n / (K n_k) with n_k of the n images in class k, and K classes that have some. Its
    mean over the images is 1, so that the learning rate keeps its meaning.
    """
    if recipe.class_weights == "none":
        return None
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.from_numpy(np.where(counts > 0, weights, 1.0)).float()
