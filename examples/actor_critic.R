# An advantage actor-critic learns to balance the pole of Gymnasium's CartPole-v1, in a guarded loop:
# at a learning rate that suits it and at one that is a hundred times too high, each with a guard and
# without. Needs Python's gymnasium.
#   Rscript examples/actor_critic.R [picture.png [seeds [episodes]]]
library(kguard)

gamma <- 0.99 # what a reward is worth one step later
beta <- 0.01 # weight of the entropy
players <- 10L # episodes that an update learns from
suits <- 0.01 # learning rates
too_high <- 1
max_kl <- 0.05 # how far one update may move the policy
solved <- 195 # mean return of the last 100 episodes

Sys.setenv(KERAS_BACKEND = "tensorflow") # whose tape takes the gradients
gymnasium <- reticulate::import("gymnasium")
keras <- reticulate::import("keras")
np <- reticulate::import("numpy", convert = FALSE)
tf <- reticulate::import("tensorflow")
tf$get_logger()$setLevel("ERROR") # it would warn of steps that are compiled anew

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
discounted <- function(rewards, following) {
  add <- function(after, reward) reward + gamma * after
  rev(Reduce(add, rev(rewards), following, accumulate = TRUE)[-1])
}

losses_of <- function(actor, critic, states, actions, returns) {
  log_policy <- tf$nn$log_softmax(actor(states))
  values <- tf$squeeze(critic(states), axis = 1L)
  advantages <- tf$stop_gradient(tf$subtract(returns, values))
  taken <- tf$gather(log_policy, actions, axis = 1L, batch_dims = 1L)
  neg_entropy <- tf$reduce_sum(tf$multiply(tf$exp(log_policy), log_policy), axis = 1L)
  gain <- tf$subtract(tf$multiply(taken, advantages), tf$multiply(beta, neg_entropy))
  list(
    actor = tf$negative(tf$reduce_mean(gain)),
    critic = keras$losses$Huber()(returns, values),
    log_policy = log_policy
  )
}

# How far the policy moved: mean over s_t of sum_a pi_old(a|s) log(pi_old(a|s) / pi_new(a|s)).
kl_of <- function(old, new) {
  tf$reduce_mean(tf$reduce_sum(tf$multiply(tf$exp(old), tf$subtract(old, new)), axis = 1L))
}

# ---------------------------------------------------------------- episodes
# Lets each of the environments play one episode with the policy as it is.
play <- function(envs, actor, critic) {
  weights <- actor$get_weights() # R is faster on ten rows
  states <- envs$reset()[[1]]
  count <- nrow(states)
  last <- states
  is_cut <- logical(count)
  running <- rep(TRUE, count)
  steps <- list()
  while (any(running)) {
    hidden <- tanh(sweep(states %*% weights[[1]], 2, weights[[2]], "+"))
    logits <- sweep(hidden %*% weights[[3]], 2, weights[[4]], "+")
    actions <- as.integer(runif(count) < plogis(logits[, 2] - logits[, 1]))
    now <- envs$step(np$array(actions)) # states, rewards, fell, cut
    steps[[length(steps) + 1L]] <- cbind(
      states, actions, as.vector(now[[2]]), seq_len(count)
    )[running, , drop = FALSE]
    ended <- running & as.vector(now[[3]] | now[[4]])
    last[ended, ] <- now[[1]][ended, ]
    is_cut[ended] <- as.vector(now[[4]] & !now[[3]])[ended]
    running <- running & !ended # Gymnasium resets what ended; that is not looked at
    states <- now[[1]]
  }
  steps <- do.call(rbind, steps)
  steps <- steps[order(steps[, 7]), ]
  expected <- ifelse(is_cut, as.vector(critic(last)$numpy()), 0)
  rewards <- split(steps[, 6], steps[, 7])
  list(
    states = steps[, 1:4],
    actions = as.integer(steps[, 5]),
    returns = unlist(Map(discounted, rewards, expected), use.names = FALSE),
    scores = vapply(rewards, sum, 0)
  )
}

# ---------------------------------------------------------------- networks and step
network <- function(outputs) {
  layers <- keras$layers
  keras$Sequential(list(
    layers$Input(list(4L)), layers$Dense(64L, activation = "tanh"), layers$Dense(outputs)
  ))
}

# An Adam whose first step has the rate 0. That step changes no weight, and its KL of 0 is the best
# there is: what the guard compares with.
optimizer <- function(rate) {
  schedule <- keras$optimizers$schedules$PiecewiseConstantDecay(list(0L), list(0, rate))
  keras$optimizers$Adam(schedule)
}

# Gives both losses and the KL. It is compiled: R is asked only when TensorFlow traces it, at first and
# after the guard has cut the rate.
make_step <- function(actor, critic, actor_optimizer, critic_optimizer) {
  step <- function(states, actions, returns) {
    tape <- tf$GradientTape()
    with(tape, losses <- losses_of(actor, critic, states, actions, returns))
    variables <- list(actor$trainable_variables, critic$trainable_variables)
    gradients <- tape$gradient(list(losses$actor, losses$critic), variables)
    actor_optimizer$apply(gradients[[1]], variables[[1]])
    critic_optimizer$apply(gradients[[2]], variables[[2]])
    kl <- kl_of(losses$log_policy, tf$nn$log_softmax(actor(states)))
    list(losses$actor, losses$critic, kl)
  }
  kinds <- list(
    tf$TensorSpec(list(NULL, 4L)), tf$TensorSpec(list(NULL), tf$int32), tf$TensorSpec(list(NULL))
  )
  tf$`function`(step, input_signature = kinds, autograph = FALSE)
}

