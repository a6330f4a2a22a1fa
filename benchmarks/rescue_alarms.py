"""Which of a SpikeGuard's alarms in a healthy run are false.

An alarm is an event that calls a batch or a rise of the loss bad, or that ends a check of one; what
follows on it, such as trials of rates, comparisons and a lower rate for the end, is none by itself.
With `L(w)` the loss of weights on all data, an alarm is false if nothing was wrong with the weights
`w_t` that the batch in question met: if `L(w_t) < 2 * L(w)` for the weights `w` that are in place
after it, or if it says that data are bad, as those of healthy runs are good.
"""

import keras

FACTOR = 2.0
TREATMENT = ("is where the trial", "is where the last trial", "is where some batches")
DATA = ("bad data", "it is the data", "the new level of the data")


class Alarms(keras.callbacks.Callback):
    """Notes each alarm of a guard, which stands before it in the list, and whether it is false.

    Args:
        guard: The guard.
        judge: A compiled model of the same kind, whose weights are overwritten.
        x: The inputs of all data.
        y: Their targets.
    """

    def __init__(self, guard, judge, x, y):
        super().__init__()
        self._guard, self._judge, self._data = guard, judge, (x, y)
        self._met, self._n_seen, self._epoch = {}, 0, 0
        self.found = []  # event, the loss of the weights that were met, of those in place, if false

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self._met[self._epoch, batch] = self.model.get_weights()
        while len(self._met) > 100:
            del self._met[next(iter(self._met))]

    def on_train_batch_end(self, batch, logs=None):
        self._look()

    def on_epoch_end(self, epoch, logs=None):
        self._look()

    def _look(self):
        new = self._guard.events[self._n_seen :]
        self._n_seen += len(new)
        for event in filter(is_alarm, new):
            met = self._loss(self._met[event.epoch, event.batch])
            now = self._loss(self.model.get_weights())
            says_data = any(words in event.reason for words in DATA)
            self.found.append((event, met, now, says_data or met < FACTOR * now))

    def _loss(self, weights):
        self._judge.set_weights(weights)
        x, y = self._data
        return float(self._judge.evaluate(x, y, batch_size=256, verbose=0))


def is_alarm(event):
    """Whether an event calls a batch or a rise bad, or ends a check of one."""
    if event.batch is None or event.reason.startswith(TREATMENT):
        return False
    return event.action in ("rollback", "restore")
