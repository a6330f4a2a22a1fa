"""The Python half of the R package: callbacks whose hooks are R functions.

Everything that R and Python count differently is translated here, once: epochs and batches are
numbered from 0 in Python and from 1 in R. Only the hooks of R's own classes count as their front
end does, from 0 in keras 2.16.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

import pykguard
from pykguard import r_loop
from pykguard._callback import TWICE, Callback
from pykguard._errors import (
    ExternalLossError,
    GuardError,
    LoopError,
    OptionTypeError,
    OptionValueError,
    UnsupportedError,
)
from pykguard._framework import to_numpy
from pykguard._warnings import hand_to
from pykguard.external import OnMain
from pykguard.picture import to_plot

_WITH_INDEX = (
    "on_epoch_begin",
    "on_epoch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_test_batch_begin",
    "on_test_batch_end",
    "on_predict_batch_begin",
    "on_predict_batch_end",
)
_WITHOUT_INDEX = (
    "on_train_begin",
    "on_train_end",
    "on_test_begin",
    "on_test_end",
    "on_predict_begin",
    "on_predict_end",
)
_INTERRUPTED = "interrupted by the user"  # what R returns for Ctrl-C in a hook
_BEGINNINGS = ("on_train_begin", "on_test_begin", "on_predict_begin")


class _ResetLearningRate(pykguard.ResetLearningRate):
    _first_epoch = 1


_ResetLearningRate.__name__ = "ResetLearningRate"  # messages name it
_OTHER_THREAD = (
    "`learning_rate` must be a number or a schedule where a model is trained on several devices, "
    "got a function of R's, which cannot be called from their threads"
)
_MADE_FOR_R = {"ResetLearningRate": _ResetLearningRate}
_ARGUMENTS_IN_R = {"model_or_optimizer": "object"}


class _ExternalLossModel(pykguard.ExternalLossModel):
    def _spelt(self, loss: Any) -> str:
        sizes = ("NA" if size is None else str(size) for size in loss.shape)
        return f"a tensor of dimensions {' x '.join(sizes)}"


_ExternalLossModel.__name__ = "ExternalLossModel"


class Unusable:
    """Stands for a value of R that Python would misread, so that it is refused as R spells it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def warn_through(function: Callable[[str], Any]) -> None:
    """Let the guards' warnings be warnings of R."""
    hand_to(function)


