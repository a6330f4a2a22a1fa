"""Errors and Ctrl-C at awkward moments leave a model that can be used, and the error as it was."""

import warnings

import helpers
import keras
import numpy as np
import pytest

from pykguard import GuardWarning, RestoreBest, RevertOnLossIncrease

X, Y = helpers.line()


def rows_that_end_with_an_error(after):
    """Four batches an epoch, and an error in place of batch number `after`."""
    for n in range(after):
        rows = slice(8 * (n % 4), 8 * (n % 4) + 8)
        yield X[rows].copy(), Y[rows].copy()
    raise OSError("disk gone")


GUARDS = {
    "a revert guard": lambda: RevertOnLossIncrease(lr_factor=0.5),
    "the best": lambda: RestoreBest("loss"),
}


@pytest.mark.parametrize("after", [8, 9, 11, 12])
@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS.keys())
def test_data_that_fail_after_a_revert_leave_a_model_that_trains_on(guard, after):
    model = helpers.noisy_model(keras.optimizers.Adam(0.01))
    guard = guard()
    data = rows_that_end_with_an_error(after)
    script = helpers.Scripted(loss=[1.0, 2.0, 3.0, 4.0])
    with pytest.raises(Exception, match="disk gone"):  # TensorFlow has an error of its own
        model.fit(data, steps_per_epoch=4, epochs=4, verbose=0, callbacks=[script, guard])
    assert np.isfinite(model.predict(X, verbose=0)).all()
    model.fit(X, Y, verbose=0)
    assert np.isfinite(helpers.training_state(model)).all()


class InterruptsAfterAStep(keras.callbacks.Callback):
    """Ctrl-C while the step runs, which Python raises when the call returns."""

    def __init__(self, epoch, batch):
        super().__init__()
        self.at = (epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            step = self.model.train_function

            def interrupted(*arguments):
                step(*arguments)
                raise KeyboardInterrupt

            self.model.train_function = interrupted


@pytest.mark.parametrize("at", [(0, 0), (0, 1), (2, 0), (2, 2)], ids=str)
@pytest.mark.parametrize("with_optimizer", [False, True])
def test_ctrl_c_in_a_step_leaves_the_best_weights_and_a_model_that_trains_on(at, with_optimizer):
    model = helpers.noisy_model(keras.optimizers.Adam(0.25))
    model.fit(X, Y, verbose=0)
    keep = RestoreBest("loss", restore_optimizer=with_optimizer)
    states = helpers.StatesAfterEpochs()
    with warnings.catch_warnings(), pytest.raises(KeyboardInterrupt), keep:
        interrupts = InterruptsAfterAStep(*at)
        # Where nothing is left of the first epoch's step, there is a warning besides.
        warnings.simplefilter("ignore", GuardWarning)
        callbacks = [states, keep, interrupts]
        model.fit(X, Y, epochs=4, batch_size=8, verbose=0, callbacks=callbacks)
    if keep.best_epoch is not None:
        assert np.array_equal(helpers.flat(model.weights), states.weights[keep.best_epoch])
    assert float(model.optimizer.learning_rate) == 0.25
    model.train_function = None
    model.fit(X, Y, verbose=0)
    assert np.isfinite(helpers.training_state(model)).all()


def test_what_others_hold_of_the_model_survives_a_restore():
    model, other = helpers.noisy_model("adam"), helpers.noisy_model("adam")
    keep = RestoreBest("loss")
    model.fit(X, Y, verbose=0, callbacks=[keep])
    held = [variable.value for variable in model.weights]
    for ours, theirs in zip(model.variables, other.variables, strict=True):
        theirs.assign(ours)
    keep.restore()
    assert all(np.isfinite(keras.ops.convert_to_numpy(value)).all() for value in held)
    assert np.isfinite(other.predict(X, verbose=0)).all()


@helpers.only_on("jax", "no other backend compiles a step for the kind of its arrays")
def test_a_revert_has_no_step_compiled_anew(caplog):
    import jax

    model = helpers.noisy_model(keras.optimizers.Adam(0.01))
    compiled = []

    class Counts(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            steps = [r for r in caplog.records if "Compiling jit(train_step)" in r.getMessage()]
            compiled.append(len(steps))

    jax.config.update("jax_log_compiles", True)
    try:
        script = helpers.Scripted(loss=[1.0, 5.0, 0.5, 0.4, 0.3])
        guard = RevertOnLossIncrease()
        model.fit(X, Y, epochs=5, verbose=0, callbacks=[script, guard, Counts()])
    finally:
        jax.config.update("jax_log_compiles", False)
    assert guard.n_reverts == 1
    assert compiled[0] > 0 and compiled == [compiled[0]] * 5