tensors <- function(played) {
  list(
    tf$constant(played$states, tf$float32), tf$constant(as.array(played$actions), tf$int32),
    tf$constant(as.array(played$returns), tf$float32)
  )
}

# ---------------------------------------------------------------- a run
# Plays and learns until the last 100 episodes have a mean return of `solved`, or to the end. The next
# episodes are played with the policy that an update makes, so one update that goes too far brings bad
# data for all that follow. The guard takes back an update with a KL above `max_kl` in both networks
# and optimizers, and halves both rates: a trust region with its line search, as in
#   J. Schulman et al. (2015), Trust region policy optimization, ICML
train <- function(seed, rate, guarded, episodes = 1500) {
  keras$utils$set_random_seed(as.integer(seed))
  set.seed(seed)
  envs <- gymnasium$make_vec("CartPole-v1", num_envs = players, vectorization_mode = "sync")
  on.exit(envs$close())
  envs$reset(seed = as.integer(seed))
  models <- list(network(2L), network(1L))
  optimizers <- list(optimizer(rate), optimizer(rate))
  step <- do.call(make_step, c(models, optimizers))
  guard <- callback_revert_on_loss_increase("kl", mode = "min", tolerance = max_kl, lr_factor = 0.5)
  loop <- guarded_loop(models, optimizers, if (guarded) list(guard), episodes %/% players, verbose = 0)
  scores <- numeric()
  took <- NA
  with(loop, {
    while (loop$next_epoch()) {
      played <- play(envs, models[[1]], models[[2]])
      scores <- c(scores, played$scores)
      if (length(scores) >= 100 && mean(tail(scores, 100)) >= solved) {
        took <- length(scores)
        break
      }
      while (!is.null(batch <- loop$next_batch(list(tensors(played))))) {
        losses <- do.call(step, batch)
        loop$report(
          losses[[1]],
          size = length(played$actions), critic_loss = losses[[2]], kl = losses[[3]]
        )
      }
    }
  })
  list(seed = seed, rate = rate, guard = if (guarded) guard, scores = scores, took = took)
}

# ---------------------------------------------------------------- table and picture
row_of <- function(run) {
  data.frame(
    seed = run$seed, rate = run$rate, guarded = !is.null(run$guard), episodes = run$took,
    `at the end` = round(mean(tail(run$scores, 100)), 1),
    `taken back` = if (is.null(run$guard)) NA else run$guard$n_reverts, check.names = FALSE
  )
}

# Mean returns of the last 100 episodes, from the first `players` on.
recent <- function(scores) {
  ends <- players:length(scores)
  sums <- c(0, cumsum(scores))
  firsts <- pmax(ends - 100, 0)
  (sums[ends + 1] - sums[firsts + 1]) / (ends - firsts)
}

draw <- function(picture, runs) {
  png(picture, width = 1000, height = 500, res = 110)
  on.exit(dev.off())
  par(mar = c(4, 4, 2, 1), las = 1)
  end <- max(lengths(lapply(runs, `[[`, "scores")))
  plot(NULL,
    xlim = c(players, end), ylim = c(0, 240), log = "x", bty = "n",
    xlab = "episodes", ylab = "mean return of the last 100 episodes",
    main = "CartPole: how long the pole is balanced", font.main = 1
  )
  abline(h = solved, lty = 2, col = "grey50")
  for (run in runs) {
    means <- recent(run$scores)
    is_guarded <- !is.null(run$guard)
    colour <- if (is_guarded) c("black", "#1b6ca8") else c("#3c8d40", "#d1701f")
    colour <- colour[[1 + (run$rate == too_high)]]
    lines(players:length(run$scores), means,
      col = colour, lwd = 2, lty = if (run$rate == suits && is_guarded) 3 else 1
    )
    if (is_guarded && nrow(run$guard$events)) {
      back <- players * run$guard$events$epoch
      points(back, means[back - players + 1], cex = 1.5, col = "#b3261e")
    }
  }
  legend("topleft",
    inset = c(0, 0.2), bty = "n", lty = c(1, 3, 1, 1, NA), pch = c(NA, NA, NA, NA, 1),
    lwd = c(2, 2, 2, 2, 1),
    col = c("#3c8d40", "black", "#d1701f", "#1b6ca8", "#b3261e"),
    legend = c(
      paste("rate", suits), paste0("rate ", suits, ", guarded"), paste("rate", too_high),
      paste0("rate ", too_high, ", guarded"), "taken back"
    )
  )
}

main <- function(picture = "examples/actor_critic.png", seeds = 1, episodes = 1500) {
  runs <- list()
  for (rate in c(suits, too_high)) {
    for (guarded in c(FALSE, TRUE)) {
      for (seed in seq_len(as.integer(seeds))) {
        runs <- c(runs, list(train(seed, rate, guarded, as.integer(episodes))))
        message("done: rate ", rate, if (guarded) ", guarded", ", seed ", seed)
      }
    }
  }
  cat("CartPole-v1: episodes until the last 100 have a mean return of", solved, "\n\n")
  print(do.call(rbind, lapply(runs, row_of)), row.names = FALSE)
  cat("\nWhat the guard did in the last run\n\n")
  print(runs[[length(runs)]]$guard)
  draw(picture, runs)
  cat("\nwrote ", picture, "\n", sep = "")
}

if (sys.nframe() == 0L) do.call(main, as.list(commandArgs(TRUE)))