def construct(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Make the guard `name`.

    Returns:
        `{"made": guard}`, or where an option is refused `{"argument": …, "requirement": …}`, so
        that R can say it in its own words and with the value as R spells it. What is refused may
        be a part of the option, which is `"spelt"` already, or a number that a schedule `"gave"`.
    """
    return _told("made", lambda: (_MADE_FOR_R.get(name) or getattr(pykguard, name))(**options))


def reset(thing: Any, rate: Any, restart: Any) -> dict[str, Any]:
    """Reset a learning rate: `{"reset": None}`, or what `construct` says of a bad option."""
    return _told("reset", lambda: pykguard.reset_learning_rate(thing, rate, restart=restart))


def current(thing: Any) -> dict[str, Any]:
    """`{"rate": …}`, or what `construct` says of a bad option."""
    return _told("rate", lambda: pykguard.current_learning_rate(thing))


def make_loop(*args: Any, **options: Any) -> dict[str, Any]:
    """Make a loop: `{"made": loop}`, or what `construct` says of a bad option."""
    return _told("made", lambda: r_loop.make(*args, **options))


def ask(loop: r_loop.RLoop, what: str, *args: Any) -> dict[str, Any]:
    """Call a method of a loop.

    Returns:
        `{"value": …}`; what `construct` says of a bad option; or `{"misuse": …}`, how the loop was
        not run as it must be.
    """
    try:
        return _told("value", lambda: getattr(loop, what)(*args))
    except LoopError as error:
        return {"misuse": str(error)}


def of_nothing(function: Callable[[], Any]) -> Callable[[], Any]:
    """A function of R's whose signature says that it takes no arguments."""

    def call_r() -> Any:
        if threading.current_thread() is not threading.main_thread():
            raise UnsupportedError(_OTHER_THREAD)  # where R would end the process
        returned = function()
        _raise_if_interrupted(returned)
        return returned

    return call_r


def of_epoch(function: Callable[[int], Any]) -> Callable[[int], Any]:
    """A function of R's whose signature says that it takes an epoch."""

    def call_r(epoch: int) -> Any:
        returned = function(epoch)
        _raise_if_interrupted(returned)
        return returned

    return call_r


def external_loss(function: Callable[..., Any], name: str, options: dict[str, Any]) -> Any:
    """Make a loss of a function of R's arrays, which returns what it must or what went wrong.

    Returns:
        `{"made": loss}`, or what `construct` says of a bad option.
    """

    def call_r(y_true: Any, y_pred: Any) -> Any:
        returned = _made_by_r(function(y_true, y_pred))
        # Of R's memory nothing may be left to a thread on which R must not run.
        return [np.array(each) for each in returned] if isinstance(returned, list) else returned

    fn = OnMain(call_r, name)
    return _told("made", lambda: pykguard.external_loss(fn, **options))


def external_loss_of_python(function: Any, options: dict[str, Any]) -> Any:
    """As `external_loss()`, of a function of Python's."""
    return _told("made", lambda: pykguard.external_loss(function, **options))


def external_loss_model(model: Any, function: Callable[..., Any], name: str) -> Any:
    """Make a model of a function of R's: `{"made": model}`, or what `construct` says."""

    def call_r(*args: Any) -> Any:
        return _made_by_r(function(*args))

    call_r.__name__ = name
    return _told("made", lambda: _ExternalLossModel(model, call_r))


def events(holder: Any) -> list[dict[str, Any]]:
    """The events of a guard or a history, each with its line for the console.

    Epochs and batches count from 1; epoch 0 is the initial state.
    """
    return [
        {
            **event.to_dict(),
            "epoch": event.epoch + 1,
            "batch": _from_one(event.batch),
            "restored_from": _from_one(event.restored_from),
            "line": str(event),
        }
        for event in holder.events
    ]


def judged_by(guard: Any) -> str:
    """The name of the quantity that a guard judges by, as its events have it."""
    return str(guard.monitor if isinstance(guard, pykguard.SpikeGuard) else guard._monitor_name())


def bad_batches(guard: Any) -> dict[str, list[int]]:
    """The columns of a SpikeGuard's `bad_batches`, counted from 1."""
    rows = guard.bad_batches
    return {
        "epoch": [row.epoch + 1 for row in rows],
        "batch": [row.batch + 1 for row in rows],
        "times": [row.times for row in rows],
    }


def columns(history: Any, what: str) -> dict[str, Any]:
    """The columns `batches` or `epochs` of a LossHistory or a Record, counted from 1."""
    found = dict(getattr(history, what))
    for name in ("epoch", "batch"):
        if name in found:
            found[name] = found[name] + 1
    return found


def explanation(history: Any) -> dict[str, Any]:
    """What `explain()` says, as columns that count from 1, and as a text for each epoch."""
    found = history.explain()
    quantities, parts = found.quantities, found.parts
    return {
        "quantities": {**quantities, "epoch": quantities["epoch"] + 1},
        "parts": {**parts, "epoch": [epoch + 1 for epoch in parts["epoch"]]},
        "text": str(found).split("\n\n") if len(found) else [],
    }


def read(path: Any) -> dict[str, Any]:
    """Read a history's file: `{"runs": [record, …]}`, or what `construct` says of a bad option."""
    return _told("runs", lambda: pykguard.read_history(path))


def picture(history: Any, guard: Any) -> dict[str, Any]:
    """What a plot of a history shows; with the reverts of a guard, unless it is None."""
    events = history.events if guard is None else guard.events
    return to_plot(history.batches, history.epochs, history.batches_per_epoch, events)._asdict()


def call(
    callback: Any, hook: str, index: int | None, logs: Mapping[str, Any] | None, first: int = 1
) -> None:
    """Call a Python callback's hook from R, where `index` counts from `first`."""
    arguments = [] if index is None else [int(index) - first]
    getattr(callback, hook)(*arguments, None if logs is None else dict(logs))


def r_callback(
    name: str,
    hooks: Mapping[str, Callable[..., Any]],
    tell: Callable[[Any, Any], Any],
    newest: dict[str, Any],
    first: int = 1,
    core: Any = None,
) -> Any:
    """A Keras callback that calls R for the hooks an R6 class overrides, and for no others.

    Args:
        name: The R6 class's name.
        hooks: R functions by hook: `f(index, logs)`, or `f(logs)` where a hook has no index. A
            dictionary that one returns is merged into `logs`.
        tell: R function that is told the parameters and the model, when one of them is set.
        newest: Empty, or what was given for the same R6 object before: an object that is in a list
            of callbacks twice is recognised by it.
        first: What R calls the first epoch and the first batch.
        core: The Python guard behind a subclass of a built-in guard; it takes the hooks that are
            not overridden.
    """
    members: dict[str, Any] = {
        "__doc__": f"The R6 class {name}.",
        "set_model": _set_model(tell, newest, core),
        "set_params": _set_params(tell, core),
    }
    for hook in _WITH_INDEX + _WITHOUT_INDEX:
        if hook in hooks:
            with_index = hook in _WITH_INDEX
            members[hook] = _indexed(hooks[hook], first) if with_index else _plain(hooks[hook])
        elif core is not None and not getattr(getattr(core, hook), "_is_default", False):
            members[hook] = _passed_on(getattr(core, hook))
    if core is not None:
        members["core"] = core  # by which a LossHistory finds itself in the list
    if hasattr(core, "n_reverts"):  # by which a LossHistory knows a guard
        members["events"] = property(lambda self: core.events)
        members["n_reverts"] = property(lambda self: core.n_reverts)
    for hook in _BEGINNINGS:
        members[hook] = _once(members.get(hook), newest)
    return type(name, (Callback,), members)()


def _told(what: str, make: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {what: make()}
    except (OptionTypeError, OptionValueError) as error:
        return {
            "argument": _ARGUMENTS_IN_R.get(error.argument, error.argument),
            "requirement": error.requirement,
            **_instead(error.value),
        }


def _instead(value: Any) -> dict[str, Any]:
    """What was refused, where that is a part of the option or what a function or schedule gave."""
    if isinstance(value, Unusable):
        return {"spelt": value.text}
    return {"gave": to_numpy(value).tolist()} if keras.ops.is_tensor(value) else {}


def _made_by_r(returned: Any) -> Any:
    """What a function of R's returned; raises where it says that it failed."""
    _raise_if_interrupted(returned)
    if isinstance(returned, dict) and "failed" in returned:
        error = ExternalLossError(returned["failed"])
        vars(error).update(getattr(returned.get("condition"), "__dict__", {}))
        raise error
    return returned


def _from_one(index: int | None) -> int | None:
    return None if index is None else index + 1


def _merge(logs: dict[str, Any] | None, returned: Any) -> None:
    _raise_if_interrupted(returned)
    if logs is not None and isinstance(returned, dict):
        logs.update(returned)


def _raise_if_interrupted(returned: Any) -> None:
    if isinstance(returned, str) and returned == _INTERRUPTED:
        raise KeyboardInterrupt


def _indexed(function: Callable[..., Any], first: int) -> Callable[..., None]:
    def hook(self: Any, index: int, logs: dict[str, Any] | None = None) -> None:
        _merge(logs, function(index + first, logs))

    return hook


def _plain(function: Callable[..., Any]) -> Callable[..., None]:
    def hook(self: Any, logs: dict[str, Any] | None = None) -> None:
        _merge(logs, function(logs))

    return hook


def _passed_on(method: Callable[..., Any]) -> Callable[..., None]:
    def hook(self: Any, *args: Any, **kwargs: Any) -> None:
        method(*args, **kwargs)

    return hook


def _once(method: Callable[..., None] | None, newest: dict[str, Any]) -> Callable[..., None]:
    def hook(self: Any, logs: dict[str, Any] | None = None) -> None:
        other = newest["callback"]()
        if other is not None and other is not self:
            raise GuardError(f"{type(self).__name__}: {TWICE}")
        if method is not None:
            method(self, logs)

    return hook


def _set_model(
    tell: Callable[[Any, Any], Any], newest: dict[str, Any], core: Any
) -> Callable[..., None]:
    def set_model(self: Any, model: Any) -> None:
        keras.callbacks.Callback.set_model(self, model)
        newest["callback"] = weakref.ref(self)
        if core is not None:
            core.set_model(model)
        _raise_if_interrupted(tell(self.params, model))

    return set_model


def _set_params(tell: Callable[[Any, Any], Any], core: Any) -> Callable[..., None]:
    def set_params(self: Any, params: Any) -> None:
        keras.callbacks.Callback.set_params(self, params)
        if core is not None:
            core.set_params(params)
        _raise_if_interrupted(tell(params, self.model))

    return set_params
