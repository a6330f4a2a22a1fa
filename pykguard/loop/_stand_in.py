"""What callbacks are given as their model: all models of a loop, with their optimizers, as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from pykguard._errors import UnsupportedError
from pykguard._framework import backend_of
from pykguard._optimizers import innermost, moving_averages
from pykguard.loop._rate import LoopRate


class Together:
    """What the stand-ins for models of Keras 3 and of tf_keras share.

    The variables are those of all models, so that a state which is put back is put back in all of
    them. A single model is saved, loaded and evaluated as itself.

    Attributes:
        networks: The models.
        other_optimizers: The optimizers but the first, which is the model's `optimizer`.
        step_rate: The learning rates for a LossHistory.
        has_begun: Whether a step may have been compiled.
    """

    networks: Sequence[Any]
    other_optimizers: Sequence[Any]
    optimizer: Any
    compile: Any
    step_rate: LoopRate
    has_begun: bool
    _means: dict[str, Any]
    _seen: set[str]

    def _hold(self, models: Sequence[Any], optimizers: Sequence[Any], **options: Any) -> None:
        object.__setattr__(self, "_means", {})  # past Keras, which would track what is added
        object.__setattr__(self, "_seen", set())
        self.compile(optimizers[0], **options)
        self.networks = list(models)
        self.other_optimizers = list(optimizers[1:])
        self.step_rate = LoopRate(optimizers[0])
        self.has_begun = False
        self.built = True
        self.train_function = _no_step

    # ---------------------------------------------------------------- running means
    def _loss_mean(self) -> Any:
        raise NotImplementedError

    def _new_mean(self, name: str) -> Any:
        raise NotImplementedError

    def _tensor(self, value: Any) -> Any:
        raise NotImplementedError

    @property
    def metrics(self) -> list[Any]:
        """The running means, the loss first."""
        return [self._loss_mean(), *self._means.values()]

    def begin_means(self) -> None:
        """Start the means of an epoch."""
        self._seen.clear()
        for mean in self.metrics:
            mean.reset_state()

    def add_batch(self, loss: Any, size: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Add a batch to Keras' means, weighted by its size; returns the means."""
        self._loss_mean().update_state(self._tensor(loss), sample_weight=size)
        for name, value in metrics.items():
            if name not in self._means:
                self._means[name] = self._new_mean(name)
            self._means[name].update_state(self._tensor(value), sample_weight=size)
        self._seen.update(metrics)
        return self.means()

    def means(self) -> dict[str, Any]:
        """The means of what was reported in this epoch."""
        named = {name: mean for name, mean in self._means.items() if name in self._seen}
        return {name: m.result() for name, m in {"loss": self._loss_mean(), **named}.items()}

    # ---------------------------------------------------------------- optimizers
    def all_optimizers(self) -> list[Any]:
        """The optimizers, in the order of the models."""
        return [self.optimizer, *self.other_optimizers]

    def finalize_optimizers(self) -> None:
        """Let moving averages become the weights, as Keras does when training ends."""
        for network, optimizer in zip(self.networks, self.all_optimizers(), strict=True):
            if moving_averages(optimizer):
                own = getattr(innermost(optimizer), "_trainable_variables", None)
                optimizer.finalize_variable_values(own or network.trainable_variables)

    def make_train_function(self, force: bool = False) -> Any:
        """Have the steps of the loop traced anew, where Keras would compile its own.

        TensorFlow's functions are found by the optimizer that they use; JAX has one cache for all.
        """
        if self.has_begun and backend_of(self) == "jax":
            import jax

            jax.clear_caches()
        self.train_function = _no_step
        return self.train_function

    # ---------------------------------------------------------------- a single model
    def _only(self, what: str, instead: str) -> Any:
        if len(self.networks) > 1:
            raise UnsupportedError(f"{what} needs a loop with one model; {instead}")
        return self.networks[0]

    def save(self, *args: Any, **kwargs: Any) -> Any:
        """Save the only model."""
        instead = "with several, ModelCheckpoint needs `save_weights_only=True`"
        return self._only("saving a whole model", instead).save(*args, **kwargs)

    def save_weights(self, *args: Any, **kwargs: Any) -> Any:
        """Save the weights, such that a single model can load them itself."""
        if len(self.networks) == 1:
            return self.networks[0].save_weights(*args, **kwargs)
        return super().save_weights(*args, **kwargs)  # type: ignore[misc]

    def load_weights(self, *args: Any, **kwargs: Any) -> Any:
        """Load what `save_weights()` saved."""
        if len(self.networks) == 1:
            return self.networks[0].load_weights(*args, **kwargs)
        return super().load_weights(*args, **kwargs)  # type: ignore[misc]

    @property
    def itself(self) -> Any:
        """The only model, as what is to be measured, if it was compiled with a loss."""
        network = self._only("`evaluate()`, as for a probe,", "report what you measured")
        if not getattr(network, "compiled", getattr(network, "_is_compiled", False)):
            raise UnsupportedError("it needs a loss of its own, as by `model.compile(loss=…)`")
        return network

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate the only model."""
        return self.itself.evaluate(*args, **kwargs)


def _no_step(iterator: Any) -> Any:
    raise UnsupportedError("the steps of a guarded loop are taken by the loop itself")


class KerasTogether(Together, keras.Model):
    """The stand-in for models of Keras 3."""

    def __init__(self, models: Sequence[Any], optimizers: Sequence[Any]) -> None:
        super().__init__(name="guarded_loop", dtype="float32")
        self._hold(models, optimizers, jit_compile=False, auto_scale_loss=False)

    def _loss_mean(self) -> Any:
        return self._loss_tracker

    def _new_mean(self, name: str) -> Any:
        return keras.metrics.Mean(name=name)

    def _tensor(self, value: Any) -> Any:
        return keras.ops.cast(keras.ops.convert_to_tensor(value), keras.config.floatx())


def stand_in(models: Sequence[Any], optimizers: Sequence[Any], legacy: bool) -> Any:
    """The stand-in for models of Keras 3, or of tf_keras."""
    if not legacy:
        return KerasTogether(models, optimizers)
    from pykguard.loop._legacy import LegacyTogether

    return LegacyTogether(models, optimizers)
