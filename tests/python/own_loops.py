"""Training steps of one's own, as users write them, for each backend."""

from importlib.util import find_spec

import helpers
import keras
import numpy as np

import pykguard as kg

ENGINES = {
    "tensorflow": ["tf eager", "tf.function", *(["tf_keras"] if find_spec("tf_keras") else [])],
    "jax": ["jax stateless", "jax in place"],
    "torch": ["torch"],
}[helpers.BACKEND]


def library_of(engine):
    if engine == "tf_keras":
        import tf_keras

        return tf_keras
    return keras


def batches_of(x, y, size=8):
    """Batches in order; the last one may be smaller."""
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def make_model(engine, *, seed=1, units=4):
    library = library_of(engine)
    library.utils.set_random_seed(seed)
    layers = library.layers
    return library.Sequential(
        [layers.Input((3,)), layers.Dense(units, activation="tanh"), layers.Dense(1)]
    )


def make_step(engine, model, optimizer):
    """`step(loop, x, y)` trains on a batch; it returns what `report()` takes of it."""
    loss_of = library_of(engine).losses.MeanSquaredError()
    makers = {
        "torch": torch_step,
        "jax stateless": stateless_step,
        "jax in place": step_in_place,
        "tf.function": compiled_step,
        "tf_keras": compiled_step,
    }
    return makers.get(engine, eager_step)(model, optimizer, loss_of)


def eager_step(model, optimizer, loss_of, wrap=lambda function: function):
    import tensorflow as tf

    variables = model.trainable_variables

    @wrap
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_of(y, model(x, training=True))
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return lambda loop, x, y: {"loss": step(tf.constant(x), tf.constant(y))}


def compiled_step(model, optimizer, loss_of):
    import tensorflow as tf

    return eager_step(model, optimizer, loss_of, wrap=tf.function(reduce_retracing=True))


def torch_step(model, optimizer, loss_of):
    import torch

    def step(loop, x, y):
        model.zero_grad()
        loss = loss_of(torch.tensor(y), model(torch.tensor(x), training=True))
        loss.backward()
        gradients = [v.value.grad for v in model.trainable_variables]
        with torch.no_grad():
            optimizer.apply(gradients, model.trainable_variables)
        return {"loss": loss}

    return step


def stateless_step(model, optimizer, loss_of):
    import jax

    def loss_and_updates(trainable, held, x, y):
        outputs, held = model.stateless_call(trainable, held, x, training=True)
        return loss_of(y, outputs), held

    @jax.jit
    def compiled(state, x, y):
        trainable, held, slots = state
        of = jax.value_and_grad(loss_and_updates, has_aux=True)
        (loss, held), gradients = of(trainable, held, x, y)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return loss, (trainable, held, slots)

    def step(loop, x, y):
        loss, state = compiled(tuple(loop.state()), x, y)
        return {"loss": loss, "state": state}

    return step


def step_in_place(model, optimizer, loss_of):
    def step(loop, x, y):
        loss, gradients = helpers.value_and_gradients(
            lambda: loss_of(y, model(x, training=True)), model.trainable_variables
        )
        optimizer.apply(gradients, model.trainable_variables)
        return {"loss": loss}

    return step


def as_is(epoch, batch, x, y):
    """Spoils nothing."""
    return x, y


def run(engine, model, optimizer, data, callbacks=(), *, spoil=as_is, **options):
    """A loop over `data`; returns it. In an epoch, `spoil(epoch, batch, x, y)` makes each batch."""
    step = make_step(engine, model, optimizer)
    options = {"verbose": 0, **options}
    loop = kg.guarded_loop(model, optimizer, list(callbacks), **options)
    for epoch in loop:
        for batch, (x, y) in enumerate(loop.batches(data)):
            x, y = spoil(epoch, batch, x, y)
            loop.report(**step(loop, x, y), size=len(x))
    return loop


def nan_in(*places):
    """Spoils the batches at the given places, pairs of epoch and batch."""

    def spoil(epoch, batch, x, y):
        return (x * np.float32("nan"), y) if (epoch, batch) in places else (x, y)

    return spoil


def variables(model, optimizer=None):
    """What a model and its optimizer hold."""
    held = list(model.variables)
    if optimizer is not None:
        more = optimizer.variables
        held += more() if callable(more) else more
    return [np.array(kg._framework.to_numpy(v)) for v in held]


def differing(one, other):
    pairs = enumerate(zip(one, other, strict=True))
    return [place for place, (a, b) in pairs if a.tobytes() != b.tobytes()]
