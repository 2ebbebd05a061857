"""Images with labels: where they come from, what is done to them, in which order they come."""

from resnext.data.loader import Batch, evaluation_batches, train_batches
from resnext.data.opening import open_data, open_evaluation, open_source
from resnext.data.profiles import Profile, default_profile, profile
from resnext.data.source import DataSet, Encoded, Source

__all__ = [
    "Batch",
    "DataSet",
    "Encoded",
    "Profile",
    "Source",
    "default_profile",
    "evaluation_batches",
    "open_data",
    "open_evaluation",
    "open_source",
    "profile",
    "train_batches",
]
