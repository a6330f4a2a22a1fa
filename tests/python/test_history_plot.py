"""The picture of a loss history: what is chosen for it, and what Matplotlib draws of that."""

import time
from types import SimpleNamespace

import helpers
import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from pykguard import Event, LossHistory, RevertOnLossIncrease, r_bridge
from pykguard.picture import to_plot
from pykguard.picture._plot import plot_history

NAN, INF = np.nan, np.inf


@pytest.fixture(autouse=True)
def figures_closed():
    yield
    plt.close("all")


def record(losses, per_epoch, *, first_epoch=0, loss=None, **columns):
    """Columns of a run as LossHistory has them; `val_…` are of epochs, others of batches."""
    losses = np.array(losses, dtype="float64")
    number = np.arange(len(losses))
    batches = {
        "epoch": (number // per_epoch + first_epoch).astype("int32"),
        "batch": (number % per_epoch).astype("int32"),
        "loss": losses,
        "exact": np.full(len(losses), True),
    }
    ends = np.arange(per_epoch, len(losses) + 1, per_epoch)
    if loss is None:
        loss = [losses[end - per_epoch : end].mean() for end in ends]
    epochs = {
        "epoch": np.arange(len(loss), dtype="int32") + first_epoch,
        "loss": np.array(loss, dtype="float64"),
    }
    for name, values in columns.items():
        (epochs if name.startswith("val_") else batches)[name] = np.array(values)
    return batches, epochs, per_epoch


def event(epoch, batch=None, action="revert"):
    return Event(epoch, batch, action, "loss", 2.0, 1.0, epoch - 1, 0.1, "is worse than best 1")


def line(picture, name):
    which = picture.lines["name"] == name
    return picture.lines["time"][which], picture.lines["value"][which]


def marks(picture, what, name="each batch", edge=1):
    rows = zip(*picture.marks.values(), strict=True)
    return [t for n, t, w, e in rows if (n, w, e) == (name, what, edge)]


# ---------------------------------------------------------------- the axis of time
def test_an_epoch_ends_at_the_next_whole_number():
    picture = to_plot(*record([4, 3, 2, 1], 2), [])
    assert line(picture, "each batch")[0].tolist() == [0.5, 1, 1.5, 2]
    assert line(picture, "loss")[0].tolist() == [1, 2]
    assert (picture.span, picture.ticks, picture.title) == ((0, 2), [0, 1, 2], "epoch")


@pytest.mark.parametrize(
    ("epochs", "labels"),
    [(10, range(11)), (30, range(0, 31, 5)), (33, range(0, 34, 5)), (1000, range(0, 1001, 100))],
)
def test_ticks_are_at_whole_round_epochs(epochs, labels):
    assert to_plot(*record(np.ones(epochs), 1), []).ticks == list(labels)


@pytest.mark.parametrize(("first", "title"), [(0, "batch"), (6, "batch of epoch 7")])
def test_a_single_epoch_is_labelled_by_its_batches(first, title):
    picture = to_plot(*record(np.ones(200), 200, first_epoch=first), [])
    assert picture.title == title
    assert picture.tick_labels == list(range(20, 201, 20))
    np.testing.assert_allclose(picture.ticks, first + np.arange(20, 201, 20) / 200)


def test_an_epoch_that_was_interrupted_ends_the_axis():
    assert to_plot(*record(np.ones(25), 10), []).span == (0, 2.5)


# ---------------------------------------------------------------- lines
def test_a_short_run_is_drawn_whole_and_as_points():
    losses = [3.0, 2.0, NAN, 1.0]
    picture = to_plot(*record(losses, 4, loss=[1.5]), [])
    np.testing.assert_array_equal(line(picture, "each batch")[1], losses)
    of_batches = picture.lines["name"] == "each batch"
    assert picture.lines["point"][of_batches].tolist() == [True, True, False, True]


def test_of_a_long_line_only_what_stands_alone_is_a_point():
    losses = np.ones(300)
    losses[[100, 102]] = NAN
    losses[0], losses[1] = 1, INF
    picture = to_plot(*record(losses, 100), [])
    where = picture.lines["time"][picture.lines["point"] & (picture.lines["name"] == "each batch")]
    assert where.tolist() == [0.01, 1.02]


@given(
    st.lists(st.integers(0, 29_999), min_size=1, max_size=5, unique=True),
    st.integers(50, 1000),
    st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_no_single_batch_spike_is_lost(spikes, n, exact):
    losses = np.random.default_rng(0).uniform(0.5, 1.5, size=30_000)
    losses[spikes] = 5 + np.arange(len(spikes))
    batches, epochs, per_epoch = record(losses, 3000)
    batches["exact"][:] = exact
    picture = to_plot(batches, epochs, per_epoch, [], n)
    drawn_times, drawn = line(picture, "each batch" if exact else "not exact")
    bucket = np.floor((np.arange(30_000) / 29_999 * n).clip(max=n - 1))
    highest = {spike for spike in spikes if losses[spike] == losses[bucket == bucket[spike]].max()}
    assert highest <= set(np.rint(drawn_times[drawn >= 5] * 3000 - 1).tolist())
    assert picture.limits[1] >= losses.max()
    assert len(drawn) <= max(5 * n, 4 * n)


def test_a_dense_run_has_the_median_of_its_batches():
    random = np.random.default_rng(0)
    losses = np.repeat([2.0, 1.0], 10_000) + random.uniform(-0.5, 0.5, 20_000)
    losses[::100] = 9  # hardly moves a median
    time_, median = line(to_plot(*record(losses, 10_000), []), "typical batch")
    np.testing.assert_allclose(median[time_ < 0.99], 2, atol=0.2)
    np.testing.assert_allclose(median[time_ > 1.01], 1, atol=0.2)
    assert len(line(to_plot(*record(losses[:5000], 1000), []), "typical batch")[1]) == 0


def test_losses_that_are_not_exact_have_a_line_of_their_own():
    exact = [True, True, False, False, True]
    picture = to_plot(*record([1, 2, 3, 4, 5], 5, exact=exact), [])
    np.testing.assert_array_equal(line(picture, "each batch")[1], [1, 2, NAN, NAN, 5])
    np.testing.assert_array_equal(line(picture, "not exact")[1], [NAN, NAN, 3, 4, NAN])


def test_a_curve_of_many_epochs_is_thinned():
    loss = np.ones(10**5)
    loss[77_777] = 3
    picture = to_plot(*record(loss, 1), [])
    drawn = line(picture, "loss")
    assert len(drawn[0]) <= 5000 and 77_778 in drawn[0][drawn[1] == 3]


# ---------------------------------------------------------------- validation
def validation(values, **others):
    n = len(values)
    picture = to_plot(*record(np.ones(n), 1, val_loss=values, **others), [])
    drawn = line(picture, "val_loss")
    return drawn[0].tolist(), marks(picture, "not finite", "val_loss")


def test_epochs_without_validation_are_passed_over():
    assert validation([NAN, 2, NAN, 1, NAN, 0.5]) == ([2, 4, 6], [])


def test_a_list_of_epochs_that_validate_is_no_rhythm():
    assert validation([3, 2, *[NAN] * 7, 1]) == ([1, 2, 10], [])


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_validation_that_was_not_finite_is_a_gap_and_marked(bad):
    assert validation([3, 2, bad, 1]) == ([1, 2, 3, 4], [3])
    assert validation([NAN, 2, NAN, bad, NAN, 1]) == ([2, 4, 6], [4])


def test_the_other_metrics_of_a_validation_tell_that_it_was_measured():
    values, others = [3, *[NAN] * 9], [1, *[NAN] * 6, 1, NAN, NAN]
    assert validation(values) == ([1], [])
    assert validation(values, val_mae=others) == ([1, 8], [8])


def test_a_validation_that_never_was_finite_is_marked():
    assert validation([NAN, NAN]) == ([], [1, 2])


# ---------------------------------------------------------------- marks
def test_what_is_not_finite_is_marked_where_it_was():
    picture = to_plot(*record([1, NAN, 1, INF, 1, -INF, 1, 1], 4), [])
    assert marks(picture, "not finite") == [0.5, 1, 1.5]
    assert marks(picture, "not finite", "loss") == [1, 2]


def test_marks_are_no_bar():
    assert 70 <= len(marks(to_plot(*record(np.full(10**5, NAN), 10**4), []), "not finite")) <= 75


def test_where_nothing_was_logged_there_is_nothing_to_mark():
    assert marks(to_plot(*record([NAN, NAN], 2, exact=[False, False]), []), "not finite") == []
    picture = to_plot(*record([1, NAN], 2, exact=[False, False]), [])
    assert marks(picture, "not finite") == [1]  # the loss of a hand-written step was NaN


def test_what_is_far_above_all_epochs_is_drawn_to_the_edge_and_marked_there():
    picture = to_plot(*record([1, 1e30, 2, 14.9], 4, loss=[1.5]), [])
    assert marks(picture, "off the scale") == [0.5]
    assert line(picture, "each batch")[1].tolist() == [1, picture.limits[1], 2, 14.9]
    assert 14.9 < picture.limits[1] < 20


def test_negative_losses_have_edges_too():
    picture = to_plot(*record([-4, -5, 1e9, -1e9, 20, -20], 6, loss=[-4.5]), [])
    assert marks(picture, "off the scale") == [0.5]
    assert marks(picture, "off the scale", edge=-1) == [pytest.approx(2 / 3)]
    assert picture.limits[0] < -20 and picture.limits[1] > 20 and not picture.log


# ---------------------------------------------------------------- scales
@pytest.mark.parametrize(
    ("losses", "log"),
    [
        ([1, 2, 3], False),
        ([1, 99], False),
        ([1, 101], True),
        ([0, 1, 1000], False),
        ([-1, 1, 1000], False),
        (10.0 ** np.arange(30), True),
        ([1e-300, 1e279], True),
        ([5e-324, 1e-310], False),
        (np.full(10, NAN), False),
        ([0.5] * 3, False),
    ],
)
def test_the_scale_is_logarithmic_where_positive_losses_span_magnitudes(losses, log):
    picture = to_plot(*record(losses, 1), [])
    assert picture.log == log
    low, high = picture.limits
    assert np.isfinite([low, high]).all() and low < high
    if log:
        assert low > 0


def test_single_batches_with_next_to_no_loss_do_not_make_the_scale_logarithmic():
    losses = np.random.default_rng(0).exponential(size=100_000)
    assert losses.max() > 1e4 * losses.min() > 0
    assert not to_plot(*record(losses, 10_000), []).log


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40))
@settings(max_examples=300, deadline=None)
def test_whatever_the_losses_there_is_a_picture(losses):
    with np.errstate(all="ignore"):
        run = record(losses, 4)
    picture = to_plot(*run, [])
    low, high = picture.limits
    assert np.isfinite(high - low) and low < high
    drawn = picture.lines["value"]
    assert ((drawn >= low) & (drawn <= high) | np.isnan(drawn)).all()
    finite = np.isfinite(run[0]["loss"])
    drawn = line(picture, "each batch")[1]
    assert (len(drawn) == 0 and not finite.any()) or (np.isfinite(drawn) == finite).all()
    assert len(marks(picture, "not finite")) == (~finite).sum()


