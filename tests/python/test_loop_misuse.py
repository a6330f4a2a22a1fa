"""Loops of one's own that are not written as they must be."""

import helpers
import keras
import numpy as np
import own_loops
import pytest
from loop_cases import ENGINE, adam, body, built_for, make_idle, one_batch
from own_loops import make_model

import pykguard as kg


def never(loop, epoch):
    for _ in loop.batches(range(2)):
        pass


def forgotten_by_break(loop, epoch):
    for _ in loop.batches(range(2)):
        break


def begun_anew(loop, epoch):
    forgotten_by_break(loop, epoch)
    one_batch(loop, epoch)


def twice(loop, epoch):
    one_batch(loop, epoch)
    loop.report(1.0)


def no_batch(loop, epoch):
    loop.report(1.0)


def nothing(loop, epoch):
    pass


def validation_too_soon(loop, epoch):
    for _ in loop.batches(range(2)):
        loop.report_validation(loss=1.0)
        raise AssertionError("it was taken while a batch was open")


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (never, r"batch 0 of epoch 1 was not reported: call `loop.report\(loss=…\)`"),
        (forgotten_by_break, "batch 0 of epoch 1 was not reported"),
        (begun_anew, "batch 0 of epoch 1 was not reported"),
        (validation_too_soon, "batch 0 of epoch 1 was not reported"),
        (twice, "this batch was reported before"),
        (no_batch, "no batch is open"),
        (nothing, "epoch 1 had no batch"),
    ],
)
def test_a_loop_is_told_what_it_lacks(do, message):
    with pytest.raises(kg.LoopError, match=message):
        body(make_idle(), do)


@pytest.mark.filterwarnings("ignore:guarded_loop")
def test_a_loop_runs_once():
    loop = make_idle()
    body(loop, one_batch)
    with pytest.raises(kg.LoopError, match="runs once"):
        body(loop, one_batch)


@pytest.mark.parametrize("call", ["batches", "report_validation"])
def test_outside_of_its_epochs_a_loop_has(call):
    given = ([1],) if call == "batches" else ()
    with pytest.raises(kg.LoopError, match=rf"`{call}\(\)` was called outside of the epochs"):
        getattr(make_idle(), call)(*given)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"loss": None}, kg.OptionTypeError, "`loss` must be a number .* got None"),
        ({"loss": "1.0"}, kg.OptionTypeError, "`loss` must be a number"),
        ({"loss": True}, kg.OptionTypeError, "`loss` must be a number"),
        ({"loss": np.ones(3)}, kg.OptionValueError, r"`loss` .* an array of shape \(3,\)"),
        ({"loss": np.ones(1)}, kg.OptionValueError, r"`loss` .* an array of shape \(1,\)"),
        ({"loss": np.array(1j)}, kg.OptionTypeError, "`loss` must be a number"),
        ({"loss": keras.KerasTensor(())}, kg.OptionTypeError, "outside the compiled step"),
        ({"loss": 1.0, "size": 0}, kg.OptionValueError, "`size` must be a whole number"),
        ({"loss": 1.0, "size": 2.5}, kg.OptionTypeError, "`size` must be a whole number"),
        ({"loss": 1.0, "mae": "x"}, kg.OptionTypeError, "`mae` must be a number"),
        ({"loss": 1.0, "val_mae": 1.0}, kg.OptionValueError, r"report_validation\(\)"),
    ],
)
def test_what_is_reported_must_be_a_number(given, error, message):
    def do(loop, epoch):
        for _ in loop.batches(range(1)):
            loop.report(**given)

    with pytest.raises(error, match=message):
        body(make_idle(), do)


@helpers.only_on("tensorflow", "placeholders of TensorFlow")
def test_a_loss_that_is_not_known_yet_is_refused():
    import tensorflow as tf

    def do(loop, epoch):
        for _ in loop.batches(range(1)):
            tf.function(lambda: loop.report(tf.constant(1.0)), autograph=False)()

    with pytest.raises(kg.OptionTypeError, match="outside the compiled step"):
        body(make_idle(), do)


def unbuilt():
    return keras.Sequential([keras.layers.Dense(1)])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: (m, [adam(), adam()]), kg.OptionValueError, "one for each of the 1 models"),
        (lambda m: ([m], []), kg.OptionValueError, "one for each of the 1 models"),
        (lambda m: ([m, make_model(ENGINE)], adam()), kg.OptionValueError, "of the 2 models"),
        (lambda m: (m, "adam"), kg.OptionTypeError, "`optimizers` must be a Keras optimizer"),
        (lambda m: ("model", adam()), kg.OptionTypeError, "`models` must be a Keras model"),
        (lambda m: ([], []), kg.OptionValueError, "`models` must be a Keras model"),
        (lambda m: ([m, m], [adam(), adam()]), kg.OptionValueError, "a list of different ones"),
        (lambda m: (unbuilt(), adam()), kg.OptionValueError, "call it on a batch first"),
        (
            lambda m: (m, built_for(make_model(ENGINE))),
            kg.OptionValueError,
            "of model 1 of 1 was built for others than the trainable variables",
        ),
    ],
)
def test_models_and_optimizers_have_to_fit(make, error, message):
    with pytest.raises(error, match=message):
        kg.guarded_loop(*make(make_model(ENGINE)))


def test_an_optimizer_may_be_built_for_a_part_of_its_model():
    model, optimizer = make_model(ENGINE), adam()
    optimizer.build(model.trainable_variables[:2])
    assert kg.guarded_loop(model, optimizer)


def test_one_optimizer_for_two_models_is_refused():
    optimizer = adam()
    with pytest.raises(kg.OptionValueError, match="one for each of the 2 models"):
        kg.guarded_loop([make_model(ENGINE), make_model(ENGINE)], [optimizer, optimizer])


@pytest.mark.skipif("tf_keras" not in own_loops.ENGINES, reason="tf_keras is not installed")
def test_the_two_libraries_are_not_mixed():
    with pytest.raises(kg.OptionValueError, match="of tf_keras, as the models are"):
        kg.guarded_loop(make_model("tf_keras"), adam("tf eager"))
    with pytest.raises(kg.OptionTypeError, match="of tf_keras, as the models are"):
        early = keras.callbacks.EarlyStopping("loss")
        kg.guarded_loop(make_model("tf_keras"), adam("tf_keras"), early)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("initial_epoch", 1),
        ("initial_epoch", -1),
        ("steps", 0),
        ("verbose", 3),
        ("verbose", True),
        ("restore_on_error", 1),
        ("callbacks", ["early"]),
    ],
)
def test_a_bad_option_is_refused_by_name(option, value):
    with pytest.raises((kg.OptionValueError, kg.OptionTypeError), match=f"`{option}` must be"):
        kg.guarded_loop(make_model(ENGINE), adam(), **{option: value})


def test_data_that_cannot_be_gone_through_are_refused():
    with pytest.raises(kg.OptionTypeError, match="`data` must be something that gives batches"):
        body(make_idle(), lambda loop, epoch: loop.batches(3))
