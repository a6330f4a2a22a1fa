import math
from decimal import Decimal

import helpers
import numpy as np
import pytest

from pykguard import LossHistory, RestoreBest, RevertOnLossIncrease, RevertToBestOnIncrease

X, Y = helpers.line(8)
GUARDS = [RevertOnLossIncrease, RevertToBestOnIncrease, RestoreBest]
REVERTERS = GUARDS[:2]

NOT_A_NUMBER = ["0.1", None, True, [0.1], Decimal("0.1"), 1j, np.array([0.1, 0.2])]
NOT_AN_INTEGER = [True, 2.5, 3.0, "3", [3]]
NOT_A_STRING = [None, 7, b"loss", ["loss"]]
NOT_A_FLAG = [1, 0, None, "yes", np.array([True, False])]
NO_PROBE = [
    (X,),
    (X, Y, Y, Y),
    X,
    "data",
    5,
    (X, object()),
    (X, np.array([None] * 8)),
    (None, Y),
    ([[1.0], [2.0, 3.0]], [0.0, 1.0]),
    {"x": X, "y": Y},
]
UNUSABLE_PROBE = [(X, Y[:5]), (X, Y, Y[:7]), (X[:0], Y[:0]), (3.0, 4.0), ([], [])]


def bad(classes, option, values, error):
    for cls in classes:
        for value in values:
            text = f"{cls.__name__} {option}={type(value).__name__} {value!r:.40}"
            yield pytest.param(cls, option, value, error, id=text.replace("\n", " "))


BAD_OPTIONS = [
    *bad(REVERTERS, "tolerance", NOT_A_NUMBER, TypeError),
    *bad(REVERTERS, "tolerance", [math.nan, math.inf, -0.1], ValueError),
    *bad(REVERTERS[:1], "tolerance", [10**400, np.float64("nan")], ValueError),
    *bad(REVERTERS[:1], "tolerance", [np.ndarray, float], TypeError),
    *bad(REVERTERS, "relative_tolerance", ["1%", None, False], TypeError),
    *bad(REVERTERS, "relative_tolerance", [math.nan, math.inf, -1e-9], ValueError),
    *bad(REVERTERS, "lr_factor", ["0.5", None, True], TypeError),
    *bad(REVERTERS, "lr_factor", [0, 2, 1.0001, -0.5, math.nan, math.inf], ValueError),
    *bad(REVERTERS, "min_lr", [None, "0"], TypeError),
    *bad(REVERTERS, "min_lr", [-1e-3, math.nan, math.inf], ValueError),
    *bad(REVERTERS, "reference", [None, 1], TypeError),
    *bad(REVERTERS, "reference", ["last", "", "Best"], ValueError),
    *bad(REVERTERS, "patience", [*NOT_AN_INTEGER, None], TypeError),
    *bad(REVERTERS, "patience", [-1], ValueError),
    *bad(REVERTERS[:1], "patience", [np.float32(2.5)], TypeError),
    *bad(REVERTERS, "max_reverts", NOT_AN_INTEGER, TypeError),
    *bad(REVERTERS, "max_reverts", [0, -3], ValueError),
    *bad([RestoreBest], "min_delta", NOT_A_NUMBER, TypeError),
    *bad([RestoreBest], "min_delta", [math.nan, math.inf, -1], ValueError),
    *bad(GUARDS, "monitor", NOT_A_STRING, TypeError),
    *bad(GUARDS, "monitor", ["", "  ", "\n"], ValueError),
    *bad(GUARDS, "mode", [None, 1, True], TypeError),
    *bad(GUARDS, "mode", ["", "minimum", "MIN"], ValueError),
    *bad(GUARDS, "restore_optimizer", NOT_A_FLAG, TypeError),
    *bad(GUARDS, "restore_random_state", NOT_A_FLAG, TypeError),
    *bad(GUARDS, "start_from_epoch", [*NOT_AN_INTEGER, None], TypeError),
    *bad(GUARDS, "start_from_epoch", [-1], ValueError),
    *bad(GUARDS, "verbose", [*NOT_AN_INTEGER, None, "auto"], TypeError),
    *bad(GUARDS, "verbose", [-1], ValueError),
    *bad([LossHistory], "every", [*NOT_AN_INTEGER, None], TypeError),
    *bad([LossHistory], "every", [0, -2], ValueError),
    *bad([LossHistory], "path", [5, True, ["losses.csv"], b"losses.csv"], TypeError),
    *bad([LossHistory], "path", ["", "losses.txt", "nowhere/losses.csv", "."], ValueError),
]


def shown(value):
    if isinstance(value, np.ndarray):
        return "array of shape"
    return str(value) if isinstance(value, np.generic) else repr(value)[:60]


@pytest.mark.parametrize(("cls", "option", "value", "error"), BAD_OPTIONS)
def test_a_bad_option_is_refused_with_its_name_and_value(cls, option, value, error):
    with pytest.raises(error) as raised:
        cls(**{option: value})
    message = str(raised.value)
    assert message.startswith(f"`{option}` must be ")
    assert shown(value) in message.split(", got ")[-1]