# ---------------------------------------------------------------- learning rate
def rate(rates, per_epoch=2):
    return to_plot(*record(np.ones(len(rates)), per_epoch, learning_rate=rates), [])


def test_the_learning_rate_is_drawn_in_steps():
    picture = rate([0.1, 0.1, 0.05, 0.05])
    assert picture.rate["time"].tolist() == [0, 1, 1, 2]
    assert picture.rate["value"].tolist() == [0.1, 0.1, 0.05, 0.05]


def test_a_rate_that_is_not_known_is_a_gap():
    assert len(rate([NAN, NAN]).rate["time"]) == 0
    picture = rate([NAN, NAN, 0.1, 0.1])
    np.testing.assert_array_equal(picture.rate["value"], [NAN, NAN, 0.1, 0.1])


@pytest.mark.parametrize(
    ("rates", "log"),
    [
        (np.repeat([1.0, 0.1, 0.01], 100), True),
        (0.1 * 0.98 ** np.arange(300), True),
        (np.repeat([0.1, 0.05], 100), False),
        (np.full(9, 0.1), False),
        (1e-3 * (1 + np.cos(np.linspace(0, np.pi, 300))) + 1e-6, False),
        (np.zeros(5), False),
    ],
)
def test_the_scale_of_the_rate_is_logarithmic_where_it_comes_down_by_magnitudes(rates, log):
    picture = rate(rates, 10)
    assert picture.rate_log == log
    assert picture.rate_limits[0] <= rates.min() and picture.rate_limits[1] > rates.max()
    assert log or picture.rate_limits[0] == 0


