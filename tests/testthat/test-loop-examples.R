float <- function(values) reticulate::import("tensorflow")$constant(values, "float32")

gradient_of <- function(loss, variables) {
  tape <- reticulate::import("tensorflow")$GradientTape()
  with(tape, value <- loss())
  tape$gradient(value, variables)
}

small_batch <- function() {
  with_seed(3, list(
    states = float(matrix(stats::rnorm(24), 6)),
    actions = reticulate::import("tensorflow")$constant(array(c(0L, 1L, 1L, 0L, 1L, 0L)), "int32"),
    returns = float(array(3 * stats::rnorm(6)))
  ))
}

test_that("returns are the sums of what follows, and a geometric series for a constant reward", {
  ac <- example_script("actor_critic.R")
  rewards <- with_seed(1, stats::rnorm(12))
  wanted <- vapply(1:12, function(t) {
    sum(ac$gamma^(t:12 - t) * rewards[t:12]) + ac$gamma^(13 - t) * 7
  }, 0)
  expect_equal(ac$discounted(rewards, 7), wanted)
  expect_equal(ac$discounted(rep(1, 500), 0), (1 - ac$gamma^(500:1)) / (1 - ac$gamma))
})

test_that("the losses of the actor-critic are those of the formulas", {
  ac <- example_script("actor_critic.R")
  models <- list(ac$network(2L), ac$network(1L))
  batch <- small_batch()
  losses <- do.call(ac$losses_of, unname(c(models, batch)))
  logits <- models[[1]](batch$states)$numpy()
  policy <- logits - log(rowSums(exp(logits)))
  error <- as.vector(batch$returns$numpy()) - as.vector(models[[2]](batch$states)$numpy())
  taken <- policy[cbind(1:6, as.vector(batch$actions$numpy()) + 1)]
  entropy <- -rowSums(exp(policy) * policy)
  expect_equal(
    losses$actor$numpy(), -mean(taken * error) - ac$beta * mean(entropy),
    tolerance = 1e-5
  )
  huber <- ifelse(abs(error) <= 1, error^2 / 2, abs(error) - 0.5)
  expect_equal(losses$critic$numpy(), mean(huber), tolerance = 1e-5)
})

test_that("the actor's loss has no gradient in the critic", {
  ac <- example_script("actor_critic.R")
  models <- list(ac$network(2L), ac$network(1L))
  gradients <- gradient_of(
    function() do.call(ac$losses_of, unname(c(models, small_batch())))$actor,
    lapply(models, function(model) model$trainable_variables)
  )
  expect_identical(gradients[[2]], vector("list", 4))
  expect_true(all(vapply(gradients[[1]], function(gradient) any(gradient$numpy() != 0), NA)))
})

test_that("an update that moves the policy too far is taken back, and the rate is halved", {
  ac <- example_script("actor_critic.R")
  run <- ac$train(1, ac$too_high, guarded = TRUE, episodes = 80)
  expect_length(run$scores, 80L)
  events <- run$guard$events
  expect_gte(nrow(events), 3L)
  expect_true(all(events$action == "revert" & events$value > ac$max_kl & events$restored_from == 1L))
  expect_equal(events$learning_rate, ac$too_high * 0.5^seq_len(nrow(events)))
  expect_identical(c(run$guard$best, run$guard$best_epoch), c(0, 1))
  picture <- tempfile(fileext = ".png")
  ac$draw(picture, list(run))
  expect_gt(file.size(picture), 5000)
})

test_that("samples of the ring itself have the score of the formula", {
  gan <- example_script("gan.R")
  expect_equal(
    gan$score(with_seed(1, gan$ring(20000))), c(covered = 8, good = 1 - exp(-9 / 2)),
    tolerance = 4e-3
  )
  at_six <- gan$centres[rep(1:6, each = 100), ]
  expect_equal(gan$score(at_six), c(covered = 6, good = 1))
  expect_equal(gan$score(rbind(at_six, at_six + 0.1)), c(covered = 6, good = 0.5))
})

test_that("the losses of the GAN are those of the formulas", {
  gan <- example_script("gan.R")
  models <- gan$ring_gan(1L)$models
  real <- with_seed(1, matrix(stats::rnorm(10), 5))
  noise <- float(with_seed(2, matrix(stats::rnorm(10), 5)))
  logits <- function(points) as.vector(models$discriminator(float(points))$numpy())
  softplus <- function(u) log1p(exp(u))
  of_fake <- logits(models$generator(noise)$numpy())
  slope <- function(shift) {
    shift <- matrix(shift, 5, 2, byrow = TRUE)
    (logits(real + shift) - logits(real - shift)) / 2e-2
  }
  penalty <- 0.7 / 2 * mean(slope(c(1e-2, 0))^2 + slope(c(0, 1e-2))^2)
  losses <- gan$losses_of(models$generator, models$discriminator, float(real), noise, 0.7)
  expect_equal(losses$generator$numpy(), mean(softplus(-of_fake)), tolerance = 1e-5)
  expect_equal(
    losses$discriminator$numpy(), mean(softplus(-logits(real)) + softplus(of_fake)) + penalty,
    tolerance = 1e-3
  )
  expect_gt(penalty, 1e-3)
})

test_that("a poisoned batch breaks both networks, and a guard takes it back in both", {
  gan <- example_script("gan.R")
  gan$steps <- 10L
  unguarded <- gan$train_poisoned(list())
  expect_true(all(vapply(unguarded$seen[["1"]], gan$is_finite, NA)))
  expect_false(any(vapply(unguarded$seen[["2"]], gan$is_finite, NA)))
  guard <- gan$new_guard()
  guarded <- gan$train_poisoned(list(guard))
  expect_true(identical(guarded$seen[["2"]], guarded$seen[["1"]]))
  expect_false(identical(guarded$seen[["1"]], guarded$seen[["0"]]))
  expect_identical(names(guarded$seen[["1"]]), c("generator", "discriminator"))
  expect_identical(guard$events$epoch, 2L)
  expect_identical(is.nan(guarded$history$metrics$loss), c(FALSE, TRUE, FALSE))
})

test_that("the generator of the script is trained, and its picture is drawn", {
  gan <- example_script("gan.R")
  gan$steps <- 10L
  samples <- gan$train_ring(2L)
  expect_identical(names(samples), c("0", "1", "2"))
  expect_false(identical(samples[["0"]], samples[["1"]]))
  images <- gan$digits()
  expect_identical(dim(images), c(1797L, 64L))
  expect_identical(range(images), c(-1, 1))
  made <- gan$train_digits(1L)
  expect_true(all(abs(made) <= 1) && identical(dim(made), c(72L, 64L)))
  picture <- tempfile(fileext = ".png")
  gan$draw_all(picture, samples, made)
  expect_gt(file.size(picture), 10000)
})
