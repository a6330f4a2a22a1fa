import helpers
import pytest

import pykguard
from pykguard.rules import best, monitor, revert

REVERT = helpers.traces("revert.json")
BEST = helpers.traces("restore_best.json")


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case["name"])


def direction_of(options):
    inferred = "max" if options["monitor"].endswith("accuracy") else "min"
    return options.get("mode", inferred)


def run_revert_rule(case):
    given = {"monitor": "loss", **case["options"]}
    options = revert.Options(
        direction=direction_of(given),
        go_back_to="best" if case["guard"] == "RevertToBestOnIncrease" else "accepted",
        **{k: v for k, v in given.items() if k not in ("monitor", "mode")},
    )
    state, decisions = revert.State(), []
    for epoch, logs in enumerate(case["logs"]):
        seen = revert.Seen(epoch, monitor.read_monitor(logs, given["monitor"]))
        state, decision = revert.step(options, state, seen)
        decisions.append(decision)
    return state, decisions


def run_best_rule(case):
    given = case["options"]
    options = best.Options(
        direction=direction_of(given),
        **{k: v for k, v in given.items() if k not in ("monitor", "mode")},
    )
    state = best.State()
    for epoch, logs in enumerate(case["logs"]):
        value = monitor.read_monitor(logs, given["monitor"])
        state, _ = best.step(options, state, epoch, value)
    return state


def guard_of(case):
    return getattr(pykguard, case["guard"])(**case["options"])


SOUND = [case for case in REVERT if "error" not in case]
FAULTY = [case for case in REVERT if "error" in case]


@each(SOUND)
def test_the_revert_rule_decides_as_the_trace_says(case):
    state, decisions = run_revert_rule(case)
    assert [d.action for d in decisions] == case["decisions"]
    assert [d.restored_from for d in decisions if d.action == "revert"] == case["restored_from"]
    assert [d.stop for d in decisions] == [False] * (len(decisions) - 1) + [case["stopped"]]
    assert (state.best, state.best_epoch) == (case["best"], case["best_epoch"])


@each(SOUND)
def test_a_revert_guard_does_what_the_trace_says(case, marked):
    guard = guard_of(case)
    markers = helpers.drive(guard, marked, case["logs"])
    done = helpers.reverts(guard)
    assert [e.epoch for e in done] == [i for i, d in enumerate(case["decisions"]) if d == "revert"]
    assert [e.restored_from for e in done] == case["restored_from"]
    assert guard.n_reverts == len(done)
    assert (guard.best, guard.best_epoch) == (case["best"], case["best_epoch"])
    assert marked.stop_training is case["stopped"]
    assert [e.action for e in guard.events].count("stop") == case["stopped"]
    restored = {e.epoch: e.restored_from for e in done}
    assert markers == [restored.get(epoch, epoch) for epoch in range(len(markers))]


@each(SOUND)
def test_an_event_holds_the_evidence_of_the_trace(case, marked):
    guard = guard_of(case)
    helpers.drive(guard, marked, case["logs"])
    _, decisions = run_revert_rule(case)
    for event in helpers.reverts(guard):
        assert event.monitor == guard.monitor
        assert event.value == pytest.approx(case["logs"][event.epoch][guard.monitor], nan_ok=True)
        assert event.reference == decisions[event.epoch].reference
        assert event.batch is None


@each(FAULTY)
def test_the_faulty_trace_is_refused_by_the_rule(case):
    with pytest.raises(getattr(pykguard, case["error"])):
        run_revert_rule(case)
    run_revert_rule({**case, "logs": case["logs"][:-1]})


@each(FAULTY)
def test_the_faulty_trace_is_refused_by_the_guard(case, marked):
    guard = guard_of(case)
    with pytest.raises(getattr(pykguard, case["error"])):
        helpers.drive(guard, marked, case["logs"])


@each(BEST)
def test_the_best_rule_ends_as_the_trace_says(case):
    state = run_best_rule(case)
    assert (state.best, state.best_epoch) == (case["best"], case["best_epoch"])


@pytest.mark.filterwarnings("ignore::pykguard.GuardWarning")
@each(BEST)
def test_restore_best_leaves_the_best_state_of_the_trace(case, marked):
    guard = pykguard.RestoreBest(**case["options"])
    helpers.drive(guard, marked, case["logs"])
    guard.on_train_end()
    last = len(case["logs"]) - 1
    assert (guard.best, guard.best_epoch) == (case["best"], case["best_epoch"])
    assert helpers.marker(marked) == (last if case["best"] is None else case["best_epoch"])
