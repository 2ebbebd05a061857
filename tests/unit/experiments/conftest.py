import numpy as np
import pytest

from resnext.data import DataSet, open_data
from resnext.data.subset import Subset
from resnext.experiments.study import Choices, Study


@pytest.fixture(scope="session")
def few_digits():
    """So few digits that a network is trained in a tenth of a second."""
    whole = open_data("digits")
    train, validation = (
        Subset(part, np.arange(count))
        for part, count in ((whole.train, 64), (whole.validation, 60))
    )
    return DataSet(name="digits", location="digits", train=train, validation=validation)


@pytest.fixture
def study(few_digits, tmp_path):
    """Makes an experiment's smallest study: one seed, one epoch."""

    def make(experiment, **choices):
        usual = {"data": (few_digits,), "seeds": 1, "epochs": 1, "device": "cpu"}
        return Study(
            experiment=experiment.at("demo"), choices=Choices(**usual | choices), out=tmp_path
        )

    return make
