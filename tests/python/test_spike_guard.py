"""SpikeGuard in `fit`: what it leaves in the model, and what it says."""

import math

import helpers
import keras
import numpy as np
import own_loops
import pytest

from pykguard import (
    GuardWarning,
    LossHistory,
    MonitorError,
    RestoreBest,
    RevertOnLossIncrease,
    SpikeGuard,
    UnsupportedError,
    _framework,
    current_learning_rate,
    guarded_loop,
)
from pykguard.callbacks._slots import Slots, moves_of
from pykguard.history import _tracker
from pykguard.rules import spike
from pykguard.snapshots import snapshots_for

NAN = float("nan")
X, Y = helpers.line(512)
Y += 8  # so that batches differ little at first
ROWS = 8  # a batch; 64 batches an epoch


class Stream(keras.utils.PyDataset):
    """Batches of the data in a fixed order, without those `left_out`, some of them spoilt."""

    def __init__(self, spoil=None, bad=(), left_out=(), x=X, y=Y, rows=ROWS):
        super().__init__()
        self.x, self.y, self.rows = x, y, rows
        self.spoil, self.bad = spoil, set(bad)
        self.kept = [b for b in range(len(x) // rows) if b not in left_out]

    def __len__(self):
        return len(self.kept)

    def __getitem__(self, index):
        batch = self.kept[index]
        rows = slice(batch * self.rows, (batch + 1) * self.rows)
        x, y = self.x[rows].copy(), self.y[rows].copy()
        return self.spoil(x, y) if batch in self.bad else (x, y)


def nan_row(x, y):
    x[3] = NAN
    return x, y


def nan_targets(x, y):
    return x, y * np.float32(NAN)


def large(x, y):
    return x, y * np.float32(1e4)


def wrong_labels(x, y):
    return x, y + np.float32(100)


SPOILS = {
    "a NaN row": nan_row,
    "NaN targets": nan_targets,
    "1e4 times": large,
    "labels": wrong_labels,
}
each_spoil = pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())


def fit(model, *callbacks, epochs=2, data=None, **options):
    history = model.fit(
        Stream() if data is None else data,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **options,
    )
    return history.history


def tanh_model(optimizer="adam", **compile_options):
    """Lets a NaN in its inputs reach the loss, as ReLU on TensorFlow does not."""
    return helpers.noisy_model(optimizer, metrics=["mae"], **compile_options)


def relu_model(optimizer, *, hidden=16, activation="relu"):
    keras.utils.set_random_seed(1)
    layers = [keras.Input((3,)), keras.layers.Dense(hidden, activation), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer, "mse")
    return model


def true_loss(model):
    return float(model.evaluate(X, Y, verbose=0, batch_size=512, return_dict=True)["loss"])


def rollbacks(guard):
    return [event for event in guard.events if event.action == "rollback"]


# ---------------------------------------------------------------- nothing to do
def test_healthy_training_has_the_same_bits_and_no_events():
    plain, guarded = tanh_model(), tanh_model()
    guard = SpikeGuard()
    logs = fit(plain, epochs=3)
    assert fit(guarded, guard, epochs=3) == logs
    assert np.array_equal(helpers.training_state(plain), helpers.training_state(guarded))
    assert guard.events == [] and guard.bad_batches == [] and guard.n_reverts == 0
    assert guard.best_epoch == 2 and 0 < guard.best < 2 * logs["loss"][-1]


# ---------------------------------------------------------------- bad data
@each_spoil
def test_a_bad_batch_leaves_no_trace(spoil):
    """Weights, optimizer, metrics: all as if the batch had never been there."""
    without, rescued = tanh_model(), tanh_model()
    guard = SpikeGuard(interval=1)
    logs = fit(without, data=Stream(left_out={40}), epochs=1)
    assert fit(rescued, guard, data=Stream(spoil, {40}), epochs=1) == logs
    assert np.array_equal(helpers.training_state(without), helpers.training_state(rescued))
    [event] = guard.events
    assert (event.epoch, event.batch, event.action, event.restored_from) == (0, 40, "rollback", 0)
    assert event.reason.endswith("bad data, skipped")
    assert event.learning_rate == pytest.approx(0.001)
    assert [tuple(each) for each in guard.bad_batches] == [(0, 40, 1)]


def test_the_first_batch_of_an_epoch_can_be_bad():
    without, rescued = tanh_model(), tanh_model()
    for model, data, guards in (
        (without, Stream(left_out={0}), []),
        (rescued, Stream(nan_row, {0}), [SpikeGuard(interval=1)]),
    ):
        logs = fit(model, *guards, data=data, epochs=2)
    assert np.isfinite(logs["loss"]).all() and np.isfinite(logs["mae"]).all()
    assert np.array_equal(helpers.training_state(without), helpers.training_state(rescued))
    assert [tuple(each) for each in guards[0].bad_batches] == [(0, 0, 2)]


def test_the_events_name_the_evidence():
    finite, infinite = SpikeGuard(), SpikeGuard()
    fit(tanh_model(), finite, data=Stream(wrong_labels, {40}), epochs=1)
    fit(tanh_model(), infinite, data=Stream(nan_targets, {40}), epochs=1)
    [event] = finite.events
    assert event.value > 5 * event.reference
    assert (
        f"{event.value / event.reference:.3g} times the median {event.reference:.4g}"
        in event.reason
    )
    [event] = infinite.events
    assert math.isnan(event.value) and event.reason.startswith("is not finite")


def test_it_says_so_on_the_console(capsys):
    fit(tanh_model(), SpikeGuard(interval=1, verbose=1), data=Stream(nan_targets, {40}), epochs=1)
    [line] = [line for line in capsys.readouterr().out.splitlines() if line]
    assert line == (
        "Epoch 1, batch 41: loss nan is not finite: bad data, skipped: rolled back to epoch 1"
    )


def relu_without_nan(x):
    """What TensorFlow's ReLU is on some processors."""
    return keras.ops.where(x > 0, x, 0.0)


def test_a_nan_that_relu_hides_from_the_loss_is_found_in_the_weights():
    guard, model = SpikeGuard(interval=1), relu_model("adam", activation=relu_without_nan)
    fit(model, guard, data=Stream(nan_row, {20, 50}), epochs=3)
    assert np.isfinite(helpers.training_state(model)).all()
    assert {(e.batch, e.reason) for e in guard.events} == {
        (b, "was followed by weights that are not finite: bad data, skipped") for b in (20, 50)
    }
    assert [tuple(each) for each in guard.bad_batches] == [(0, 20, 3), (0, 50, 3)]
    assert current_learning_rate(model) == pytest.approx(0.001)


def test_the_last_batch_can_be_bad():
    guard, model = SpikeGuard(), relu_model("adam")
    fit(model, guard, data=Stream(nan_row, {63}), epochs=2)
    assert np.isfinite(helpers.training_state(model)).all()
    assert true_loss(model) < 80


@pytest.mark.parametrize("validates", [False, True])
def test_an_epoch_without_a_good_batch_is_not_logged_as_perfect(validates):
    guard, model = SpikeGuard(), tanh_model()
    data = Stream()

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            data.spoil, data.bad = nan_targets, set(range(64)) if epoch == 1 else set()

        def on_epoch_end(self, epoch, logs=None):
            data.spoil, data.bad = nan_targets, set(range(64)) if epoch == 0 else set()

    validation = {"validation_data": (X[:64], Y[:64])} if validates else {}
    logs = fit(model, guard, Spoil(), data=data, epochs=3, **validation)
    assert math.isnan(logs["loss"][1]) and 0 < logs["loss"][2] < 100
    assert not validates or 0 < logs["val_loss"][1] < 100


# ---------------------------------------------------------------- rates at fault
OPTIMIZERS = {
    "sgd": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "adam": lambda rate: keras.optimizers.Adam(rate),
}


@pytest.mark.parametrize("rate", [10.0, 100.0])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_a_rate_that_is_too_high_is_found(optimizer, rate):
    guard, model = SpikeGuard(), relu_model(optimizer(rate))
    before = true_loss(model)
    fit(model, guard, epochs=5)
    assert true_loss(model) < 0.1 * before
    assert current_learning_rate(model) < rate
    causes = ("an update had broken the weights", "the network is dead")
    assert guard.events[0].reason.endswith(causes)
    assert guard.events[0].restored_from == -1
    assert guard.events[-1].learning_rate == pytest.approx(current_learning_rate(model))
    assert guard.n_reverts == len(rollbacks(guard)) > 1


@pytest.mark.parametrize("initial_epoch", [0, 3])
def test_the_rate_is_lowered_for_the_end_and_put_back_after_it(initial_epoch):
    guard, model = SpikeGuard(), relu_model(OPTIMIZERS["sgd"](10.0))
    epochs = initial_epoch + 4
    model.fit(Stream(), epochs=epochs, initial_epoch=initial_epoch, verbose=0, callbacks=[guard])
    *lowered, back = [each for each in guard.events if "for the end" in each.reason]
    assert [(each.epoch, each.batch) for each in lowered] == [
        (epochs - 1, math.ceil(64 - 0.1 * 256) - 1),
        (epochs - 1, math.ceil(64 - 0.03 * 256) - 1),
    ]
    assert lowered[1].learning_rate < 0.31 * lowered[0].learning_rate
    assert back is guard.events[-1] and back.learning_rate == current_learning_rate(model)
    assert back.learning_rate == pytest.approx(back.value / 0.09)


def test_an_exploding_recurrent_network_is_rescued():
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(0)
    x = random.normal(size=(256, 12, 1)).astype("float32")
    y = x[:, -4:].sum(axis=1)
    layers = [keras.Input((12, 1)), keras.layers.SimpleRNN(8, "relu"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(1.0, momentum=0.9), "mse")
    guard = SpikeGuard()
    fit(model, guard, data=Stream(x=x, y=y), epochs=6)
    loss = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    assert loss < 0.7 * np.var(y) and rollbacks(guard)


def test_velocities_are_put_back_as_if_the_rate_had_always_been_the_present_one():
    model = relu_model(keras.optimizers.SGD(0.01, momentum=0.9))
    fit(model, epochs=1)
    slots = Slots(snapshots_for(model, optimizer=True, metrics=True, within_epochs=True))
    slots.take(0, 1.0)
    slots.keep("best")
    velocities = helpers.flat(model.optimizer.momentums)
    fit(model, epochs=1)
    slots.put_back("best", model, 0, 0.25)
    assert np.array_equal(helpers.flat(model.optimizer.momentums), velocities / 4)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e25])
