"""The data that needs no download: scikit-learn's bundled handwritten digits."""

import numpy as np

from resnext.data.arrays import ArraySource
from resnext.data.source import DataSet

HELD_OUT = 0.25
"""The part of the digits that is never trained on."""


def is_digits(data: DataSet) -> bool:
    """Whether these are the bundled digits, and not a folder of that name."""
    return data.location == "digits"


def digits() -> ArraySource:
    """1797 grey pictures of 8 x 8 pixels in 10 classes (test part of UCI's optical digits).

    The stored values 0 to 16 are spread over 0 to 255, so that they look as they should.
    """
    from sklearn.datasets import load_digits  # 2 s to import, needed for this set only

    stored = load_digits()
    return ArraySource(
        title="digits",
        pixels=np.rint(stored.images * (255 / 16)).astype(np.uint8),
        labels=stored.target.astype(np.int64),
        classes=tuple(str(name) for name in stored.target_names),
    )
