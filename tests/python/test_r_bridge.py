"""What the Python half of the R package does, with Python functions in place of R's."""

import inspect
from concurrent.futures import ThreadPoolExecutor

import helpers
import keras
import pytest

from pykguard import (
    GuardError,
    GuardWarning,
    LossHistory,
    OptionValueError,
    RevertOnLossIncrease,
    UnsupportedError,
    r_bridge,
)

X, Y = helpers.line()


def r_callback(hooks, core=None, first=1, newest=None):
    told = []
    newest = {} if newest is None else newest
    made = r_bridge.r_callback("Mine", hooks, lambda *both: told.append(both), newest, first, core)
    return made, told


def test_a_guard_is_made():
    made = r_bridge.construct("RevertOnLossIncrease", {"tolerance": 0.5})["made"]
    assert isinstance(made, RevertOnLossIncrease) and made.tolerance == 0.5


@pytest.mark.parametrize("value", [-1, "0.1"])
def test_a_refused_option_is_told_in_parts(value):
    assert r_bridge.construct("RevertOnLossIncrease", {"tolerance": value}) == {
        "argument": "tolerance",
        "requirement": "a finite number of at least 0",
    }


def fit_to_reset(learning_rate, epoch, **options):
    """The callback that R makes, after a fit in which each step lowers the weight by the rate."""
    reset = r_bridge.construct(
        "ResetLearningRate", {"learning_rate": learning_rate, "epoch": epoch}
    )["made"]
    model = helpers.constant_gradient_model(0.125)
    model.fit(*helpers.ones(), batch_size=1, verbose=0, callbacks=[reset], **options)
    return reset


def test_a_reset_counts_epochs_from_one():
    seen = []
    assert [row["epoch"] for row in r_bridge.events(fit_to_reset(0.25, [1, 3], epochs=3))] == [1, 3]
    fit_to_reset(lambda epoch: seen.append(epoch) or 0.5, lambda epoch: epoch > 1, epochs=3)
    assert seen == [2, 3]
    assert fit_to_reset([0.25, 0.5], [3, 2], epochs=3).events[0].learning_rate == 0.5


def test_a_reset_says_of_epochs_what_r_calls_them():
    bad = r_bridge.construct("ResetLearningRate", {"learning_rate": 0.1, "epoch": 0})
    assert bad["requirement"] == "a whole number of at least 1"
    with pytest.raises(OptionValueError, match=r"`epoch` must be at least 4, where .* got 3"):
        fit_to_reset(0.25, 3, initial_epoch=3, epochs=5)
    with pytest.warns(GuardWarning, match="ResetLearningRate: epoch 4, counted from 1, is beyond"):
        fit_to_reset(0.25, 4, epochs=3)


def test_a_rate_is_reset_and_read_or_refused_in_parts():
    model = helpers.constant_gradient_model(0.125)
    assert r_bridge.reset(model, 0.25, True) == {"reset": None}
    assert r_bridge.current(model) == {"rate": 0.25}
    refused = r_bridge.reset(model, r_bridge.Unusable("NA"), True)
    assert (refused["argument"], refused["spelt"]) == ("learning_rate", "NA")
    broken = keras.optimizers.schedules.PiecewiseConstantDecay([1], [-1.0, -1.0])
    assert r_bridge.reset(model, broken, True)["gave"] == -1.0
    assert r_bridge.reset(3, 0.25, True)["argument"] == "object"
    assert r_bridge.current(3) == {
        "argument": "object",
        "requirement": "a Keras model or optimizer",
    }
    assert r_bridge.current(model) == {"rate": 0.25}


def test_functions_of_r_tell_what_they_take():
    def of_r(*arguments):
        return len(arguments)

    nothing, epoch = r_bridge.of_nothing(of_r), r_bridge.of_epoch(of_r)
    assert (list(inspect.signature(nothing).parameters), nothing()) == ([], 0)
    assert (list(inspect.signature(epoch).parameters), epoch(3)) == (["epoch"], 1)
    with pytest.raises(KeyboardInterrupt):
        r_bridge.of_nothing(lambda: r_bridge._INTERRUPTED)()
    with pytest.raises(KeyboardInterrupt):
        r_bridge.of_epoch(lambda epoch: r_bridge._INTERRUPTED)(1)


def test_a_rate_of_r_is_not_called_from_another_thread():
    called = []
    rate = r_bridge.of_nothing(lambda: called.append(1))
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(rate).exception()
    assert isinstance(error, UnsupportedError) and "several devices" in str(error)
    assert called == []


def test_events_count_from_one(marked):
    guard = RevertOnLossIncrease(max_reverts=2)
    helpers.drive(guard, marked, [{"loss": float("nan")}, {"loss": 1}, {"loss": 2}])
    rows = r_bridge.events(guard)
    assert [(row["epoch"], row["restored_from"]) for row in rows[:2]] == [(1, 0), (3, 2)]
    assert rows[1]["line"].startswith("Epoch 3: loss 2 is worse")
    assert rows[0]["batch"] is None


def test_columns_count_from_one():
    history = LossHistory()
    helpers.dense_model().fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[history])
    batches, epochs = r_bridge.columns(history, "batches"), r_bridge.columns(history, "epochs")
    assert batches["epoch"].tolist() == [1, 1, 2, 2]
    assert batches["batch"].tolist() == [1, 2, 1, 2]
    assert epochs["epoch"].tolist() == [1, 2]
    assert history.batches["batch"].tolist() == [0, 1, 0, 1]


