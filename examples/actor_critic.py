# An advantage actor-critic learns to balance the pole of Gymnasium's CartPole-v1, in a guarded
# loop: at a learning rate that suits it and at one that is a hundred times too high, each with a
# guard and without. Needs gymnasium and matplotlib.
#   python examples/actor_critic.py [--seeds 5] [--episodes 1500] [--picture file.png]
import argparse
import os
from typing import NamedTuple

os.environ["KERAS_BACKEND"] = "tensorflow"  # whose tape takes the gradients
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import gymnasium
import keras
import numpy as np
import tensorflow as tf

import pykguard as kg

tf.get_logger().setLevel("ERROR")  # it would warn of steps that are compiled anew

GAMMA = 0.99  # what a reward is worth one step later
BETA = 0.01  # weight of the entropy
PLAYERS = 10  # episodes that an update learns from
RATE, TOO_HIGH = 0.01, 1.0
MAX_KL = 0.05  # how far one update may move the policy
SOLVED = 195  # mean return of the last 100 episodes
SMALLEST = 1e-8  # KL that is drawn
GREY, ORANGE, BLUE, GREEN, RED = "#7a7a7a", "#d1701f", "#1b6ca8", "#3c8d40", "#b3261e"
CIRCLES = {"s": 60, "facecolors": "none", "edgecolors": RED, "zorder": 3}


# ---------------------------------------------------------------- formulas
# The actor is the policy pi(a|s), the critic V(s) says what return to expect from a state. Of an
# episode with rewards r_0 ... r_{T-1}, the return from step t on is
#   G_t = r_t + gamma G_{t+1},  G_T = 0 where the pole fell, V(s_T) where time was up (500 steps)
# and the advantage A_t = G_t - V(s_t) says how much better the action was than expected. Losses:
#   actor   -mean(log pi(a_t|s_t) A_t) - beta mean(H(s_t)),  H(s) = -sum_a pi(a|s) log pi(a|s)
#   critic  mean(huber(G_t - V(s_t)))
# In the actor's loss A_t is a number: no gradient goes through it into the critic.
#   V. Mnih et al. (2016), Asynchronous methods for deep reinforcement learning, ICML
#   R. S. Sutton and A. G. Barto (2018), Reinforcement learning, 2nd edition, chapter 13
#
# Versions of this that are passed around go wrong where it does not show: the critic learns the raw
# rewards (here 1, whatever the state) in place of the returns; it gives a column, and a row of
# rewards minus a column is a matrix of all differences; an episode that was cut off counts as one
# that failed; log(softmax(x)) is -inf as soon as the policy is sure of itself; and nothing plays.
def discounted(rewards, following, gamma=GAMMA):
    """Give the returns G_t of an episode; `following` is what comes after its last reward."""
    returns = np.empty(len(rewards), "float32")
    for step in reversed(range(len(rewards))):
        returns[step] = following = rewards[step] + gamma * following
    return returns


def losses_of(actor, critic, states, actions, returns):
    """Give the losses of the actor and of the critic, and log pi(.|s_t), one row a state."""
    log_policy = tf.nn.log_softmax(actor(states))
    values = critic(states)[:, 0]
    advantages = tf.stop_gradient(returns - values)
    taken = tf.gather(log_policy, actions, axis=1, batch_dims=1)
    entropy = -tf.reduce_sum(tf.exp(log_policy) * log_policy, axis=1)
    actor_loss = -tf.reduce_mean(taken * advantages) - BETA * tf.reduce_mean(entropy)
    critic_loss = keras.losses.Huber()(returns, values)
    return actor_loss, critic_loss, log_policy


# ---------------------------------------------------------------- episodes
class Episodes(NamedTuple):
    states: np.ndarray  # (steps of all episodes, 4)
    actions: np.ndarray  # (steps,)
    returns: np.ndarray  # (steps,), discounted
    scores: np.ndarray  # (PLAYERS,), sums of the rewards


