"""The callback that records what the loss really was."""

from __future__ import annotations

from typing import Any

from pykguard import _checks
from pykguard._callback import Callback
from pykguard._errors import GuardError
from pykguard._framework import require_one_replica
from pykguard._probe import Data, Probe, as_probe
from pykguard.history._columns import Batches, Epochs
from pykguard.history._companions import Companions, companions_of
from pykguard.history._outlets import Outlets
from pykguard.history._record import Record, Tables, View
from pykguard.history._recording import Recording
from pykguard.history_files import check_log_dir, check_path


class LossHistory(Callback, View):
    """Records what the loss of each batch and epoch really was, and explains what people see.

    What Keras logs after batch `b` of an epoch is the mean since the epoch began, weighted by the
    batch sizes `n`,

        logged_b = sum(n_i * loss_i for i <= b) / sum(n_i for i <= b)

    which hides a late spike. Here `loss_b` itself is recorded, regularisation and weights included,
    as the compiled step computed it: measured before that batch's update.

    A `train_step` of the user's own that does not update the model's loss tracker hides the loss.
    If it keeps a `Mean` named `"loss"`, differences of its total are recorded, with `exact` False
    and the bound on their error; if not, what was logged, with an infinite bound.

    The first recording of a model has Keras compile its step, once more if it was trained before.
    Random operations of TensorFlow's own (`tf.random`) start over with that; those of
    `keras.random` go on.

    Each `fit` starts a new record; `path` is appended to, and its runs are numbered from 0. Up to
    256 batches are read from the device together.

    Args:
        path: None, or the name of a .csv or .sqlite file to write while training runs, a row a
            value, with the columns run, epoch, batch (empty for a whole epoch), name, value, exact.
            A process that is killed loses at most the batches of the 50 ms before the one
            that it was in. Defaults to None.
        every: Record every so many batches of an epoch, beginning with its first; epochs, and what
            `explain()` says of them, are always those of all batches. Defaults to 1.
        data: None, or a tuple `(x, y)` or `(x, y, sample_weight)`, usually the training data: at
            the end of each epoch the model is evaluated on it, and run on it as in training, so
            that `explain()` can say how History and `evaluate()` differ. Where `fit` has class
            weights, give them as sample weights. Put this callback before the guards: what stands
            behind one measures what the guard put back. Costs four forward passes, in which layers
            that draw from a global generator, and not from a seed of their own, use up numbers of
            it. Defaults to None.
        log_dir: None, or a folder for TensorBoard, which gets batch losses and epochs as scalars
            and the events of guards as text; needs the package tensorboard. Defaults to None.

    Raises:
        OptionTypeError, OptionValueError: An option cannot be used; at the start of `fit`, if the
            file is not one that a LossHistory wrote.
        ImportError: `log_dir` was given and TensorBoard is not installed.

    Example:
        >>> history = LossHistory("losses.csv")
        >>> model.fit(x, y, epochs=5, callbacks=[history])
        >>> history.losses
        >>> print(history.explain())
    """

    def __init__(
        self, path: Any = None, *, every: int = 1, data: Any = None, log_dir: Any = None
    ) -> None:
        super().__init__()
        self.path = check_path(path)
        self.every = _checks.integer("every", every, minimum=1)
        self._probe: Probe | None = as_probe(data, "data", may_hold_nan=True)
        self.data: Data | None = None if self._probe is None else self._probe.data
        self.log_dir = check_log_dir(log_dir)
        self._recording: Recording | None = None
        self._companions: Companions | None = None
        self._last = Tables(Batches(), Epochs(), [], [])

    # ---------------------------------------------------------------- what users read
    @property
    def record(self) -> Record:
        """The record of the newest `fit`, which later ones leave alone."""
        return Record(self._tables)

    def get_config(self) -> dict[str, Any]:
        """The options, such that `LossHistory(**history.get_config())` is an equal recorder."""
        names = ("path", "every", "data", "log_dir")
        return {name: getattr(self, name) for name in names}

    # ---------------------------------------------------------------- hooks
    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin a new record."""
        self._begin()
        require_one_replica(self.model, "LossHistory")
        self._close()
        self._companions = None
        self._recording = Recording(self.model, self.every, Outlets(self.path, self.log_dir))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Begin an epoch."""
        if self._companions is None:
            self._companions = companions_of(self)
        params = self.params or {}
        self._running().begin_epoch(
            epoch, self._companions, _verbosity(params), params.get("steps")
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the batches that this execution took."""
        self._running().end_execution(logs or {})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the epoch's metrics as History will hold them."""
        model = None if self._probe is None else self.model
        self._running().end_epoch(epoch, {} if logs is None else logs, self._probe, model)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the file."""
        self._close()

    def release(self) -> None:
        """Close the file of a training that an error ended."""
        self._close()

    # ---------------------------------------------------------------- inside
    @property
    def _tables(self) -> Tables:  # type: ignore[override]
        return self._last if self._recording is None else self._recording.tables

    def _running(self) -> Recording:
        if self._recording is None:
            raise GuardError("LossHistory: a hook was called before `on_train_begin()`")
        return self._recording

    def _close(self) -> None:
        if self._recording is not None:
            recording, self._recording = self._recording, None
            recording.close()
            self._last = recording.tables


def _verbosity(params: dict[str, Any]) -> int:
    verbose = params.get("verbose", 0)
    return 1 if verbose == "auto" else int(verbose)
