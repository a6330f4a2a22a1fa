"""The learning rates that optimizers really use after a change, by kguard and by Keras alone.

Each rate is measured: the model has one weight and a gradient of 1, so a step of plain SGD moves
the weight by the rate. Printed are the rates of the three steps after the change.

Usage: KERAS_BACKEND=… python tests/python/learning_rate_table.py
"""

import itertools
import os
from importlib.util import find_spec

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import pykguard as kg

BACKEND = keras.backend.backend()
LEGACY = ["tf_keras"] if find_spec("tf_keras") else []
ENGINES = {"tensorflow": ["tf eager", "tf compiled", *LEGACY]}.get(BACKEND, [BACKEND])
KINDS = ["float", "schedule", "callable"]
WHEN = ["before", "between", "inside", "own loop"]
CASES = list(itertools.product(ENGINES, KINDS, KINDS, WHEN, [True, False]))
STEPS = 4  # in an epoch
TAKEN = {"before": 0, "between": STEPS, "inside": STEPS + 2, "own loop": 3}


def library_of(engine):
    if engine == "tf_keras":
        import tf_keras

        return tf_keras
    return keras


def old_rate(kind, library):
    if kind == "schedule":
        return library.optimizers.schedules.ExponentialDecay(0.25, 4, 0.5)
    return 0.125 if kind == "float" else lambda: 0.375


def new_rate(kind, library):
    if kind == "schedule":
        return library.optimizers.schedules.InverseTimeDecay(0.2, 3, 0.5)
    return 0.05 if kind == "float" else lambda: 0.03


def expected(kind, when, restart):
    """The rates of the three steps after the change, by the schedule's formula."""
    if kind == "schedule":
        start = 0 if restart else TAKEN[when]
        return [0.2 / (1 + 0.5 * step / 3) for step in range(start, start + 3)]
    return [0.05 if kind == "float" else 0.03] * 3


def with_kguard(model_or_optimizer, rate, restart):
    kg.reset_learning_rate(model_or_optimizer, rate, restart=restart)


def with_keras(model_or_optimizer, rate, restart):
    getattr(model_or_optimizer, "optimizer", model_or_optimizer).learning_rate = rate


def weight_of(model):
    value = getattr(model.weights[0], "value", None)
    if value is None or callable(value):  # tf_keras
        return np.float64(model.weights[0].numpy().ravel()[0])
    return np.float64(np.ravel(keras.ops.convert_to_numpy(value))[0])


def make_model(engine, rate):
    """A model of one weight, whose gradient is 1, and its optimizer, plain SGD."""
    library = library_of(engine)
    dense = library.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = library.Sequential([library.layers.InputLayer((1,)), dense])
    if engine == "tf_keras" and callable(rate) and not hasattr(rate, "get_config"):
        optimizer = library.optimizers.legacy.SGD(rate)  # the newer ones take no callable
    else:
        optimizer = library.optimizers.SGD(rate)
    model.compile(optimizer, loss_of(engine), run_eagerly=engine == "tf eager")
    return model, optimizer


def loss_of(engine):
    if engine == "tf_keras":
        import tensorflow as tf

        return lambda y_true, y_pred: tf.reduce_mean(y_pred)
    return lambda y_true, y_pred: keras.ops.mean(y_pred)


def measure(engine, old, new, when, restart, change):
    """The rates of the three steps after `change(model_or_optimizer, rate, restart)`."""
    library = library_of(engine)
    model, optimizer = make_model(engine, old_rate(old, library))
    rate = new_rate(new, library)
    if when == "own loop":
        weights = own_loop(engine, model, optimizer, lambda: change(optimizer, rate, restart))
    else:
        weights = in_fit(engine, model, when, lambda target: change(target, rate, restart))
    weights = np.array([0.0, *weights])
    return (weights[:-1] - weights[1:])[TAKEN[when] : TAKEN[when] + 3]


def in_fit(engine, model, when, change):
    weights, x = [], np.ones((STEPS, 1), "float32")

    class Notes(library_of(engine).callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            weights.append(weight_of(self.model))
            if when == "inside" and len(weights) == TAKEN[when]:
                change(self.model)

    options = {"batch_size": 1, "verbose": 0, "callbacks": [Notes()]}
    if when == "before":
        change(model)
    if when == "between":
        model.fit(x, x, **options)
        change(model)
        model.fit(x, x, **options)
    else:
        model.fit(x, x, epochs=3, **options)
    return weights


def own_loop(engine, model, optimizer, change):
    """Six steps, with the change after the third."""
    step, weights = make_step(engine, model, optimizer), []
    for number in range(6):
        if number == TAKEN["own loop"]:
            change()
        step()
        weights.append(weight_of(model))
    return weights


def make_step(engine, model, optimizer):
    """A step of one's own, compiled where the engine's are."""
    x = np.ones((1, 1), "float32")
    if engine == "torch":
        return torch_step(model, optimizer, x)
    if engine == "jax":
        return jax_step(model, optimizer, x)
    import tensorflow as tf

    variables = model.trainable_variables

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x))
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    return step if engine == "tf eager" else tf.function(step)


def torch_step(model, optimizer, x):
    import torch

    def step():
        model.zero_grad()
        keras.ops.mean(model(x)).backward()
        gradients = [v.value.grad for v in model.trainable_weights]
        with torch.no_grad():
            optimizer.apply(gradients, model.trainable_weights)

    return step


def jax_step(model, optimizer, x):
    """The stateless step of Keras' guide to JAX; the variables are brought up to date after it."""
    import jax

    optimizer.build(model.trainable_variables)

    def loss_of(trainable):
        outputs, _ = model.stateless_call(trainable, [], x)
        return keras.ops.mean(outputs)

    @jax.jit
    def compiled(trainable, held):
        gradients = jax.grad(loss_of)(trainable)
        return optimizer.stateless_apply(held, gradients, trainable)

    def step():
        trainable = [v.value for v in model.trainable_variables]
        held = [v.value for v in optimizer.variables]
        trainable, held = compiled(trainable, held)
        for variables, values in (
            (model.trainable_variables, trainable),
            (optimizer.variables, held),
        ):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)

    return step


def right_or_told(case, wanted, change):
    """Whether the measured rates are the wanted ones; and the rates, or the error, as text."""
    try:
        rates = measure(*case, change)
    except Exception as error:
        return False, type(error).__name__
    right = np.allclose(rates, wanted, rtol=0, atol=1e-6)
    return right, " ".join(f"{rate:.6f}" for rate in rates) + ("" if right else " x")


def main():
    print(f"{'':<56}{'expected':<29}{'kguard':<29}Keras alone")
    right = {engine: np.zeros(2, int) for engine in ENGINES}
    for case in CASES:
        engine, old, new, when, restart = case
        wanted = expected(new, when, restart)
        results = [right_or_told(case, wanted, change) for change in (with_kguard, with_keras)]
        right[engine] += [is_right for is_right, _ in results]
        name = f"{engine}: {old} -> {new}, {when}, restart={restart}"
        texts = [" ".join(f"{rate:.6f}" for rate in wanted), *(text for _, text in results)]
        print(f"{name:<56}{texts[0]:<29}{texts[1]:<29}{texts[2]}", flush=True)
    n = len(CASES) // len(ENGINES)
    for engine, (ours, theirs) in right.items():
        print(f"{engine}: right in {ours} of {n} cases with kguard, in {theirs} with Keras alone")
    raise SystemExit(any(ours < n for ours, _ in right.values()))


if __name__ == "__main__":
    main()