def test_a_schedule_of_many_steps_is_thinned():
    picture = rate(np.linspace(1e-3, 0, 200_000), 1000)
    assert len(picture.rate["time"]) <= 10_000
    np.testing.assert_allclose(
        picture.rate["value"], 1e-3 * (1 - picture.rate["time"] / 200), atol=2e-6
    )


# ---------------------------------------------------------------- reverts
def test_reverts_are_where_they_happened():
    events = [event(2), event(2), event(1, 4, "rollback"), event(3, None, "restore")]
    picture = to_plot(*record(np.ones(40), 10), events)
    assert picture.reverts["time"].tolist() == [1.5, 3]
    assert picture.reverts["what"].tolist() == ["rolled back", "reverted"]
    assert not picture.many_reverts


def test_reverts_beyond_counting_are_thinned():
    picture = to_plot(*record(np.ones(5000), 1), [event(epoch) for epoch in range(5000)])
    assert picture.many_reverts and len(picture.reverts["time"]) == 200


# ---------------------------------------------------------------- Matplotlib
def curve(axes, label):
    [line] = [line for line in axes.get_lines() if line.get_label() == label]
    return line


def legend_of(axes):
    legend = axes.get_legend() or axes.figure.legends[0]
    return [text.get_text() for text in legend.get_texts()]


