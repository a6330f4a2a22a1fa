"""What loops of one's own log and show."""

import contextlib
import io
import re

import helpers
import keras
import numpy as np
import pytest
from loop_cases import SIZES, idle, make_idle

import pykguard as kg


@pytest.mark.filterwarnings("ignore:guarded_loop")
def test_the_reported_losses_are_recorded_exactly_and_their_mean_is_weighted():
    losses = [0.1, 7.25, 1e-7, 12345.678]
    history, means = kg.LossHistory(), []

    class Means(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            means.append((logs["loss"], logs["accuracy"]))

    loop = make_idle([history, Means()])
    for _ in loop:
        for i in loop.batches(range(4)):
            state = loop.state() if helpers.BACKEND == "jax" else None
            loop.report(losses[i], size=SIZES[i], accuracy=i / 4, state=state)
    assert history.losses.astype("float32").tolist() == np.float32(losses).tolist()
    assert history.batches["size"].tolist() == SIZES
    wanted = [
        [np.average(v[: n + 1], weights=SIZES[: n + 1]) for v in (losses, np.arange(4) / 4)]
        for n in range(4)
    ]
    np.testing.assert_allclose(means, wanted, rtol=1e-6)
    assert loop.history.history["accuracy"] == [pytest.approx(wanted[-1][1])]


def test_a_metric_is_logged_in_the_epochs_that_report_it():
    loop = make_idle(epochs=2)
    with pytest.warns(kg.GuardWarning, match="took no step"):
        for epoch in loop:
            for _ in loop.batches(range(1)):
                more = {"state": loop.state()} if helpers.BACKEND == "jax" else {}
                loop.report(1.0, **more, **({"first": 3.0} if epoch == 0 else {}))
    assert loop.history.history == {"loss": [1.0, 1.0], "first": [3.0]}


@pytest.mark.filterwarnings("ignore:guarded_loop")
@pytest.mark.parametrize("names", [("val_loss", "val_mae"), ("loss", "mae")])
def test_validation_reaches_the_monitor_of_a_guard(names):
    guard = kg.RevertOnLossIncrease("val_loss")
    loop = make_idle(guard, epochs=3)
    for epoch in loop:
        for _ in loop.batches(range(1)):
            loop.report(1.0, **({"state": loop.state()} if helpers.BACKEND == "jax" else {}))
        loop.report_validation(**dict(zip(names, ([3.0, 4.0, 2.0][epoch], 0.5), strict=True)))
    assert [(event.epoch, event.value) for event in guard.events] == [(1, 4.0)]
    assert loop.history.history["val_mae"] == [0.5] * 3


@pytest.mark.filterwarnings("ignore:guarded_loop")
def test_a_validation_is_of_its_own_epoch():
    loop = make_idle(epochs=2)
    for epoch in loop:
        for _ in loop.batches(range(1)):
            loop.report(1.0, **({"state": loop.state()} if helpers.BACKEND == "jax" else {}))
        if epoch == 0:
            loop.report_validation(mae=0.5)
    assert loop.history.history == {"loss": [1.0, 1.0], "val_mae": [0.5]}


def shown(verbose, **options):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        idle(make_idle(verbose=verbose, epochs=2, **options), [1.0, 2.0, 6.0])
    return re.sub(r"\x1b\[[0-9;]*m|\x08+", "", text.getvalue())


def test_nothing_is_shown_with_verbose_0():
    assert shown(0) == ""


def test_a_progress_bar_is_shown_with_verbose_1():
    text = shown(1, steps=3)
    assert "Epoch 1/2" in text and "Epoch 2/2" in text
    assert "1/3" in text and "3/3" in text
    assert "loss: 1.0000" in text
    if tuple(map(int, keras.__version__.split(".")[:2])) >= (
        3,
        15,
    ):  # before, it showed other means
        assert "loss: 3.0000" in text


def test_a_line_an_epoch_is_shown_with_verbose_2():
    text = shown(2, steps=3)
    assert re.fullmatch(r"(Epoch \d/2\n3/3 - .* - loss: 3\.0000\n){2}", text)
