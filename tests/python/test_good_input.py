from fractions import Fraction

import helpers
import keras
import numpy as np
import pytest

from pykguard import LossHistory, RevertOnLossIncrease


@pytest.mark.parametrize("value", [1, 0.5, np.float32(0.5), np.int64(2), Fraction(1, 2)])
def test_any_real_number_is_a_tolerance(value):
    assert RevertOnLossIncrease(tolerance=value).tolerance == float(value)


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3)])
def test_any_whole_number_is_a_patience(value):
    assert RevertOnLossIncrease(patience=value).patience == 3


def test_a_path_may_be_a_path(tmp_path):
    assert LossHistory(tmp_path / "losses.csv").path == str(tmp_path / "losses.csv")


X, Y = helpers.line(8)


@pytest.mark.parametrize(
    "probe",
    [
        (X, Y),
        [X, Y],
        (X, Y, np.ones(8)),
        (X, Y, None),
        (keras.ops.convert_to_tensor(X), Y),
        (X, [float(y) for y in Y[:, 0]]),
    ],
    ids=["tuple", "list", "weights", "no weights", "tensor", "list of targets"],
)
def test_a_probe_may_be_given_as(probe):
    model = helpers.dense_model()
    guard = RevertOnLossIncrease(probe=probe)
    expected = np.mean((model.predict(X, verbose=0) - Y) ** 2)
    assert guard._probe.loss(model) == pytest.approx(expected, rel=1e-5)


def test_the_rows_of_a_probe_are_weighted():
    model = helpers.dense_model()
    weights = np.arange(8.0)
    guard = RevertOnLossIncrease(probe=(X, Y, weights))
    expected = np.mean(weights * (model.predict(X, verbose=0) - Y)[:, 0] ** 2)
    assert guard._probe.loss(model) == pytest.approx(expected, rel=1e-5)