def test_the_picture_shows_what_was_recorded():
    x, y = helpers.line()
    poison = helpers.PoisonedData(x, y, {1})
    history, guard = LossHistory(), RevertOnLossIncrease()
    helpers.dense_model().fit(
        poison.data, shuffle=False, epochs=3, verbose=0, callbacks=[poison, guard, history]
    )
    axes = history.plot(guard)
    np.testing.assert_array_equal(curve(axes, "each batch").get_ydata(), history.losses)
    np.testing.assert_array_equal(curve(axes, "loss").get_ydata(), history.epochs["loss"])
    assert curve(axes, "loss").get_xdata().tolist() == [1, 2, 3]
    assert np.isnan(history.losses[4:8]).all()
    assert curve(axes, "reverted").get_xdata()[0] == 2
    assert curve(axes, "not finite").get_xdata().tolist() == [1.25, 1.5, 1.75, 2.0]
    axes.figure.canvas.draw()


def test_a_batch_far_above_the_epochs_is_drawn_to_the_edge():
    x, y = helpers.line()
    y[4] = 1e4
    history = LossHistory()
    helpers.dense_model(keras.optimizers.SGD(0.0)).fit(
        x, y, batch_size=1, shuffle=False, verbose=0, callbacks=[history]
    )
    axes = history.plot()
    assert curve(axes, "off the scale").get_xdata().tolist() == [5 / 32]
    drawn = curve(axes, "each batch").get_ydata()
    assert np.flatnonzero(drawn != history.losses).tolist() == [4]
    assert drawn[4] == pytest.approx(axes.get_ylim()[1])


def test_the_picture_can_be_drawn_on_axes_of_ones_own():
    axes = Figure().subplots()
    x, y = helpers.line()
    history = LossHistory()
    helpers.dense_model().fit(x, y, validation_split=0.25, verbose=0, callbacks=[history])
    assert history.plot(ax=axes) is axes
    assert curve(axes, "val_loss").get_ydata().tolist() == history.epochs["val_loss"].tolist()
    assert len(axes.figure.axes) == 1 and axes.get_legend()


def test_a_wide_range_is_drawn_on_a_log_scale():
    x, y = helpers.line()
    for factor, scale in ((1, "linear"), (1e4, "log")):
        targets = y * np.where(np.arange(32) < 16, 1, factor)[:, None]
        history = LossHistory()
        helpers.dense_model("sgd").fit(
            x, targets, batch_size=16, shuffle=False, verbose=0, callbacks=[history]
        )
        assert history.plot().get_yscale() == scale


def test_a_second_run_on_the_same_axes_leaves_the_first_in_view():
    axes = Figure().subplots()
    for losses in ([5.0, 4.0, 3.0], [1.0, 0.5, 0.1], [2.0, 2.0, 2.0]):
        plot_history(*record(losses, 1), [], axes)
    axes.figure.canvas.draw()
    low, high = axes.get_ylim()
    assert low <= 0.1 and high >= 5
    axes.axhline(8)
    assert axes.get_ylim()[1] >= 8


