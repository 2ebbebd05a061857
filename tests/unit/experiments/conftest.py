import numpy as np
import pytest

from resnext.data import DataSet, open_data
from resnext.data.subset import Subset
from resnext.detection.splits import open_sets
from resnext.experiments.study import Choices, Study
from unit.detection.scenes import write_scenes


@pytest.fixture(scope="session")
def few_digits():
    """So few digits that a network is trained in a tenth of a second."""
    whole = open_data("digits")
    train, validation = (
        Subset(part, np.arange(count))
        for part, count in ((whole.train, 64), (whole.validation, 60))
    )
    return DataSet(name="digits", location="digits", train=train, validation=validation)


@pytest.fixture(scope="session")
def few_scenes(tmp_path_factory):
    """Six pictures with objects to learn, three to be scored on."""
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, "train2017", 6)
    write_scenes(root, "val2017", 3, first=31)
    return open_sets(root)


@pytest.fixture
def study(few_digits, few_scenes, tmp_path):
    """Makes an experiment's smallest study: one seed, one epoch."""

    def make(experiment, **choices):
        usual = {"data": (few_digits,), "seeds": 1, "epochs": 1, "device": "cpu"}
        if experiment.objects:
            usual |= {"data": (), "objects": few_scenes}
        return Study(
            experiment=experiment.at(choices.get("scale", "demo")),
            choices=Choices(**usual | choices),
            out=tmp_path,
        )

    return make