def play(envs, actor, critic, random):
    """Let each of the environments play one episode with the policy as it is."""
    hidden, hidden_bias, out, out_bias = actor.get_weights()  # NumPy is faster on ten rows
    states, _ = envs.reset()
    count = len(states)
    played = [([], [], []) for _ in range(count)]
    last, is_cut = np.zeros_like(states), np.zeros(count, bool)
    running = np.ones(count, bool)
    while running.any():
        logits = np.tanh(states @ hidden + hidden_bias) @ out + out_bias
        right = 0.5 + 0.5 * np.tanh((logits[:, 1] - logits[:, 0]) / 2)
        actions = (random.random(count) < right).astype("int64")
        following, rewards, fell, cut, _ = envs.step(actions)
        for one in np.flatnonzero(running):
            for kept, value in zip(played[one], (states, actions, rewards), strict=True):
                kept.append(value[one])
        ended = running & (fell | cut)
        last[ended], is_cut[ended] = following[ended], (cut & ~fell)[ended]
        running &= ~ended  # an environment that ended is reset by Gymnasium; that is not looked at
        states = following
    expected = np.where(is_cut, critic(last).numpy()[:, 0], 0)
    return Episodes(
        np.concatenate([states for states, _, _ in played]),
        np.concatenate([actions for _, actions, _ in played]).astype("int32"),
        np.concatenate(
            [
                discounted(rewards, after)
                for (_, _, rewards), after in zip(played, expected, strict=True)
            ]
        ),
        np.array([sum(rewards) for _, _, rewards in played]),
    )


# ---------------------------------------------------------------- networks and step
def network(outputs):
    layers = [keras.Input((4,)), keras.layers.Dense(64, "tanh"), keras.layers.Dense(outputs)]
    return keras.Sequential(layers)


def optimizer(rate):
    """Give an Adam whose first step has the rate 0.

    That step changes no weight, and its KL of 0 is the best there is: what the guard compares with.
    """
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.0, rate])
    return keras.optimizers.Adam(schedule)


def make_step(actor, critic, actor_optimizer, critic_optimizer):
    """Give `step(states, actions, returns)`: both losses, and how far the policy moved,

    KL = mean over s_t of sum_a pi_old(a|s) log(pi_old(a|s) / pi_new(a|s)).
    """
    kinds = [tf.TensorSpec((None, 4)), tf.TensorSpec((None,), tf.int32), tf.TensorSpec((None,))]

    @tf.function(input_signature=kinds)
    def step(states, actions, returns):
        with tf.GradientTape() as tape:
            actor_loss, critic_loss, old = losses_of(actor, critic, states, actions, returns)
        variables = actor.trainable_variables, critic.trainable_variables
        of_actor, of_critic = tape.gradient([actor_loss, critic_loss], variables)
        actor_optimizer.apply(of_actor, variables[0])
        critic_optimizer.apply(of_critic, variables[1])
        new = tf.nn.log_softmax(actor(states))
        kl = tf.reduce_mean(tf.reduce_sum(tf.exp(old) * (old - new), axis=1))
        return actor_loss, critic_loss, kl

    return step


# ---------------------------------------------------------------- a run
class Run(NamedTuple):
    seed: int
    rate: float
    scores: np.ndarray  # of each episode
    solved: int | None  # the episodes it took
    kl: list  # of each update
    guard: kg.RevertOnLossIncrease | None


