"""A model whose loss is a function of the model, its inputs and its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from pykguard._errors import ExternalLossError, OptionTypeError, OptionValueError, brief
from pykguard.external import _failure, _protection


@keras.saving.register_keras_serializable("pykguard")
class ExternalLossModel(keras.Model):
    """A Keras model whose loss may use the inputs, the weights and the model itself.

    `loss_fn(model, x, y, y_pred, sample_weight)` returns the loss of a batch, a scalar, computed by
    `keras.ops` or the backend's own operations; what is not given to `fit()` is None. Its gradient
    is taken through `y_pred`, and through the weights and further calls of `model` that it uses::

        def loss_fn(model, x, y, y_pred, sample_weight):
            return ops.mean((y - y_pred) ** 2) + 1e-3 * ops.sum(ops.square(model.layers[-1].kernel))

        outer = ExternalLossModel(model, loss_fn)
        outer.compile("adam")
        outer.fit(x, y, epochs=10)
        model.save("model.keras")

    The loss that is trained on and logged is `loss_fn(…) + sum(model.losses)`: regularisation
    losses and those of `add_loss()` are added, as Keras does. It trains the variables of `model`
    itself, so that one is saved and used afterwards. `compile()` takes an optimizer and metrics,
    and no loss. A function cannot be saved, so saving the outer model is refused; its weights may
    be saved.

    Args:
        model: The model to train.
        loss_fn: The loss.
        name: Name of the outer model. Defaults to `None`.

    Raises:
        OptionTypeError: `model` is not a Keras model, or `loss_fn` not a function.
    """

    protects_steps = True

    def __init__(
        self,
        model: keras.Model,
        loss_fn: Callable[[Any, Any, Any, Any, Any], Any],
        *,
        name: str | None = None,
    ) -> None:
        if not isinstance(model, keras.Model):
            raise OptionTypeError("model", "a Keras model", model)
        if not callable(loss_fn):
            raise OptionTypeError("loss_fn", "a function", loss_fn)
        super().__init__(name=name)
        self.model = model
        self.loss_fn = loss_fn
        if model.built:
            self.built = True
        _protection.install()

    def call(self, inputs: Any, training: Any = None) -> Any:
        """What the inner model makes of the inputs."""
        if self.model._call_has_training_arg:
            return self.model(inputs, training=training)
        return self.model(inputs)

    def compile(self, optimizer: Any = "rmsprop", *, loss: Any = None, **options: Any) -> None:
        """As `keras.Model.compile()`, without a loss.

        Raises:
            OptionValueError: A loss is given.
        """
        if loss is not None:
            raise OptionValueError("loss", "None, since `loss_fn` is the loss", loss)
        super().compile(optimizer, **options)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss that is trained on.

        Raises:
            ExternalLossError: `loss_fn` did not return a scalar.
        """
        with _failure.noted():
            loss = self._scalar(self.loss_fn(self.model, x, y, y_pred, sample_weight))
        return keras.ops.sum([loss, *map(keras.ops.sum, self.losses)])

    def get_config(self) -> dict[str, Any]:
        """Refused.

        Raises:
            NotImplementedError: A function cannot be saved.
        """
        raise NotImplementedError(
            "an ExternalLossModel cannot be saved with its function: save its attribute `model`, "
            "and make it anew of the loaded model"
        )

    def _scalar(self, returned: Any) -> Any:
        name = getattr(self.loss_fn, "__name__", type(self.loss_fn).__name__)
        try:
            loss = keras.ops.convert_to_tensor(returned)
        except Exception:
            loss = None
        if loss is None or not _is_float(loss):
            raise self._wrong(name, brief(returned))
        if tuple(loss.shape) != ():
            raise self._wrong(name, self._spelt(loss))
        return keras.ops.cast(loss, keras.config.floatx())

    def _wrong(self, name: str, got: str) -> ExternalLossError:
        return ExternalLossError(
            f"the function {name!r} of an ExternalLossModel must return a scalar of floating "
            f"point, got {got}"
        )

    def _spelt(self, loss: Any) -> str:
        return f"a tensor of shape {tuple(loss.shape)}"


def _is_float(tensor: Any) -> bool:
    return str(keras.backend.standardize_dtype(tensor.dtype)).startswith(("float", "bfloat"))