def test_moves_are_measured_though_their_squares_are_beyond_single_precision(size):
    model = tanh_model()
    fit(model, epochs=1)
    kernels = [v for v in model.trainable_variables if len(v.shape) == 2]
    slots = Slots(snapshots_for(model, optimizer=True, metrics=True, within_epochs=True))
    random = np.random.default_rng(0)
    seen, marks = [], []
    for _ in range(3):
        values = [(size * random.normal(size=v.shape)).astype("float32") for v in kernels]
        for kernel, value in zip(kernels, values, strict=True):
            kernel.assign(value)
        marks.append(slots.kernels(model))
        seen.append([value.astype("float64") for value in values])
    for units, a, b, c in zip(map(moves_of, *marks), *seen, strict=True):
        norms = np.linalg.norm(b - a, axis=0), np.linalg.norm(c - b, axis=0)
        expected = np.stack([*norms, np.einsum("ij,ij->j", b - a, c - b)], axis=1)
        assert np.array(units) == pytest.approx(expected, rel=1e-5, abs=0.0)


def test_of_a_large_kernel_some_units_are_looked_at():
    model = keras.Sequential([keras.Input((200,)), keras.layers.Dense(200)])
    model.compile("sgd", "mse")
    slots = Slots(snapshots_for(model, optimizer=True, metrics=True, within_epochs=True))
    kernel, marks = model.trainable_variables[0], []
    for size in (0.0, 1.0, 3.0):
        kernel.assign(np.full((200, 200), size, "float32") * (np.arange(200) % 40 > 19))
        marks.append(slots.kernels(model))
    [units] = map(moves_of, *marks)
    assert 8 <= len(units) <= 40 and marks[0][0].shape[0] == 200
    moving = [moves for moves in units if moves.first > 0]
    assert len(moving) == pytest.approx(len(units) / 2, abs=2)
    assert all(moves.second == pytest.approx(2 * moves.first) for moves in moving)


