"""What pykguard's own callbacks do in loops, beyond reverts."""

import math

import keras
import numpy as np
import own_loops
import pytest
from loop_cases import DATA, ENGINE, X, Y, adam, each_engine, fit, schedule, train_two
from own_loops import differing, make_model, nan_in, run, variables

import pykguard as kg


def amounts(history):
    """What lies between the history and `evaluate()` after the last epoch, by cause."""
    parts = history.explain().parts
    rows = zip(parts["minus"], parts["cause"], parts["amount"], strict=True)
    return {cause: amount for minus, cause, amount in rows if minus == "evaluate"}


@each_engine
def test_a_loss_history_explains_what_it_measures_on_data(engine):
    by_fit, by_loop = kg.LossHistory(data=(X, Y)), kg.LossHistory(data=(X, Y))
    fit(engine, adam(engine), [by_fit], epochs=2)
    model = make_model(engine)
    model.compile(loss="mse")
    run(engine, model, adam(engine), DATA, [by_loop], epochs=2)
    ours, theirs = by_loop.explain().quantities, by_fit.explain().quantities
    for name in ("history", "weighted_mean", "evaluate"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4)
    assert ours["evaluate"][-1] == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-6)
    ours, theirs = amounts(by_loop), amounts(by_fit)
    assert "weights moving during the epoch" in ours
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_data_need_a_single_model_with_a_loss():
    with pytest.raises(kg.OptionValueError, match=r"`data` must .*a loop with one model"):
        train_two(ENGINE, DATA, kg.LossHistory(data=(X, Y)))
    with pytest.raises(kg.OptionValueError, match=r"`data` must .*model\.compile\(loss=…\)"):
        run(ENGINE, make_model(ENGINE), adam(), DATA, [kg.LossHistory(data=(X, Y))])


@each_engine
def test_a_guard_goes_on_from_its_saved_state(engine):
    model, optimizer = make_model(engine), adam(engine)
    first, second = kg.RevertOnLossIncrease(), kg.RevertOnLossIncrease()
    run(engine, model, optimizer, DATA, [first], epochs=2)
    good = variables(model, optimizer)
    second.load_state_dict(first.state_dict())
    spoil = nan_in((2, 1))
    run(engine, model, optimizer, DATA, [second], spoil=spoil, initial_epoch=2, epochs=3)
    assert [(event.epoch, event.restored_from) for event in second.events] == [(2, 1)]
    assert second.best == first.best
    assert differing(good, variables(model, optimizer)) == []


@each_engine
def test_the_best_weights_are_put_back_after_an_error(engine):
    model, optimizer, held = make_model(engine), adam(engine), []

    class Rises(kg._callback.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["loss"] = [1.0, 3.0][epoch]
            held.append(variables(model))

    def fail(epoch, batch, x, y):
        if (epoch, batch) == (2, 1):
            raise KeyError("mine")
        return x, y

    keep = kg.RestoreBest("loss")
    with pytest.raises(KeyError), keep:
        run(engine, model, optimizer, DATA, [Rises(), keep], spoil=fail, epochs=5)
    assert keep.best_epoch == 0
    assert differing(held[0], held[1]) != []
    assert differing(held[0], variables(model)) == []


@each_engine
@pytest.mark.parametrize("change", ["number", "to schedule", "from schedule", "schedules"])
def test_a_rate_that_is_reset_is_in_force_in_the_next_step(engine, change):
    decay = schedule(engine)
    other = own_loops.library_of(engine).optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    first, then, rates = {
        "number": (0.25, 0.125, [0.125] * 4),
        "to schedule": (0.25, decay, 0.1 * 0.9 ** (np.arange(4) / 2)),
        "from schedule": (decay, 0.125, [0.125] * 4),
        "schedules": (decay, other, 0.5 ** np.arange(1, 5)),
    }[change]
    optimizer = own_loops.library_of(engine).optimizers.SGD(first)
    model, history, moves = make_model(engine), kg.LossHistory(), []
    step = own_loops.make_step(engine, model, optimizer)
    loop = kg.guarded_loop(model, optimizer, [kg.ResetLearningRate(then, 1), history], 2, verbose=0)
    for _ in loop:
        for x, y in loop.batches(DATA):
            predicted = np.array(kg._framework.to_numpy(model(x)))
            gradient = 2 * np.mean(predicted - y)  # of the last bias
            before = variables(model)[-1]
            loop.report(**step(loop, x, y), size=len(x))
            moves.append(float((before - variables(model)[-1])[0] / gradient))
    np.testing.assert_allclose(moves[4:], rates, rtol=1e-3)
    np.testing.assert_allclose(history.batches["learning_rate"][4:], rates, rtol=1e-5)


def scaled(engine):
    if engine == "tf_keras":
        return own_loops.library_of(engine).mixed_precision.LossScaleOptimizer(adam(engine))
    return keras.optimizers.LossScaleOptimizer(adam(engine), initial_scale=1024.0)


# Keras' LossScaleOptimizer cannot be applied on JAX but by `stateless_apply()`.
with_scale = [engine for engine in own_loops.ENGINES if engine != "jax in place"]


@pytest.mark.parametrize("engine", with_scale)
def test_a_loss_scale_is_put_back_with_the_optimizer_that_it_scales(engine):
    plain, rescued = make_model(engine), make_model(engine)
    one, two = scaled(engine), scaled(engine)
    run(engine, plain, one, DATA, epochs=2)
    guard, history = kg.RevertOnLossIncrease(tolerance=1000), kg.LossHistory()
    loop = run(engine, rescued, two, DATA, [guard, history], spoil=nan_in((1, 2)), epochs=3)
    assert math.isnan(loop.history.history["loss"][1])
    assert guard.n_reverts == 1
    assert differing(variables(plain, one), variables(rescued, two)) == []
    assert set(history.batches["learning_rate"].astype("float32")) == {np.float32(0.01)}
