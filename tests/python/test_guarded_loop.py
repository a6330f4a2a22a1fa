"""Loops of one's own under guards, against `fit` and against runs without a mishap."""

import math

import numpy as np
import own_loops
import pytest
from loop_cases import DATA, Calls, adam, each_engine, fit, schedule, step_both, train_two
from own_loops import differing, make_model, nan_in, run, variables

import pykguard as kg


# ---------------------------------------------------------------- as by fit
def close(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


# A compiled step of JAX rounds otherwise than the same operations one by one.
EQUAL = {"jax in place": close}
MEANS = {"jax stateless": close}


@each_engine
@pytest.mark.parametrize("rate", ["number", "schedule"])
def test_history_records_and_weights_are_those_of_fit(engine, rate):
    make = lambda: adam(engine, 0.1 if rate == "number" else schedule(engine))  # noqa: E731
    by_fit, by_loop = kg.LossHistory(), kg.LossHistory()
    one, two = make(), make()
    fitted, history = fit(engine, one, [by_fit])
    model = make_model(engine)
    loop = run(engine, model, two, DATA, [by_loop], epochs=3, steps=4)
    equal = EQUAL.get(engine, np.testing.assert_array_equal)
    equal_means = MEANS.get(engine, equal)
    equal_means(loop.history.history["loss"], history.history["loss"])
    assert list(loop.history.history) == list(history.history)
    assert loop.history.epoch == history.epoch
    assert loop.history.params == history.params
    ours, theirs = by_loop.batches, by_fit.batches
    for name in ("epoch", "batch", "size", "exact"):
        assert ours[name].tolist() == theirs[name].tolist()
    equal(ours["loss"], theirs["loss"])
    equal_means(ours["logged_loss"], theirs["logged_loss"])
    np.testing.assert_array_equal(ours["learning_rate"], theirs["learning_rate"])
    for a, b in zip(variables(model, two), variables(fitted, one), strict=True):
        equal(a, b)


@each_engine
def test_the_hooks_are_called_as_by_fit(engine):
    base = own_loops.library_of(engine).callbacks.Callback
    legacy = type("Calls", (base,), {k: v for k, v in vars(Calls).items() if k[:2] == "on"})
    by_fit, by_loop = legacy(), legacy()
    by_fit.names, by_loop.names = [], []
    fit(engine, adam(engine), [by_fit], epochs=2)
    run(engine, make_model(engine), adam(engine), DATA, [by_loop], epochs=2)
    assert by_loop.names == by_fit.names


@each_engine
@pytest.mark.parametrize("guard", [kg.RevertOnLossIncrease, kg.RevertToBestOnIncrease])
def test_the_events_are_those_of_fit(engine, guard):
    by_fit, by_loop = (guard(tolerance=1000, lr_factor=0.5) for _ in "ab")
    spoil = nan_in((1, 2))
    data = (spoil(epoch, i, *batch) for epoch in range(4) for i, batch in enumerate(DATA))
    fit(engine, adam(engine), [by_fit], epochs=4, data=data)
    run(engine, make_model(engine), adam(engine), DATA, [by_loop], spoil=spoil, epochs=4)
    assert [event.action for event in by_loop.events] == ["revert"]
    assert repr(by_loop.events) == repr(by_fit.events)


# ---------------------------------------------------------------- roll-backs
def predicted(model, x):
    return np.array(kg._framework.to_numpy(model(x)))


@each_engine
@pytest.mark.parametrize("bad", [(2, 0), (2, 3)])
def test_a_poisoned_epoch_leaves_no_trace(engine, bad):
    plain, rescued = make_model(engine), make_model(engine)
    one, two = adam(engine), adam(engine)
    run(engine, plain, one, DATA, epochs=3)
    guard = kg.RevertOnLossIncrease(tolerance=1000)
    loop = run(engine, rescued, two, DATA, [guard], spoil=nan_in(bad), epochs=4)
    assert math.isnan(loop.history.history["loss"][2])
    assert [(event.epoch, event.restored_from) for event in guard.events] == [(2, 1)]
    assert differing(variables(plain, one), variables(rescued, two)) == []


@each_engine
def test_a_poisoned_batch_is_rolled_back_in_both_models(engine):
    _, plain = train_two(engine, DATA, epochs=3)
    guard = kg.RevertOnLossIncrease(tolerance=1000)
    loop, rescued = train_two(engine, DATA, guard, nan_in((2, 1)), epochs=4)
    assert np.isnan(loop.history.history["other"]).tolist() == [False, False, True, False]
    assert guard.n_reverts == 1
    assert len(plain) > 20
    assert differing(plain, rescued) == []


@each_engine
def test_a_poison_in_the_second_model_alone_is_found(engine):
    models = [make_model(engine), make_model(engine, seed=2)]
    guard = kg.RevertOnLossIncrease()
    loop = kg.guarded_loop(models, [adam(engine), adam(engine)], guard, verbose=0)
    before = variables(models[1])
    weight = models[1].trainable_variables[0]
    with pytest.warns(kg.GuardWarning, match="took no step"):
        for _ in loop:
            for _ in loop.batches(range(2)):
                weight.assign(np.full(weight.shape, np.nan, "float32"))
                loop.report(1.0)
    assert "hides non-finite values" in guard.events[0].reason
    assert differing(before, variables(models[1])) == []


@each_engine
def test_the_rate_of_a_schedule_that_a_guard_cuts_is_in_force_in_the_next_step(engine):
    guard, history = kg.RevertOnLossIncrease(lr_factor=0.125, tolerance=1000), kg.LossHistory()
    optimizer = own_loops.library_of(engine).optimizers.SGD(schedule(engine))
    model, moves, spoil = make_model(engine), [], nan_in((1, 3))
    step = own_loops.make_step(engine, model, optimizer)
    loop = kg.guarded_loop(model, optimizer, [guard, history], 3, verbose=0)
    for epoch in loop:
        for batch, (x, y) in enumerate(loop.batches(DATA)):
            x, y = spoil(epoch, batch, x, y)
            gradient = 2 * np.mean(predicted(model, x) - y)  # of the last bias
            before = variables(model)[-1]
            loop.report(**step(loop, x, y), size=len(x))
            moves.append(float((before - variables(model)[-1])[0] / gradient))
    rates = 0.1 * 0.9 ** (np.array([*range(8), *range(4, 8)]) / 2)
    rates[8:] *= 0.125
    np.testing.assert_allclose(history.batches["learning_rate"], rates, rtol=1e-5)
    np.testing.assert_allclose(np.delete(moves, 7), np.delete(rates, 7), rtol=1e-3)


@each_engine
def test_moving_averages_end_as_the_weights_of_each_model(engine):
    models = [make_model(engine), make_model(engine, seed=2)]
    optimizers = [adam(engine, use_ema=True), adam(engine, use_ema=True)]
    loop = kg.guarded_loop(models, optimizers, epochs=1, verbose=0)
    steps = [own_loops.make_step(engine, *pair) for pair in zip(models, optimizers, strict=True)]
    for _ in loop:
        for x, y in loop.batches(DATA):
            reports, state = step_both(loop, steps, x, y)
            loop.report(reports[0]["loss"], state=state)
        before = [variables(model) for model in models]
    for model, optimizer, old in zip(models, optimizers, before, strict=True):
        averages = optimizer._model_variables_moving_average
        averages = [np.array(kg._framework.to_numpy(v)) for v in averages]
        assert differing(averages, variables(model)[: len(averages)]) == []
        assert differing(old, variables(model)) != []