@pytest.mark.parametrize("cls", GUARDS)
@pytest.mark.parametrize("value", NO_PROBE, ids=lambda v: f"{type(v).__name__} {len(str(v))}")
def test_a_probe_that_is_none_is_refused(cls, value):
    with pytest.raises(TypeError, match=r"(?s)`probe` must be None or a tuple .* got .+"):
        cls("loss", probe=value)


@pytest.mark.parametrize("part", ["x", "y", "sample_weight"])
@pytest.mark.parametrize("cls", GUARDS)
def test_a_probe_with_a_nan_is_refused_and_the_part_named(cls, part):
    parts = {"x": np.ones((4, 3)), "y": np.ones((4, 1)), "sample_weight": np.ones(4)}
    parts[part][2] = np.nan
    with pytest.raises(ValueError, match=rf"`probe` must be .* without NaN, got NaN in {part}$"):
        cls("loss", probe=tuple(parts.values()))


@pytest.mark.parametrize("cls", GUARDS)
@pytest.mark.parametrize("value", UNUSABLE_PROBE, ids=lambda v: str(np.shape(v[0])))
def test_a_probe_of_unequal_or_no_rows_is_refused_with_its_shapes(cls, value):
    with pytest.raises(ValueError, match=r"`probe` must be None or a tuple .* got .*shapes"):
        cls("loss", probe=value)


@pytest.mark.parametrize("cls", GUARDS)
def test_a_metric_cannot_be_monitored_on_a_probe(cls):
    with pytest.raises(ValueError, match=r'`monitor` must be "loss" or .* got \'accuracy\''):
        cls("accuracy", probe=(X, Y))


@pytest.mark.parametrize("cls", GUARDS)
def test_a_probe_that_does_not_fit_the_model_is_refused_before_the_first_batch(cls):
    model = helpers.dense_model()
    before = helpers.flat(model.weights)
    guard = cls("loss", probe=(X[:, :2], Y))
    with pytest.raises(ValueError, match=r"`probe` must be data that .* got .*\(8, 2\)"):
        model.fit(X, Y, verbose=0, callbacks=[guard])
    assert np.array_equal(helpers.flat(model.weights), before)


def test_a_probe_that_does_not_fit_a_model_built_late_is_refused_before_the_first_step():
    model = helpers.Subclassed()
    model.compile("adam", "mse")
    guard = RevertOnLossIncrease(probe=(X[:, :2], Y))
    with pytest.raises(ValueError, match=r"`probe` must be data that .* got .*\(8, 2\)"):
        model.fit(X, Y, verbose=0, callbacks=[guard])
    assert int(model.optimizer.iterations.numpy()) == 0


@pytest.mark.parametrize("cls", GUARDS)
def test_a_mode_that_keras_cannot_infer_has_to_be_given(cls, marked):
    with pytest.raises(ValueError, match=r'`mode` must be "min" or "max" .*\'score\''):
        helpers.drive(cls("score"), marked, [{"loss": 1.0, "score": 1.0}])


@pytest.mark.parametrize("cls", GUARDS)
def test_a_monitored_value_that_is_no_number_is_refused(cls, marked):
    with pytest.raises(ValueError, match=r"`monitor` must name a number .*'f1' is \[0.1, 0.2\]"):
        helpers.drive(cls("f1", mode="max"), marked, [{"loss": 1.0, "f1": [0.1, 0.2]}])


NO_STATE = [None, 5, [], "state", {}, {"events": []}, {"events": [], "rule": {}, "kept": 0, "x": 1}]
TORN_STATE = [
    {"events": None, "rule": None, "kept": None},
    {"events": [{}], "rule": {}, "kept": None},
    {"events": [], "rule": {"nonsense": 1}, "kept": None},
    {"events": [], "rule": {}, "kept": 5},
]


def named(state, cls):
    """The state with the mark of the guard that is to take it."""
    return {**state, "guard": cls.__name__} if state in TORN_STATE else state


@pytest.mark.parametrize("state", NO_STATE + TORN_STATE, ids=str)
@pytest.mark.parametrize("cls", GUARDS)
def test_a_state_that_no_guard_gave_is_refused(cls, state):
    with pytest.raises((TypeError, ValueError), match=r"`state` must be .* got "):
        cls("loss").load_state_dict(named(state, cls))


def test_a_state_that_was_refused_leaves_no_trace(marked):
    donor, guard = RevertOnLossIncrease(), RevertOnLossIncrease()
    helpers.drive(donor, marked, [{"loss": 1.0}, {"loss": 2.0}])
    with pytest.raises((TypeError, ValueError)):
        guard.load_state_dict({**donor.state_dict(), "rule": {"nonsense": 1}})
    assert guard.events == []
    helpers.drive(guard, marked, [{"loss": 3.0}])
    assert guard.events == []


def test_an_error_carries_its_parts():
    with pytest.raises(ValueError) as raised:
        RevertOnLossIncrease(tolerance=-1)
    assert (raised.value.argument, raised.value.value) == ("tolerance", -1)


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(ValueError) as raised:
        RevertOnLossIncrease(mode="x" * 5000)
    assert len(str(raised.value)) < 200