@pytest.mark.parametrize("n_words", [20_000, 100_000])
def test_an_embedding_learns_though_most_of_its_rows_do_not_move(n_words):
    model = keras.Sequential([keras.Input((1,), dtype="int32"), keras.layers.Embedding(n_words, 8)])
    model.compile("sgd", "mse")
    slots = Slots(snapshots_for(model, optimizer=True, metrics=True, within_epochs=True))
    marks = [slots.kernels(model)]
    for word in (n_words // 3, n_words - 1):
        values = model.get_weights()[0]
        values[word] += 1.0
        model.set_weights([values])
        marks.append(slots.kernels(model))
    learning = spike._dead.n_learning([moves_of(*looks) for looks in zip(*marks, strict=True)])
    assert learning == ((8,) if n_words == 20_000 else ())  # the larger one is left out


def test_a_network_that_loses_its_units_is_trained_at_a_lower_rate():
    """Of inputs of 100, ReLUs are off for good after a few steps; a bias alone goes on learning."""
    keras.utils.set_random_seed(1)
    layers = [keras.Input((3,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), "mse")
    guard, data = SpikeGuard(), Stream(x=100 * np.abs(X))
    fit(model, guard, data=data, epochs=8)
    hidden = keras.Model(model.inputs, model.layers[0].output)
    learning = hidden.predict(100 * np.abs(X), verbose=0) > 0
    assert learning.any(axis=0).mean() >= 0.25 and rollbacks(guard)


def test_rates_are_compared_once_the_rate_was_at_fault(capsys):
    rates = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(current_learning_rate(self.model))

    guard, model = SpikeGuard(), relu_model(OPTIMIZERS["sgd"](10.0))
    fit(model, guard, Watch(), epochs=12)
    compared = [e for e in guard.events if " batches at " in e.reason]
    assert compared
    for event in compared:
        place = 64 * event.epoch + event.batch
        tried = set(rates[place - 3 : place])
        assert len(tried) == 1
        taken = event.action == "reset_learning_rate"
        assert taken or (event.action == "restore" and np.isfinite(event.reference))
        assert (event.learning_rate == pytest.approx(*tried)) == taken
        assert not taken or event.value == pytest.approx(rates[place - 30])


@pytest.mark.parametrize(
    ("heights", "taken_back"),
    [({2: 5.0}, []), ({2: 5.0, 4: 5.0}, []), ({2: 5.0, 3: 5.0}, [2]), ({2: 20.0}, [2])],
)
def test_one_of_the_first_batches_alone_may_have_a_high_loss_and_two_may_not(heights, taken_back):
    zero = keras.layers.Dense(1, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), zero])
    model.compile(keras.optimizers.SGD(1e-9), "mse")  # a batch's loss is its height
    x, y = np.ones((256, 1), "float32"), np.ones((256, 1), "float32")
    for batch, height in heights.items():
        y[batch * 4 : (batch + 1) * 4] = math.sqrt(height)
    guard = SpikeGuard()
    fit(model, guard, epochs=1, data=Stream(x=x, y=y, rows=4))
    assert [event.batch for event in rollbacks(guard)][:1] == taken_back


