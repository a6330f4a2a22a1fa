"""Loops and what they are compared with, for the tests of `guarded_loop`."""

import helpers
import keras
import own_loops
import pytest
from own_loops import batches_of, make_model, variables

import pykguard as kg

X, Y = helpers.line(30)  # the last of the batches of 8 is smaller
DATA = batches_of(X, Y)
SIZES = [8, 8, 8, 6]
ENGINE = own_loops.ENGINES[0]

each_engine = pytest.mark.parametrize("engine", own_loops.ENGINES)


def adam(engine=ENGINE, rate=0.01, **options):
    return own_loops.library_of(engine).optimizers.Adam(rate, **options)


def schedule(engine):
    return own_loops.library_of(engine).optimizers.schedules.ExponentialDecay(0.1, 2, 0.9)


def fit(engine, optimizer, callbacks=(), *, epochs=3, data=None):
    """The same training by `fit`; returns model and History."""
    model = make_model(engine)
    compiled = {"jit_compile": engine.startswith("jax")}
    model.compile(optimizer, "mse", run_eagerly=engine == "tf eager", **compiled)
    if data is None:
        given = {"x": X, "y": Y, "batch_size": 8, "shuffle": False}
    else:
        given = {"x": data, "steps_per_epoch": len(DATA)}
    history = model.fit(**given, epochs=epochs, verbose=0, callbacks=list(callbacks))
    return model, history


def idle(loop, losses, size=1):
    """Run a loop in which nothing is trained and these losses are reported in each epoch."""
    state = {"state": None}
    with pytest.warns(kg.GuardWarning, match="took no step"):
        for _ in loop:
            for loss in loop.batches(losses):
                if helpers.BACKEND == "jax":
                    state["state"] = loop.state()
                loop.report(loss, size=size, **state)
    return loop


def make_idle(callbacks=(), **options):
    """A loop with a built model, for tests in which nothing is trained."""
    return kg.guarded_loop(make_model(ENGINE), adam(), callbacks, **{"verbose": 0, **options})


class Calls(keras.callbacks.Callback):
    """Which hooks were called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def on_train_begin(self, logs=None):
        self.names.append("train begin")

    def on_train_end(self, logs=None):
        self.names.append("train end")

    def on_epoch_begin(self, epoch, logs=None):
        self.names.append(f"epoch {epoch} begin")

    def on_epoch_end(self, epoch, logs=None):
        self.names.append(f"epoch {epoch} end")

    def on_train_batch_begin(self, batch, logs=None):
        self.names.append(f"batch {batch} begin")

    def on_train_batch_end(self, batch, logs=None):
        self.names.append(f"batch {batch} end")


def train_two(engine, data, guard=None, spoil=own_loops.as_is, **options):
    """Two models that are trained in turn in each batch; returns what all of it holds."""
    models = [make_model(engine, seed=1), make_model(engine, seed=2, units=3)]
    optimizers = [adam(engine), own_loops.library_of(engine).optimizers.SGD(0.01, momentum=0.9)]
    loop = kg.guarded_loop(models, optimizers, guard, verbose=0, **options)
    steps = [own_loops.make_step(engine, *pair) for pair in zip(models, optimizers, strict=True)]
    for epoch in loop:
        for batch, (x, y) in enumerate(loop.batches(data)):
            reports, state = step_both(loop, steps, *spoil(epoch, batch, x, y))
            losses = [each["loss"] for each in reports]
            loop.report(losses[0], size=len(x), other=losses[1], state=state)
    held = [v for pair in zip(models, optimizers, strict=True) for v in variables(*pair)]
    return loop, held


def step_both(loop, steps, x, y):
    """Each model's report, and all of their states, if steps return them."""
    reports = [step(Part(loop, i), x, y) for i, step in enumerate(steps)]
    return reports, [each["state"] for each in reports if "state" in each] or None


class Part:
    """A loop as the step of one of its models sees it."""

    def __init__(self, loop, place):
        self.loop, self.place = loop, place

    def state(self):
        return self.loop.state()[self.place]


def body(loop, do):
    for epoch in loop:
        do(loop, epoch)


def one_batch(loop, epoch):
    for _ in loop.batches(range(1)):
        loop.report(1.0, **({"state": loop.state()} if helpers.BACKEND == "jax" else {}))


def built_for(model):
    optimizer = adam()
    optimizer.build(model.trainable_variables)
    return optimizer
