"""The Python half of the R package: callbacks whose hooks are R functions.

Everything that R and Python count differently is translated here, once: epochs and batches are
numbered from 0 in Python and from 1 in R.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras

import pykguard
from pykguard._callback import Callback
from pykguard._errors import OptionTypeError, OptionValueError
from pykguard._warnings import hand_to

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
_SETTERS = ("set_model", "set_params")


def warn_through(function: Callable[[str], Any]) -> None:
    """Let the guards' warnings be warnings of R."""
    hand_to(function)


def construct(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Make the guard `name`.

    Returns:
        `{"made": guard}`, or where an option is refused `{"argument": …, "requirement": …}`, so
        that R can say it in its own words and with the value as R spells it.
    """
    try:
        return {"made": getattr(pykguard, name)(**options)}
    except (OptionTypeError, OptionValueError) as error:
        return {"argument": error.argument, "requirement": error.requirement}


def events(guard: Any) -> list[dict[str, Any]]:
    """A guard's events, each with its line for the console.

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
        for event in guard.events
    ]


def columns(history: Any, what: str) -> dict[str, Any]:
    """The columns `batches` or `epochs` of a LossHistory, counted from 1."""
    found = dict(getattr(history, what))
    for name in ("epoch", "batch"):
        if name in found:
            found[name] = found[name] + 1
    return found


def call(callback: Any, hook: str, index: int | None, logs: Mapping[str, Any] | None) -> None:
    """Call a Python callback's hook from R, where `index` counts from 1."""
    arguments = [] if index is None else [int(index) - 1]
    getattr(callback, hook)(*arguments, None if logs is None else dict(logs))


def r_callback(
    name: str,
    hooks: Mapping[str, Callable[..., Any]],
    tell: Callable[[str, Any], Any],
    core: Any = None,
) -> Any:
    """A Keras callback that calls R for the hooks an R6 class overrides, and for no others.

    Args:
        name: The R6 class's name.
        hooks: R functions by hook: `f(index, logs)`, or `f(logs)` where a hook has no index. A
            dictionary that one returns is merged into `logs`.
        tell: R function that is told `"model"` and `"params"`.
        core: The Python guard behind a subclass of a built-in guard; it takes the hooks that are
            not overridden.
    """
    members: dict[str, Any] = {"__doc__": f"The R6 class {name}."}
    for hook in _WITH_INDEX + _WITHOUT_INDEX:
        if hook in hooks:
            wrap = _indexed if hook in _WITH_INDEX else _plain
            members[hook] = wrap(hooks[hook])
        elif core is not None and not getattr(getattr(core, hook), "_is_default", False):
            members[hook] = _passed_on(getattr(core, hook))
    for setter in _SETTERS:
        members[setter] = _told(setter, tell, core)
    return type(name, (Callback,), members)()


def _from_one(index: int | None) -> int | None:
    return None if index is None else index + 1


def _merge(logs: dict[str, Any] | None, returned: Any) -> None:
    if logs is not None and isinstance(returned, dict):
        logs.update(returned)


def _indexed(function: Callable[..., Any]) -> Callable[..., None]:
    def hook(self: Any, index: int, logs: dict[str, Any] | None = None) -> None:
        _merge(logs, function(index + 1, logs))

    return hook


def _plain(function: Callable[..., Any]) -> Callable[..., None]:
    def hook(self: Any, logs: dict[str, Any] | None = None) -> None:
        _merge(logs, function(logs))

    return hook


def _passed_on(method: Callable[..., Any]) -> Callable[..., None]:
    def hook(self: Any, *args: Any, **kwargs: Any) -> None:
        method(*args, **kwargs)

    return hook


def _told(setter: str, tell: Callable[[str, Any], Any], core: Any) -> Callable[..., None]:
    what = setter.removeprefix("set_")

    def set_it(self: Any, value: Any) -> None:
        getattr(keras.callbacks.Callback, setter)(self, value)
        if core is not None:
            getattr(core, setter)(value)
        tell(what, value)

    return set_it