@pytest.mark.parametrize("bad", [32, 33, 39, 40])
def test_a_bad_batch_among_those_that_are_judged_together_is_named(bad, monkeypatch):
    reads = []
    last = _tracker.Reader.last
    monkeypatch.setattr(_tracker.Reader, "last", lambda *a: reads.append(a) or last(*a))
    data = Stream()

    class SpoilOnce(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            data.spoil, data.bad = nan_targets, {bad} if epoch == 2 else set()

    guard, history, model = SpikeGuard(), LossHistory(), tanh_model()
    fit(model, SpoilOnce(), guard, history, data=data, epochs=4)
    assert [(e.epoch, e.batch) for e in guard.events] == [(2, bad)]
    assert np.isfinite(helpers.training_state(model)).all()
    assert np.isfinite(history.epochs["loss"]).all()
    assert len(reads) < 256 * 0.6


@pytest.mark.parametrize("validates", [False, True])
def test_the_last_batches_of_an_epoch_that_is_broken_off_are_judged(validates):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = (self.epoch, batch) == (1, 42)

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_epoch_end(self, epoch, logs=None):
            self.logs = logs

    stop, guard, model = Stop(), SpikeGuard(), tanh_model()
    data = Stream()

    class SpoilLater(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            data.spoil, data.bad = nan_targets, {41} if epoch == 1 else set()

    validation = {"validation_data": (X[:64] * 9, Y[:64])} if validates else {}
    history = fit(model, SpoilLater(), guard, stop, data=data, epochs=4, **validation)
    assert [(e.epoch, e.batch) for e in guard.events] == [(1, 41)]
    assert np.isfinite(helpers.training_state(model)).all()
    assert len(history["loss"]) == 2
    for logs in (stop.logs, {name: values[-1] for name, values in history.items()}):
        assert set(logs) == set(history) and np.isfinite(list(logs.values())).all()
        assert logs["loss"] == pytest.approx(history["loss"][0], rel=0.2)
        assert not validates or logs["loss"] != logs["val_loss"]


def test_copies_of_the_kernels_are_let_go_when_training_ends():
    n = []

    class Count(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            n.append(len(guard._marks))

    guard, model = SpikeGuard(), tanh_model(keras.optimizers.SGD(1e-9))
    fit(model, guard, Count(), data=Stream(left_out=range(37, 64)), epochs=1)
    assert n[-1] > 0 and guard._marks == []


def test_the_initial_state_is_what_other_callbacks_made_it_before_training():
    class Load(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.set_weights(other.get_weights())

    model, other = tanh_model(), tanh_model()
    model.set_weights([2 * weight for weight in other.get_weights()])
    guard = SpikeGuard(max_rollbacks=3)
    fit(model, guard, Load(), data=Stream(nan_targets, range(64)))
    assert guard.events[-1].action == "stop"
    assert np.array_equal(helpers.flat(model.weights), helpers.flat(other.weights))


def test_what_an_earlier_fit_measured_is_not_put_back():
    logged = []
    for n_fits in (1, 2):
        guard, model = SpikeGuard(), relu_model(keras.optimizers.SGD(30.0))
        model.compile(model.optimizer, "mse", metrics=["mae"])
        if n_fits == 2:  # with a rate at which nothing moves
            model.optimizer.learning_rate = 0.0
            fit(model, data=Stream(y=1e3 * Y), epochs=1)
            model.optimizer.learning_rate = 30.0
        logged.append(fit(model, guard, epochs=1))
        assert guard.events[0].restored_from == -1
    assert logged[0] == logged[1]


def test_a_schedule_is_scaled():
    schedule = keras.optimizers.schedules.ExponentialDecay(30.0, 1000, 0.99)
    guard, model = SpikeGuard(), relu_model(keras.optimizers.SGD(schedule))
    before = true_loss(model)
    fit(model, guard, epochs=4)
    assert true_loss(model) < 0.2 * before
    assert current_learning_rate(model) < 10


# ---------------------------------------------------------------- where nothing helps
def broken_loss():
    """A loss whose gradients are always NaN after one step."""
    return lambda y, p: keras.ops.mean(keras.ops.sqrt(keras.ops.sum(p * 0.0, axis=-1)))


def test_where_no_rate_trains_it_stops_in_the_initial_state():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", broken_loss())
    before = helpers.flat(model.weights)
    guard = SpikeGuard()
    fit(model, guard, epochs=20)
    assert np.array_equal(helpers.flat(model.weights), before)
    assert [event.action for event in guard.events].count("stop") == 1
    assert guard.events[-1].action == "stop" and model.stop_training


def test_max_rollbacks_stops_with_a_good_state():
    guard, model = SpikeGuard(max_rollbacks=2), tanh_model()
    fit(model, guard, data=Stream(nan_targets, {35, 45, 55}), epochs=3)
    assert guard.n_reverts == 2 and model.stop_training
    stop = guard.events[-1]
    assert (stop.action, stop.epoch, stop.batch) == ("stop", 0, 46)
    assert stop.reason == "used up the 2 roll-backs that `max_rollbacks` allows"
    assert np.isfinite(helpers.training_state(model)).all()


# ---------------------------------------------------------------- with others
def test_a_loss_history_sees_every_batch_also_the_bad_ones():
    for order in (1, -1):
        guard, history = SpikeGuard(interval=1), LossHistory()
        logs = fit(
            tanh_model(), *[guard, history][::order], data=Stream(wrong_labels, {40}), epochs=1
        )
        losses = np.array(history.losses)
        assert len(losses) == 64 and losses[40] > 1000
        accepted = np.delete(losses, 40)
        assert logs["loss"][0] == pytest.approx(accepted.mean(), rel=1e-5)


@pytest.mark.parametrize("order", [1, -1])
def test_an_epoch_guard_judges_the_accepted_batches(order):
    guard, revert = SpikeGuard(), RevertOnLossIncrease(tolerance=100, lr_factor=0.5)
    model = tanh_model()
    fit(model, *[guard, revert][::order], data=Stream(large, {40}), epochs=3)
    assert revert.events == [] and guard.n_reverts == 3
    assert current_learning_rate(model) == pytest.approx(0.001)


def test_what_an_epoch_guard_puts_back_is_the_new_state_to_go_back_to(monkeypatch):
    moved, real = [], spike.moved
    monkeypatch.setattr(spike, "moved", lambda state: moved.append(guard._epoch) or real(state))
    model, kick = tanh_model(), helpers.KickAfterLastBatch(1, 1e3)
    probe = RevertOnLossIncrease(tolerance=10, probe=(X, Y))
    guard = SpikeGuard(interval=1)
    fit(model, guard, kick, probe, data=Stream(nan_targets, {0}), epochs=3)
    assert probe.n_reverts == 1 and moved == [2]
    assert true_loss(model) < 100


def test_the_best_state_is_left_by_restore_best_behind_it():
    guard, best = SpikeGuard(), RestoreBest("loss")
    fit(tanh_model(), guard, best, data=Stream(nan_targets, {5, 6, 40}), epochs=3)
    assert best.best_epoch is not None and math.isfinite(best.best)


@helpers.steps_per_execution(4)
def test_an_execution_of_several_steps_is_undone_as_a_whole(steps):
    without = tanh_model(steps_per_execution=steps)
    rescued = tanh_model(steps_per_execution=steps)
    guard = SpikeGuard(interval=1)
    logs = fit(without, data=Stream(left_out={40, 41, 42, 43}), epochs=1)
    assert fit(rescued, guard, data=Stream(large, {42}), epochs=1) == logs
    assert np.array_equal(helpers.training_state(without), helpers.training_state(rescued))
    (event,) = guard.events
    assert event.batch in range(40, 44)  # which of them, depends on the version of Keras


@helpers.not_on("torch", "compiling takes a C compiler")
def test_a_compiled_step():
    guard, model = SpikeGuard(), tanh_model(jit_compile=True)
    fit(model, guard, data=Stream(nan_targets, {40}), epochs=1)
    assert guard.n_reverts == 1 and np.isfinite(helpers.training_state(model)).all()


def test_a_model_that_is_not_built_yet():
    keras.utils.set_random_seed(1)
    model = helpers.Subclassed()
    model.compile("adam", "mse", metrics=["mae"])
    guard = SpikeGuard()
    fit(model, guard, data=Stream(nan_targets, {0, 1}), epochs=1)
    assert np.isfinite(helpers.training_state(model)).all()
    assert [event.batch for event in guard.events] == [0, 1]


def test_validation_within_fit_does_not_disturb_it():
    guard = SpikeGuard()
    fit(tanh_model(), guard, epochs=3, validation_data=(X[:64], Y[:64] * 1000))
    assert guard.events == []


@pytest.mark.parametrize("engine", own_loops.ENGINES)
def test_in_a_loop_of_ones_own(engine):
    def trained(data, *callbacks):
        model = own_loops.make_model(engine)
        optimizer = own_loops.library_of(engine).optimizers.Adam(0.01)
        step = own_loops.make_step(engine, model, optimizer)
        loop = guarded_loop(model, optimizer, list(callbacks), verbose=0)
        for _ in loop:
            for x, y in loop.batches(data[i] for i in range(len(data))):
                loop.report(**step(loop, x, y), size=ROWS)
        return loop.history.history["loss"], [_framework.to_numpy(v) for v in model.weights]

    guard = SpikeGuard(interval=1)
    losses, weights = trained(Stream(nan_targets, {20, 40}), guard)
    expected_losses, expected = trained(Stream(left_out={20, 40}))
    assert [e.batch for e in guard.events] == [20, 40]
    assert losses == expected_losses
    assert all(map(np.array_equal, weights, expected))


@helpers.only_on("tensorflow", "tf_keras runs on nothing else")
def test_in_the_fit_of_tf_keras():
    tf_keras = pytest.importorskip("tf_keras")

    def trained(data, *callbacks):
        tf_keras.utils.set_random_seed(1)
        layers = tf_keras.layers
        model = tf_keras.Sequential(
            [
                layers.Input((3,)),
                layers.Dense(4, "tanh"),
                layers.BatchNormalization(),
                layers.Dense(1),
            ]
        )
        model.compile("adam", "mse", metrics=["mae"])
        x, y = (
            np.concatenate(parts)
            for parts in zip(*(data[i] for i in range(len(data))), strict=True)
        )
        logs = model.fit(
            x, y, batch_size=ROWS, shuffle=False, verbose=0, callbacks=list(callbacks)
        ).history
        return logs, [v.numpy() for v in [*model.variables, *model.optimizer.variables]]

    guard = SpikeGuard(interval=1)
    logs, state = trained(Stream(nan_targets, {20, 40}), guard)
    expected_logs, expected = trained(Stream(left_out={20, 40}))
    assert [(e.batch, e.learning_rate) for e in guard.events] == [
        (20, pytest.approx(0.001)),
        (40, pytest.approx(0.001)),
    ]
    assert logs == expected_logs
    assert all(map(np.array_equal, state, expected))


# ---------------------------------------------------------------- one after the other
def test_a_second_fit_starts_afresh():
    guard, model = SpikeGuard(), tanh_model()
    fit(model, guard, data=Stream(nan_targets, {40}), epochs=1)
    fit(model, guard, epochs=1)
    assert guard.events == [] and guard.bad_batches == []
    assert (guard.best is None) == (guard.best_epoch is None)  # where nothing was below the start


def test_a_saved_guard_goes_on():
    guard, model = SpikeGuard(interval=1), tanh_model()
    fit(model, guard, data=Stream(nan_targets, {40}), epochs=1)
    saved = guard.state_dict()
    again = SpikeGuard(interval=1)
    again.load_state_dict(saved)
    assert (again.events, again.bad_batches, again.best) == (
        guard.events,
        guard.bad_batches,
        guard.best,
    )
    fit(model, again, data=Stream(nan_targets, {7, 40}), epochs=1)
    assert [event.batch for event in again.events] == [40, 7, 40]
    assert [tuple(each) for each in again.bad_batches] == [(0, 40, 2), (0, 7, 1)]


def test_the_options_come_back():
    options = {
        "window": 64,
        "threshold": 4.0,
        "warmup": 16,
        "interval": 4,
        "lr_factor": 0.3,
        "max_rollbacks": 9,
        "verbose": 0,
    }
    assert SpikeGuard(**options).get_config() == options
    assert SpikeGuard().get_config()["interval"] is None


# ---------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 7}, "`window` must be a whole number of at least 8, got 7"),
        ({"threshold": 0}, "`threshold` must be a finite number above 0, got 0"),
        ({"warmup": 200}, "`warmup` must be at most `window`, 128, got 200"),
        ({"interval": 0}, "`interval` must be a whole number of at least 1 or None, got 0"),
        ({"lr_factor": 1}, "`lr_factor` must be below 1, got 1"),
        ({"lr_factor": 0.0}, "`lr_factor` must be a finite number above 0 and at most 1, got 0.0"),
        (
            {"max_rollbacks": 0},
            "`max_rollbacks` must be a whole number of at least 1 or None, got 0",
        ),
    ],
)
def test_an_option_that_cannot_be_used_is_refused(options, said):
    with pytest.raises(ValueError) as caught:
        SpikeGuard(**options)
    assert str(caught.value) == said


@pytest.mark.parametrize("option", ["window", "warmup", "interval", "max_rollbacks", "verbose"])
@pytest.mark.parametrize("value", ["3", True, 2.5])
def test_an_option_of_another_type_is_refused(option, value):
    with pytest.raises(TypeError, match=f"`{option}` must be a whole number"):
        SpikeGuard(**{option: value})


def test_a_train_step_that_hides_its_loss_is_refused():
    class Hiding(keras.Sequential):
        train_step = helpers.idle_step(
            lambda model, data: {"loss": keras.ops.convert_to_tensor(1.0)}
        )

    model = Hiding([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(MonitorError, match="loss tracker"):
        fit(model, SpikeGuard())


@helpers.only_on("tensorflow", "the strategy is TensorFlow's")
def test_several_processes_of_tensorflow_are_refused():
    import tensorflow as tf

    with tf.distribute.MultiWorkerMirroredStrategy().scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    said = "SpikeGuard needs a model that is trained in one process, got .*MultiWorkerMirrored"
    with pytest.raises(UnsupportedError, match=said):
        model.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0, callbacks=[SpikeGuard()])


def test_something_else_than_a_saved_guard_is_refused():
    for other in ({}, {"guard": "SpikeGuard"}, RestoreBest("loss").state_dict()):
        with pytest.raises(ValueError, match="must be what `state_dict"):
            SpikeGuard().load_state_dict(other)


def test_weights_that_are_nan_before_the_first_step_are_warned_of():
    model = helpers.dense_model()
    model.weights[0].assign(np.full((3, 4), NAN, "float32"))
    guard = SpikeGuard()
    with pytest.warns(GuardWarning, match="holds NaN before its first step"):
        fit(model, guard, epochs=4)
    assert "stop" in [event.action for event in guard.events]


@pytest.mark.parametrize("when", ["before", "on_train_begin", "on_epoch_begin"])
def test_a_weight_that_holds_infinities_from_the_beginning_is_no_trouble(when):
    class HoldsMask(keras.layers.Layer):
        def build(self, input_shape):
            self.mask = self.add_weight(shape=(4,), initializer="zeros", trainable=False)

        def call(self, x):
            return x

    class Fill(keras.callbacks.Callback):
        def fill(self, *_):
            layer.mask.assign(np.full(4, -np.inf, "float32"))

    layer, guard, fills = HoldsMask(), SpikeGuard(), Fill()
    layers = [keras.Input((3,)), layer, keras.layers.Dense(4), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    setattr(fills, when, fills.fill)
    if when == "before":
        fills.fill()
    fit(model, guard, fills, epochs=2)
    assert guard.events == [] and np.isneginf(keras.ops.convert_to_numpy(layer.mask)).all()
