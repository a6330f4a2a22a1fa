"""What SpikeGuard's rule sees and what it takes for a spike, on losses that are labelled.

Losses fall from 2 to 0.3, or as the course says, with noise around them. In those with spikes, 18
batches of 2,000 are so many times higher as the column says; recall is the share of them that is
undone. A false alarm is any other event. Alarms in healthy courses are counted for 10,000 batches.

Usage: python tests/python/spike_detection.py
"""

import numpy as np
from spike_runs import Run, on_data

N, FIRST, APART = 2000, 150, 100
FACTORS = [2, 3, 5, 10]
OPTIONS = {"interval": 32}  # as in SpikeGuard

NOISES = {
    "normal, 10 %": lambda random, n: np.maximum(1 + 0.1 * random.normal(size=n), 0.01),
    "Student t, 5 d.f., 10 %": lambda random, n: np.maximum(
        1 + 0.1 * random.standard_t(5, size=n), 0.01
    ),
    "log-normal, sd 0.3": lambda random, n: np.exp(0.3 * random.normal(size=n)),
    "chi-squared, 8 d.f.": lambda random, n: random.chisquare(8, size=n) / 8,
    "chi-squared, 1 d.f.": lambda random, n: random.chisquare(1, size=n),
}


def course_falling(n):
    return 0.3 + 1.7 * np.exp(-np.arange(n) / (n / 4))


def course_to_nothing(n):
    return 2 * np.exp(-np.arange(n) / (n / 12))


def course_cycle(n):
    """As of a cyclic rate: half as high again, and back, every 200 batches."""
    return course_falling(n) * (1.25 - 0.25 * np.cos(2 * np.pi * np.arange(n) / 200))


def course_warm_up(n):
    """As of a rate that is warmed up: the loss stays for 100 batches, rises a little, and falls."""
    t = np.arange(n)
    return np.where(t < 100, 2 + 0.4 * t / 100, 0.4 + 2 * np.exp(-(t - 100) / (n / 4)))


def course_curriculum(n):
    """Harder data from the middle on: half as high again."""
    return course_falling(n) * np.where(np.arange(n) < n // 2, 1, 1.5)


COURSES = {
    "falls": course_falling,
    "falls to nothing": course_to_nothing,
    "cycles": course_cycle,
    "warm-up": course_warm_up,
    "harder data": course_curriculum,
}


def events(run):
    return len(run.rejected) + run.causes.count("drift is data")


def false_alarms(course, noise, seed, n=N):
    """How many events there are in a healthy run."""
    losses = COURSES[course](n) * NOISES[noise](np.random.default_rng(seed), n)
    return events(Run(on_data(losses), n, n_known=True, **OPTIONS))


def recall(factor, noise, seed, n=N):
    """The share of spikes that are undone, and the number of other events."""
    random = np.random.default_rng(seed)
    losses = course_falling(n) * NOISES[noise](random, n)
    spikes = np.arange(FIRST, n - 50, APART) + random.integers(0, 40)
    # A spike is a batch whose loss is so many times that of its course, noise aside.
    losses[spikes] = factor * course_falling(n)[spikes]
    run = Run(on_data(losses), n, n_known=True, **OPTIONS)
    found = {each.where for each in run.rejected} & set(spikes.tolist())
    return len(found) / len(spikes), events(run) - len(found)


def drifting(seed, by_weights, n=N):
    """A slow rise from the middle on, of the weights or of the data; what the rule makes of it.

    Returns:
        After how many batches the rate was cut, or None; and whether the data were blamed.
    """
    random = np.random.default_rng(seed)
    base, noise = course_falling(n), NOISES["normal, 10 %"](random, n)

    def loss(t, state, scale):
        if by_weights:  # each update from there on, at the full rate, makes it 1 % higher
            steps = sum(1 for each in state[n // 2 :] if each >= n // 2) if t >= n // 2 else 0
            steps = steps if scale == 1 else 0
        else:
            steps = max(t - n // 2, 0)
        return float(base[t] * noise[t] * 1.01 ** min(steps, 250))

    run = Run(loss, n, n_known=True, **OPTIONS)
    cut = next((t for t, scale in enumerate(run.scales) if scale < 1), None)
    return (None if cut is None else cut - n // 2), "drift is data" in run.causes


def print_table(seeds=range(10)):
    print("| noise | " + " | ".join(f"{factor} times" for factor in FACTORS), end=" | ")
    print(" | ".join(COURSES) + " |")
    print("|---" * (1 + len(FACTORS) + len(COURSES)) + "|")
    for noise in NOISES:
        shares = [
            f"{np.mean([recall(factor, noise, seed)[0] for seed in seeds]):.0%}"
            for factor in FACTORS
        ]
        alarms = [
            f"{1e4 * np.mean([false_alarms(course, noise, seed) for seed in seeds]) / N:.1f}"
            for course in COURSES
        ]
        print(f"| {noise} | {' | '.join(shares)} | {' | '.join(alarms)} |")
    for by_weights in (True, False):
        found = [drifting(seed, by_weights) for seed in seeds]
        cuts = [cut for cut, _ in found if cut is not None]
        blamed = sum(data for _, data in found)
        print(
            f"\nA rise of 1 % a batch by {'weights' if by_weights else 'data'}: the rate is cut in "
            f"{len(cuts)} of {len(found)} runs"
            + (f", after {np.median(cuts):.0f} batches" if cuts else "")
            + f"; the data are blamed in {blamed}."
        )


if __name__ == "__main__":
    print_table()