def test_the_learning_rate_has_a_panel_below():
    run = record(np.ones(40), 10, learning_rate=np.repeat([1, 0.1, 0.01, 0.001], 10))
    axes = plot_history(*run, [event(1)], None)
    losses, rates = axes.figure.axes
    assert losses is axes
    assert rates.get_yscale() == "log" and rates.get_ylabel() == "learning\nrate"
    assert losses.get_xlim() == rates.get_xlim()
    assert rates.get_xlabel() == "epoch" and losses.get_xlabel() == ""
    axes.figure.canvas.draw()
    assert losses.get_position().height > 3 * rates.get_position().height
    steps = rates.get_lines()[0]
    assert steps.get_xdata().tolist() == [0, 1, 1, 2, 2, 3, 3, 4]


def test_without_a_known_rate_there_is_one_panel():
    for options in ({}, {"learning_rate": np.full(4, NAN)}):
        axes = plot_history(*record([4, 3, 2, 1], 2, **options), [], None)
        assert len(axes.figure.axes) == 1 and axes.get_xlabel() == "epoch"


def test_the_legend_names_each_thing_once_and_covers_nothing():
    events = [event(0), event(1), event(1, 1, "rollback"), event(2, 1, "rollback")]
    losses = [1, NAN, 1, 1, 1, 1e9, 1, NAN, -1e9, 1, 1, 1]
    run = record(losses, 4, loss=[1, 1, 1], val_loss=[1, NAN, 1], exact=np.arange(12) < 9)
    axes = plot_history(*run, events, None)
    assert legend_of(axes) == [
        "each batch",
        "not exact",
        "loss",
        "val_loss",
        "not finite",
        "off the scale",
        "reverted",
        "rolled back",
    ]
    axes.figure.canvas.draw()
    [legend] = axes.figure.legends
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())


def test_many_reverts_are_short():
    axes = plot_history(*record(np.ones(100), 1), [event(epoch) for epoch in range(50)], None)
    [ticks] = [c for c in axes.collections if c.get_label() == "reverted"]
    heights = {tuple(segment[:, 1]) for segment in ticks.get_segments()}
    assert len(ticks.get_segments()) == 50 and max(high for _, high in heights) < 0.1


@pytest.mark.parametrize("losses", [np.full(60, NAN), [], [1.0], np.zeros(30), [-1e308, 1e308]])
def test_strange_runs_can_be_drawn(losses):
    with np.errstate(all="ignore"):
        run = record(losses, 20, learning_rate=np.full(len(losses), 0.1))
    plot_history(*run, [], None).figure.canvas.draw()


def test_where_no_loss_is_finite_the_axis_has_no_numbers():
    axes = plot_history(*record(np.full(60, NAN), 20), [], None)
    assert axes.get_yticks().tolist() == [] and legend_of(axes) == ["not finite"]


def test_a_million_batches_are_chosen_from_in_a_second():
    random = np.random.default_rng(0)
    losses = random.gamma(30, 1 / 30, size=10**6)
    losses[[200_000, 555_555]] = 9, 7
    run = record(losses, 10**5, learning_rate=np.linspace(1e-3, 1e-5, 10**6))
    began = time.process_time()
    picture = to_plot(*run, [])
    assert time.process_time() - began < 1
    assert {9, 7} <= set(line(picture, "each batch")[1].tolist())


def test_r_is_given_the_same_picture(marked):
    batches, epochs, per_epoch = record([3, 2, 1, 4], 2, learning_rate=[0.1, 0.1, 0.05, 0.05])
    tables = {"batches": batches, "epochs": epochs, "batches_per_epoch": per_epoch}
    history = SimpleNamespace(**tables, events=[])
    guard = RevertOnLossIncrease()
    helpers.drive(guard, marked, [{"loss": 1}, {"loss": 2}])
    for one, events in ((None, []), (guard, guard.events)):
        expected = to_plot(batches, epochs, per_epoch, events)._asdict()
        np.testing.assert_equal(r_bridge.picture(history, one), expected)
    assert expected["reverts"]["time"].tolist() == [2]
