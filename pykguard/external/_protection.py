"""Leaves a model as it was before a batch whose external loss failed.

When a function that a compiled step calls raises an error, the step ends in the middle: on
TensorFlow some variables may be written already, and on JAX `fit` has given all of them away. Keras
has no hook around a step, so `make_train_function()` and `make_test_function()` of `keras.Model`
are replaced, once for all models; for those without an external loss they do as before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import keras

from pykguard._built_for import is_built_for_others
from pykguard._errors import OptionValueError, UnsupportedError
from pykguard._framework import backend_of
from pykguard.external import _apart, _failure

Function = Callable[..., Any]


def install() -> None:
    """Have the steps of models with external losses protected."""
    models = [keras.Model]
    if "tf_keras" in sys.modules:
        models.append(sys.modules["tf_keras"].Model)
    for model in models:
        for phase in ("train", "test"):
            name = f"make_{phase}_function"
            make = getattr(model, name)
            if not hasattr(make, "without_protection"):
                setattr(model, name, _protecting(make, phase))


def is_protected(model: Any) -> bool:
    """Whether the model's loss, or one of its losses, says that its steps are to be protected."""
    losses = keras.tree.flatten(getattr(model, "loss", None))
    return any(getattr(each, "protects_steps", False) for each in [model, *losses])


def _protecting(make: Function, phase: str) -> Function:
    attribute = f"{phase}_function"

    def make_function(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = getattr(self, attribute)
        result = make(self, *args, **kwargs)
        made = getattr(self, attribute)
        if made is not before and is_protected(self):
            _refuse_xla(self)
            if phase == "train":
                _refuse_optimizer_of_others(self)
            protect = _protected_on_jax if backend_of(self) == "jax" else _protected
            setattr(self, attribute, protect(self, made, phase))
        return None if result is None else getattr(self, attribute)

    make_function.without_protection = make  # type: ignore[attr-defined]
    make_function.__doc__ = make.__doc__
    make_function.__name__ = make.__name__
    return make_function


def _refuse_xla(model: Any) -> None:
    if backend_of(model) == "tensorflow" and model.jit_compile and not model.run_eagerly:
        raise UnsupportedError(
            "XLA cannot compile an external loss on TensorFlow: use `compile(jit_compile=False)`"
        )


def _refuse_optimizer_of_others(model: Any) -> None:
    # On JAX Keras takes one variable's moments for another's; in 3.7 its own refusal fails.
    judged = isinstance(model, keras.Model) and model.built
    if judged and is_built_for_others(model.optimizer, model):
        requirement = f"built for the trainable variables of {model.name!r}, or for none yet"
        raise OptionValueError("optimizer", requirement, model.optimizer)


def _protected(model: Any, function: Function, phase: str) -> Function:
    """The function of Keras' for a batch, with a copy of the state taken before each."""
    from pykguard.snapshots import Snapshot, snapshots_for

    snapshots = snapshots_for(model, optimizer=True)
    kept: Snapshot | None = None
    trace = getattr(function, "get_concrete_function", None)
    if _apart.must_run_apart(model):
        function = _apart.on_tensorflow(function)

    def protected(*args: Any) -> Any:
        nonlocal kept
        _failure.taken()
        if trace is not None and not model.built:  # of tf_keras, which builds in the first step
            trace(*args)
        if phase == "train" and model.built:
            kept = snapshots.take(into=kept)
        try:
            return function(*args)
        except (Exception, KeyboardInterrupt) as error:
            failure = _failure.taken()
            if failure is None and _ends_data(error):
                raise
            if kept is not None:
                snapshots.restore(kept)
            if failure is None or failure is error or isinstance(error, KeyboardInterrupt):
                raise
            raise failure from error

    return protected


def _ends_data(error: BaseException) -> bool:
    """Whether there were no more batches: steps before the end of the data count."""
    return isinstance(error, StopIteration) or type(error).__name__ == "OutOfRangeError"


def _protected_on_jax(model: Any, function: Function, phase: str) -> Function:
    """The function for a batch, made of a step that does not take the arrays it is given away."""
    import jax

    step = getattr(model, f"{phase}_step")
    if model.jit_compile and not model.run_eagerly:
        step = jax.jit(step, out_shardings=_shardings(model, phase))
    if _apart.must_run_apart(model):
        step = _apart.on_jax(step)

    def protected(state: Any, data: Any) -> Any:
        _failure.taken()
        try:
            return jax.block_until_ready(step(state, data))
        except (Exception, KeyboardInterrupt) as error:
            _give_back(model, state, phase)
            failure = _failure.taken()
            if failure is None or isinstance(error, KeyboardInterrupt):
                raise
            raise failure from error

    return model._make_function(protected)  # type: ignore[no-any-return]


def _kinds(phase: str) -> list[str]:
    """The kinds of variables in the state that Keras gives to a step on JAX."""
    optimizer = ["optimizer_variables"] if phase == "train" else []
    return ["trainable_variables", "non_trainable_variables", *optimizer, "metrics_variables"]


def _shardings(model: Any, phase: str) -> Any:
    if keras.distribution.distribution() is None:
        return None
    trainable, non_trainable, optimizer, metrics = model._get_state_sharding_spec()
    if phase == "train":
        return None, (trainable, non_trainable, optimizer, metrics)
    return None, (trainable, non_trainable, metrics)


def _give_back(model: Any, state: Any, phase: str) -> None:
    """Let the variables, which Keras has emptied, have the values that the step was given."""
    model._jax_state = dict(zip(_kinds(phase), state, strict=True))
    model._jax_state_synced = False
    model.jax_state_sync()
    model._jax_state = None
