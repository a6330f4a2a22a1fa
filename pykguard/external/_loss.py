"""Keras losses made of plain NumPy functions."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from types import CellType
from typing import Any

import keras
import numpy as np

from pykguard import _checks
from pykguard._errors import OptionTypeError, OptionValueError, UnsupportedError
from pykguard._framework import BACKENDS
from pykguard.external import _protection
from pykguard.external._apart import TracedApartError
from pykguard.external._host import Host, Spsa
from pykguard.external._main_thread import is_apart

GRADIENTS = ("returned", "spsa")


def external_loss(
    fn: Callable[[Any, Any], Any],
    *,
    gradient: str = "returned",
    perturbation: float = 0.01,
    n_draws: int = 1,
    seed: int | None = None,
    name: str | None = None,
) -> keras.losses.Loss:
    """Make a Keras loss of a plain NumPy function.

    It is given to `compile()` as any other loss, one for each output where there are several, and
    works in the compiled steps of TensorFlow and JAX and on torch::

        def mse(y_true, y_pred):
            error = y_pred - y_true
            return (error**2).mean(axis=-1), 2 * error / error.shape[-1]

        model.compile("adam", loss=external_loss(mse))

    `fn(y_true, y_pred)` gets NumPy arrays of its own, float32 unless `keras.config.floatx()` is
    float64 (float32 also for predictions of half precision), of the shapes that Keras gives to a
    loss: `(rows, …)`. Its loss is a number, the loss of the batch, or an array of shape `(rows,)`,
    one loss a sample. Only losses of samples can be weighted, by sample weights, class weights or
    a mask that has one value a sample; and each has to depend on its own sample's prediction only.
    Keras logs the mean of them, and trains on it.

    With `gradient="returned"`, `fn` returns `(loss, gradient)`, where the gradient has the shape of
    `y_pred`: of the batch's loss, `dL/dy_pred`; or in row `i` that of sample `i`'s loss,
    `dl_i/dy_pred[i]`, not divided by the number of samples. `fn` is called once a batch.

    With `gradient="spsa"`, `fn` returns the loss only, and the gradient is estimated by
    simultaneous perturbation. `D` has the shape of `y_pred` and is 1 or -1 at each place, with
    equal odds; over `n_draws` of them the mean is taken of

        g = D * (l(y_pred + c D) - l(y_pred - c D)) / (2 c),    c = `perturbation`

    where the loss `l` of the batch perturbs all samples at once, and losses of samples are used
    each for its own sample. Training calls `fn` `1 + 2 * n_draws` times a batch, evaluation once.
    The estimate is unbiased but for an error that shrinks with `c**2`; the rounding error grows
    with `1 / c`. For small `c` the estimate of the true gradient's element `G[j]` has the standard
    error

        sqrt((sum(G**2) - G[j]**2) / n_draws)

    where the sum is over all elements that are perturbed together: those of the batch, or of the
    sample. So with losses of samples and one output it is exact, and with a loss of the batch it
    gets worse with the number of samples.

    An error in `fn`, or a return that is not what it must be, ends the `fit` with an
    `ExternalLossError`. Model and optimizer are then as they were before that batch; with
    `steps_per_execution` on TensorFlow, before those steps. A loss or gradient that is not finite
    is such an error, and does not reach the guards. For this a copy of the training state
    is taken before each batch on TensorFlow and torch, and on JAX the state is held twice. It
    holds for models that are given the loss by `compile()`.

    A function cannot be saved. A model with this loss is loaded by
    `load_model(path, custom_objects={"mse": mse})`, where a loss made of `mse` may stand too, or
    with `compile=False`.

    Args:
        fn: The function.
        gradient: `"returned"` by `fn`, or estimated by `"spsa"`. Defaults to `"returned"`.
        perturbation: `c`, above 0, in the unit of the predictions. Defaults to `0.01`.
        n_draws: How many draws are averaged. Defaults to `1`.
        seed: Of the draws: the same seed gives the same gradients. With None it is drawn from
            NumPy's global generator. Defaults to `None`.
        name: Name of the loss; with None that of the function. Defaults to `None`.

    Raises:
        OptionTypeError: An option is of the wrong type.
        OptionValueError: An option has a value that cannot be used.
        UnsupportedError: Keras runs on another backend than TensorFlow, JAX or torch.

    References:
        J. C. Spall (1992), Multivariate stochastic approximation using a simultaneous perturbation
        gradient approximation, IEEE Transactions on Automatic Control 37(3), 332-341.
    """
    return ExternalLoss(
        fn,
        gradient=gradient,
        perturbation=perturbation,
        n_draws=n_draws,
        seed=seed,
        name=name,
    )


@keras.saving.register_keras_serializable("pykguard")
class ExternalLoss(keras.losses.Loss):
    """What `external_loss()` makes."""

    protects_steps = True

    def __init__(
        self,
        fn: Callable[[Any, Any], Any],
        *,
        gradient: str,
        perturbation: float,
        n_draws: int,
        seed: int | None,
        name: str | None,
    ) -> None:
        if not callable(fn):
            raise OptionTypeError("fn", "a function", fn)
        if _is_of_r(fn):
            raise OptionTypeError("fn", "a loss that kguard's `external_loss()` made of it", fn)
        if name is not None:
            name = _checks.text("name", name)
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
                raise OptionValueError(
                    "name", "a string of letters, digits, `_`, `.` and `-`", name
                )
        self.fn = fn
        self._options: dict[str, Any] = {
            "gradient": _checks.choice("gradient", gradient, GRADIENTS),
            "perturbation": _checks.number("perturbation", perturbation, above=0.0),
            "n_draws": _checks.integer("n_draws", n_draws, minimum=1),
            "seed": _checks.optional_integer("seed", seed, minimum=0),
        }
        self._operations = _operations()
        super().__init__(name=name or re.sub("[^A-Za-z0-9_]", "", _name_of(fn)))
        self._host = Host(fn, self.name, self._spsa() if gradient == "spsa" else None)
        self._weighted = False
        _protection.install()
        if "tf_keras" in sys.modules:
            from pykguard.external import _legacy

            _legacy.install(ExternalLoss)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The mean of the losses, as Keras reduces them."""
        _require_keras()
        self.prepare(sample_weight, getattr(y_pred, "_keras_mask", None))
        return super().__call__(y_true, y_pred, sample_weight)

    def prepare(self, sample_weight: Any, mask: Any) -> None:
        """Note whether the losses that are computed next are weighted.

        Raises:
            UnsupportedError: The mask has not one value a sample.
        """
        if mask is not None and len(mask.shape) > 1:
            raise UnsupportedError(
                f"the external loss {self.name!r} has one loss a sample and needs a mask of one "
                f"value a sample, got one of shape {tuple(mask.shape)}"
            )
        self._weighted = sample_weight is not None or mask is not None

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The losses, of shape `(rows,)`."""
        return keras.ops.cast(self.losses(self._operations, y_true, y_pred), self.dtype)

    def losses(self, operations: Any, y_true: Any, y_pred: Any) -> Any:
        """The losses by these operations, in the precision that the function gets.

        Raises:
            TracedApartError: This is a thread on which a step runs apart.
        """
        if is_apart():
            raise TracedApartError(f"the external loss {self.name!r} was traced apart")
        dtype = self.dtype if self.dtype == "float64" else "float32"
        y_true, y_pred = (keras.ops.cast(each, dtype) for each in (y_true, y_pred))
        return operations.losses(self._host, y_true, y_pred, weighted=self._weighted)

    def get_config(self) -> dict[str, Any]:
        """The options, and the name of the function."""
        return {"fn": _name_of(self.fn), "name": self.name, **self._options}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ExternalLoss:
        """Make the loss again, of the function, or take the loss, that `custom_objects` has.

        Raises:
            OptionValueError: It has none.
        """
        return cls.of(keras.saving.get_registered_object(config["fn"]), config)

    @classmethod
    def of(cls, fn: Any, config: dict[str, Any]) -> ExternalLoss:
        """Make the loss of this function and configuration, unless it is a loss already.

        Raises:
            OptionValueError: It is None.
        """
        if fn is None:
            raise OptionValueError(
                "custom_objects",
                f"a dict that has the function {config['fn']!r} of an external loss, which is not "
                "saved with a model (or load it with `compile=False`)",
                None,
            )
        return fn if isinstance(fn, cls) else cls(**{**config, "fn": fn})

    def _spsa(self) -> Spsa:
        seed = self._options["seed"]
        if seed is None:
            seed = int(np.random.randint(2**31))
        options = self._options
        random = np.random.default_rng(seed)
        return Spsa(options["perturbation"], options["n_draws"], random)


def _operations() -> Any:
    backend = keras.backend.backend()
    if backend not in BACKENDS:
        known = ", ".join(BACKENDS[:-1]) + " or " + BACKENDS[-1]
        raise UnsupportedError(f"an external loss needs Keras on {known}, got {backend!r}")
    return importlib.import_module(f"pykguard.external._{backend}")


def _name_of(fn: Any) -> str:
    return str(getattr(fn, "__name__", type(fn).__name__))


def _is_of_r(fn: Any) -> bool:
    """Whether it is, or calls, a bare function of R's, which never returns from other threads."""
    cells = getattr(fn, "__closure__", None) or ()
    held = [fn, *(cell.cell_contents for cell in cells if cell != CellType())]
    return any(str(getattr(each, "__module__", "")).startswith("rpytools") for each in held)


def _require_keras() -> None:
    """Refuse to be called by tf_keras, which would weight the mean in place of the losses."""
    frame = sys._getframe() if "tf_keras" in sys.modules else None
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("tf_keras.src.losses"):
            raise UnsupportedError(
                "an external loss for tf_keras must be made after tf_keras was imported, and given "
                "to `compile()`"
            )
        frame = frame.f_back
