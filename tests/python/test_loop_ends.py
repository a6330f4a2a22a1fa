"""How loops of one's own end: by the steps, by `break`, by errors."""

import contextlib
import sys

import helpers
import keras
import own_loops
import pytest
from loop_cases import DATA, ENGINE, Calls, adam, body, make_idle, one_batch
from own_loops import differing, make_model, run, variables

import pykguard as kg


# ---------------------------------------------------------------- steps
def test_longer_data_are_cut_and_a_generator_goes_on():
    taken = []
    loop = make_idle(epochs=2, steps=3)
    numbers = iter(range(100))
    with pytest.warns(kg.GuardWarning, match="took no step"):
        for _ in loop:
            for number in loop.batches(numbers):
                taken.append(number)
                loop.report(1.0, **({"state": loop.state()} if helpers.BACKEND == "jax" else {}))
    assert taken == list(range(6))


@pytest.mark.filterwarnings("ignore:guarded_loop")
def test_steps_are_those_of_the_epoch_whichever_data_they_come_from():
    taken = []
    loop = make_idle(steps=3)
    for _ in loop:
        for data in ("ab", "cd", "ef"):
            for letter in loop.batches(data):
                taken.append(letter)
                loop.report(1.0, **({"state": loop.state()} if helpers.BACKEND == "jax" else {}))
    assert taken == ["a", "b", "c"]


def test_data_that_end_too_soon_are_told():
    with pytest.warns(kg.GuardWarning, match="the data ended after 2 of 3 `steps`"):
        run(ENGINE, make_model(ENGINE), adam(), DATA[:2], steps=3)


def test_an_optimizer_that_is_not_used_is_told():
    with pytest.warns(kg.GuardWarning, match="took no step in the first epoch"):
        body(make_idle(), one_batch)


def test_training_goes_on_at_the_initial_epoch():
    loop = run(ENGINE, make_model(ENGINE), adam(), DATA, initial_epoch=2, epochs=4)
    assert loop.history.epoch == [2, 3]


# ---------------------------------------------------------------- break, errors
def ended(callback, how, *, managed, **options):
    """A model before and after a loop that is left in its second epoch's second batch."""
    model, optimizer = make_model(ENGINE), adam()
    step = own_loops.make_step(ENGINE, model, optimizer)
    loop = kg.guarded_loop(model, optimizer, callback, 3, verbose=0, **options)
    before = None
    with contextlib.suppress(KeyError), loop if managed else contextlib.nullcontext():
        for epoch in loop:
            for batch, (x, y) in enumerate(loop.batches(DATA)):
                last = (epoch, batch) == (1, 1)
                before = variables(model, optimizer) if last else before
                report = step(loop, x, y)
                if last and how == "error":
                    if ENGINE.startswith("jax"):
                        model.trainable_variables[0].assign(report["state"][0][0])
                    assert differing(before, variables(model, optimizer)) != []
                    raise KeyError("mine")
                loop.report(**report, size=len(x))
                if last:
                    break
            if epoch == 1:
                break
    del x, y
    return before, variables(model, optimizer), loop


each_way = pytest.mark.parametrize("managed", [True, False], ids=["with", "for"])


@each_way
def test_a_break_ends_the_training_of_the_callbacks(managed, tmp_path):
    calls = Calls()
    _, _, loop = ended(calls, "break", managed=managed)
    assert calls.names[-2:] == ["batch 1 end", "train end"]
    assert loop.history.epoch == [0]


@each_way
def test_an_error_undoes_the_batch_and_closes_the_files(managed, tmp_path):
    calls, history = Calls(), kg.LossHistory(tmp_path / "losses.csv")
    before, after, _ = ended([calls, history], "error", managed=managed)
    assert differing(before, after) == []
    assert "train end" not in calls.names
    assert history._recording is None and len(history.losses) == 5
    assert len(kg.read_history(tmp_path / "losses.csv")[0].losses) == 5


def test_an_error_leaves_what_was_reported():
    model, optimizer = make_model(ENGINE), adam()

    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.after = variables(model, optimizer)
            raise KeyError("mine")

    fails = Fails()
    before = variables(model)
    with pytest.raises(KeyError):
        run(ENGINE, model, optimizer, DATA, [fails])
    assert differing(before, variables(model)) != []
    assert differing(fails.after, variables(model, optimizer)) == []


def test_without_restoring_an_error_leaves_what_the_batch_did():
    before, after, _ = ended(None, "error", managed=True, restore_on_error=False)
    assert differing(before, after) != []


def test_an_error_says_which_batch_it_ended():
    loop = make_idle()
    with pytest.raises(KeyError) as caught, loop:
        for _ in loop:
            for _ in loop.batches(DATA):
                raise KeyError("mine")
    if sys.version_info >= (3, 11):
        wanted = "guarded_loop: ended in epoch 1, batch 0; the weights are as before that batch"
        assert caught.value.__notes__ == [wanted]


def test_an_error_between_batches_is_known_in_a_with_statement():
    calls = Calls()
    loop = make_idle(calls)
    with pytest.raises(KeyError), loop:
        for _ in loop:
            raise KeyError("mine")
    assert calls.names == ["train begin", "epoch 0 begin"]


def test_an_error_of_a_callback_ends_the_loop(tmp_path):
    history = kg.LossHistory(tmp_path / "losses.csv")
    guard = kg.RevertOnLossIncrease("val_loss")
    loop = make_idle([history, guard])
    with pytest.raises(kg.MonitorError), pytest.warns(kg.GuardWarning, match="took no step"):
        for _ in loop:
            for _ in loop.batches(range(1)):
                loop.report(1.0, **({"state": loop.state()} if helpers.BACKEND == "jax" else {}))
            loop.report_validation(mae=1.0)
    assert history._recording is None


def test_a_break_within_a_batch_is_warned_of_and_undoes_it():
    model, optimizer = make_model(ENGINE), adam()
    step = own_loops.make_step(ENGINE, model, optimizer)
    calls = Calls()
    loop = kg.guarded_loop(model, optimizer, calls, verbose=0)
    before = variables(model, optimizer)
    where = "left in epoch 1, batch 0; the weights are as before that batch; it was not reported"
    with pytest.warns(kg.GuardWarning, match=where), loop:
        for _ in loop:
            for x, y in loop.batches(DATA):
                step(loop, x, y)
                break
            break
    assert differing(before, variables(model, optimizer)) == []
    assert "train end" not in calls.names