def train(seed, rate, guarded, episodes=1500):
    """Play and learn until the last 100 episodes have a mean return of SOLVED, or to the end.

    The next episodes are played with the policy that an update makes, so one update that goes too
    far brings bad data for all that follow. The guard takes back an update with a KL above MAX_KL
    in both networks and optimizers, and halves both rates: a trust region with its line search, as
    in J. Schulman et al. (2015), Trust region policy optimization, ICML.
    """
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    envs = gymnasium.make_vec("CartPole-v1", num_envs=PLAYERS, vectorization_mode="sync")
    envs.reset(seed=seed)
    models = [network(2), network(1)]
    optimizers = [optimizer(rate), optimizer(rate)]
    step = make_step(*models, *optimizers)
    guard = kg.RevertOnLossIncrease("kl", mode="min", tolerance=MAX_KL, lr_factor=0.5)
    callbacks = [guard] if guarded else []
    scores, solved = [], None
    with kg.guarded_loop(models, optimizers, callbacks, episodes // PLAYERS, verbose=0) as loop:
        for _ in loop:
            played = play(envs, *models, random)
            scores.extend(played.scores)
            if len(scores) >= 100 and np.mean(scores[-100:]) >= SOLVED:
                solved = len(scores)
                break
            for batch in loop.batches([played[:3]]):
                actor_loss, critic_loss, kl = step(*batch)
                size = len(played.states)
                loop.report(actor_loss, size=size, critic_loss=critic_loss, kl=kl)
    envs.close()
    kl = loop.history.history["kl"]
    return Run(seed, rate, np.array(scores), solved, kl, guard if guarded else None)


# ---------------------------------------------------------------- table and picture
def row_of(run):
    taken_back = "-" if run.guard is None else run.guard.n_reverts
    final = run.rate * 0.5 ** (run.guard.n_reverts if run.guard else 0)
    end = np.mean(run.scores[-100:])
    solved = run.solved or "not"
    guarded = "yes" if run.guard else "no"
    return (
        f"{run.seed:4}{run.rate:7g}{guarded:>9}{solved:>10}{end:10.1f}{taken_back:>12}{final:11.4g}"
    )


def draw(picture, runs):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    looks = {
        (RATE, False): (GREEN, "-", f"rate {RATE:g}"),
        (RATE, True): ("black", ":", f"rate {RATE:g}, guarded"),
        (TOO_HIGH, False): (ORANGE, "-", f"rate {TOO_HIGH:g}"),
        (TOO_HIGH, True): (BLUE, "-", f"rate {TOO_HIGH:g}, guarded"),
    }
    named = set()
    for run in runs:
        colour, line, name = looks[run.rate, run.guard is not None]
        label = None if name in named else name
        named.add(name)
        first = np.arange(PLAYERS, len(run.scores) + 1)
        means = np.array([run.scores[max(0, end - 100) : end].mean() for end in first])
        left.plot(first, means, line, color=colour, lw=1.4, label=label)
        if run.guard:
            back = np.array([event.epoch * PLAYERS for event in run.guard.events], int)
            left.scatter(back + PLAYERS, means[back], **CIRCLES)
    left.axhline(SOLVED, color=GREY, lw=1, ls="--")
    left.text(PLAYERS, SOLVED + 3, f"{SOLVED}: solved, the run ends", color=GREY)
    left.set(xlabel="episodes", ylabel="mean return of the last 100 episodes", ylim=(0, 240))
    left.set_xscale("log", base=2)
    left.set_xlim(PLAYERS - 1, 1.1 * max(len(run.scores) for run in runs))
    left.xaxis.set_major_locator(FixedLocator([10, 50, 100, 200, 500, 1500]))
    left.xaxis.set_major_formatter("{x:.0f}")
    left.set_title("CartPole: how long the pole is balanced", loc="left")
    left.legend(frameon=False, loc="center left")

    for run in runs:
        if run.seed != runs[0].seed or run.rate != TOO_HIGH:
            continue
        colour, line, name = looks[run.rate, run.guard is not None]
        kl = np.maximum(run.kl, SMALLEST)
        right.plot(np.arange(2, len(kl) + 1), kl[1:], line, color=colour, lw=1.4, label=name)
        if run.guard:
            back = np.array([event.epoch for event in run.guard.events], int)
            right.scatter(back + 1, kl[back], label="taken back", **CIRCLES)
    limit = {"transform": right.get_yaxis_transform(), "ha": "right", "color": GREY}
    right.axhline(MAX_KL, color=GREY, lw=1, ls="--")
    right.text(0.99, MAX_KL * 1.3, f"the guard lets {MAX_KL:g} pass", **limit)
    right.text(0.99, SMALLEST * 1.5, "sure of one action, for good", **limit)
    right.set(xlabel="update", ylabel="KL of the policy after from before", yscale="log")
    right.set(xlim=(0, 50), ylim=(SMALLEST / 4, None))
    right.set_title(f"How far an update moved the policy (seed {runs[0].seed})", loc="left")
    right.legend(frameon=False, loc="upper right")
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=110)
    print(f"\nwrote {picture}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=1500)
    parser.add_argument("--picture", default="examples/actor_critic.png")
    given = parser.parse_args()
    print(f"CartPole-v1: episodes until the last 100 have a mean return of {SOLVED}\n")
    print("seed   rate  guarded  episodes  at the end  taken back  last rate")
    runs = []
    for rate in (RATE, TOO_HIGH):
        for guarded in (False, True):
            for seed in range(1, given.seeds + 1):
                runs.append(train(seed, rate, guarded, given.episodes))
                print(row_of(runs[-1]), flush=True)
    print(f"\nWhat the guard did at the rate {TOO_HIGH:g}, seed 1\n")
    for event in next(r for r in runs if r.guard and r.rate == TOO_HIGH).guard.events:
        what = f"  update {event.epoch + 1}: kl {event.value:.3g} {event.reason}"
        print(f"{what}, rate now {event.learning_rate:g}")
    draw(given.picture, runs)


if __name__ == "__main__":
    main()
