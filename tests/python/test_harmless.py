"""A guard that has nothing to do changes nothing."""

import helpers
import keras
import numpy as np
import pytest

from pykguard import (
    LossHistory,
    RestoreBest,
    RevertOnLossIncrease,
    RevertToBestOnIncrease,
    SpikeGuard,
)

X, Y = helpers.line()

IDLE = {
    "revert": lambda: RevertOnLossIncrease(tolerance=1e9),
    "revert on a probe": lambda: RevertToBestOnIncrease(tolerance=1e9, probe=(X, Y)),
    "restore": lambda: RestoreBest("loss", mode="min", start_from_epoch=99),
    "spike": SpikeGuard,
    "spike at each batch": lambda: SpikeGuard(interval=1),
    "history": LossHistory,
}


def built():
    return helpers.noisy_model("adam", metrics=["mae"])


def subclassed():
    keras.utils.set_random_seed(1)
    model = helpers.Subclassed()
    model.compile("adam", "mse", metrics=["mae"])
    return model


def trained(make, guard):
    model = make()
    history = model.fit(X, Y, epochs=2, validation_split=0.25, verbose=0, callbacks=[guard])
    return helpers.training_state(model), history.history


@pytest.fixture(scope="module", params=[built, subclassed])
def plainly_trained(request):
    return request.param, *trained(request.param, keras.callbacks.Callback())


@pytest.mark.filterwarnings("ignore::pykguard.GuardWarning")
@pytest.mark.parametrize("idle", IDLE.values(), ids=IDLE.keys())
def test_an_idle_guard_changes_no_bit_of_the_training(idle, plainly_trained):
    make, plain_state, plain_history = plainly_trained
    state, history = trained(make, idle())
    assert np.array_equal(state, plain_state)
    assert history == plain_history