def test_an_explanation_counts_from_one_and_has_a_text_for_each_epoch():
    history = LossHistory()
    assert r_bridge.explanation(history)["text"] == []
    helpers.dense_model().fit(X, Y, batch_size=16, epochs=2, verbose=0, callbacks=[history])
    told, explanation = r_bridge.explanation(history), history.explain()
    assert told["quantities"]["epoch"].tolist() == [1, 2]
    assert sorted(set(told["parts"]["epoch"])) == [1, 2]
    assert told["parts"]["amount"] == explanation.parts["amount"]
    assert [text.splitlines()[0] for text in told["text"]] == ["Epoch 1", "Epoch 2"]
    assert "\n\n".join(told["text"]) == str(explanation)


def test_the_runs_of_a_file_are_read_or_its_path_is_refused(tmp_path):
    path = tmp_path / "losses.csv"
    told = r_bridge.read(str(path))
    assert told["argument"] == "path" and told["requirement"].startswith("the name of")
    history = LossHistory(path)
    helpers.dense_model().fit(X, Y, epochs=1, verbose=0, callbacks=[history])
    [run] = r_bridge.read(str(path))["runs"]
    assert run.losses.tolist() == history.losses.tolist()


def test_hooks_count_from_one_and_see_the_logs():
    seen = []
    callback, told = r_callback({"on_epoch_end": lambda i, logs: seen.append((i, logs["loss"]))})
    script = helpers.Scripted(loss=[3, 2])
    model = helpers.dense_model()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[script, callback])
    assert seen == [(1, 3), (2, 2)]
    params, of = told[-1]
    assert of is model and params["epochs"] == 2


def test_hooks_count_from_where_the_front_end_does():
    seen = []
    hooks = {"on_epoch_end": lambda index, logs: seen.append(index)}
    callback, _ = r_callback(hooks, first=0)
    helpers.dense_model().fit(X, Y, epochs=2, verbose=0, callbacks=[callback])
    assert seen == [0, 1]


def test_ctrl_c_in_a_hook_of_r_is_ctrl_c_in_python():
    hooks = {"on_epoch_end": lambda index, logs: "interrupted by the user"}
    callback, _ = r_callback(hooks)
    with pytest.raises(KeyboardInterrupt):
        helpers.dense_model().fit(X, Y, epochs=2, verbose=0, callbacks=[callback])


def test_an_object_of_r_that_is_in_the_list_twice_is_refused():
    newest = {}
    first, second = (r_callback({}, newest=newest)[0] for _ in "ab")
    model = helpers.dense_model()
    with pytest.raises(GuardError, match="Mine: it is in the list of callbacks twice"):
        model.fit(X, Y, verbose=0, callbacks=[first, second])
    model.fit(X, Y, verbose=0, callbacks=[r_callback({}, newest=newest)[0]])
    with pytest.raises(GuardError, match="twice"):
        model.predict(X, verbose=0, callbacks=[first, second])


def test_what_a_hook_returns_reaches_the_callbacks_behind_it():
    callback, _ = r_callback({"on_epoch_end": lambda index, logs: {"mine": index * 10}})
    guard = RevertOnLossIncrease("mine", mode="min")
    helpers.dense_model().fit(X, Y, epochs=2, verbose=0, callbacks=[callback, guard])
    assert (guard.best, helpers.reverts(guard)[0].value) == (10, 20)


def test_only_the_hooks_that_are_overridden_cross_into_r():
    callback, _ = r_callback({"on_epoch_end": lambda index, logs: None})
    mine = {name for name in vars(type(callback)) if name.startswith("on_")}
    in_python = {"on_train_begin", "on_test_begin", "on_predict_begin"}  # look for a second one
    assert mine == {"on_epoch_end"} | in_python


def test_a_subclass_of_a_guard_still_guards():
    guard, begun = RevertOnLossIncrease(), []
    callback, _ = r_callback({"on_epoch_begin": lambda index, logs: begun.append(index)}, guard)
    script = helpers.Scripted(loss=[1, 2])
    helpers.dense_model().fit(X, Y, epochs=2, verbose=0, callbacks=[script, callback])
    assert begun == [1, 2]
    assert [event.epoch for event in guard.events] == [1]


@pytest.mark.parametrize("guard_is_first", [True, False])
def test_a_history_finds_a_guard_with_hooks_in_r(guard_is_first):
    guard, history = RevertOnLossIncrease(), LossHistory()
    callback, _ = r_callback({"on_epoch_begin": lambda index, logs: None}, guard)
    both = [callback, history] if guard_is_first else [history, callback]
    script = helpers.Scripted(loss=[1, 2])
    helpers.dense_model().fit(X, Y, epochs=2, verbose=0, callbacks=[script, *both])
    assert [event.epoch for event in history.events] == [1]
    assert history.events == guard.events and callback.n_reverts == 1


def test_what_is_no_guard_does_not_look_like_one():
    for core in (None, LossHistory()):
        assert not {"events", "n_reverts"} & set(vars(type(r_callback({}, core)[0])))


def test_a_hook_of_a_guard_can_be_called_from_r(marked):
    guard = RevertOnLossIncrease()
    guard.set_model(marked)
    r_bridge.call(guard, "on_train_begin", None, None)
    r_bridge.call(guard, "on_epoch_end", 1, {"loss": 1.0})
    r_bridge.call(guard, "on_epoch_end", 2, {"loss": 2.0})
    assert [event.epoch for event in guard.events] == [1]
