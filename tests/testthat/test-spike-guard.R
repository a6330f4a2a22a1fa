batches_of_32 <- function(seed = 1) {
  set.seed(seed)
  x <- matrix(rnorm(256 * 3), 256)
  list(x = x, y = x %*% c(1, -2, 0.5) + 0.1 * rnorm(256))
}

fit_in_order <- function(model, data, callbacks, epochs = 3L) {
  model$fit(data$x, data$y,
    batch_size = 32L, epochs = epochs, verbose = 0L, shuffle = FALSE, callbacks = callbacks
  )
}

test_that("a batch that holds NaN is as if it had not been, to the last bit", {
  skip_without_keras()
  data <- batches_of_32()
  bad <- data
  bad$y[70] <- NaN # in the third batch
  guard <- callback_spike_guard(interval = 1)
  guarded <- small_model()
  history <- fit_in_order(guarded, bad, list(guard))
  without <- small_model()
  rows <- -(65:96)
  truth <- fit_in_order(without, list(x = data$x[rows, ], y = data$y[rows, , drop = FALSE]), list())

  expect_identical(weights_of(guarded), weights_of(without))
  expect_identical(unlist(history$history$loss), unlist(truth$history$loss))
  expect_identical(guard$bad_batches, data.frame(epoch = 1L, batch = 3L, times = 3L))
  events <- guard$events
  expect_identical(events$action, rep("rollback", 3))
  expect_identical(events$epoch, 1:3)
  expect_identical(events$batch, rep(3L, 3))
  expect_match(events$reason[1], "not finite")
  expect_identical(guard$n_reverts, 3L)
})

test_that("a rate that is a thousand times too high is found out in the first epoch", {
  skip_without_keras()
  data <- batches_of_32()
  wide <- lapply(data, function(part) part[rep(1:256, 4), , drop = FALSE])
  guard <- callback_spike_guard()
  losses <- callback_loss_history()
  model <- small_model(keras()$optimizers$SGD(100, momentum = 0.9))
  before <- model$evaluate(wide$x, wide$y, verbose = 0L)
  fit_in_order(model, wide, list(guard, losses), epochs = 10L)
  expect_lt(model$evaluate(wide$x, wide$y, verbose = 0L), 0.1 * before)
  rates <- guard$events$learning_rate
  expect_lt(rates[max(which(guard$events$epoch == 1L))], 1)
  expect_lte(max(rates), 100)
  expect_length(losses$losses, 320) # all of them, the bad ones too
})

test_that("options are refused in R's words", {
  refused <- function(expected, ...) {
    error <- expect_error(callback_spike_guard(...), class = "kguard_option_error")
    expect_match(conditionMessage(error), expected, fixed = TRUE)
  }
  skip_without_keras()
  refused("`window`", window = 4)
  refused("`threshold`", threshold = 0)
  refused("`warmup`", warmup = 200)
  refused("`interval`", interval = 0)
  refused("`lr_factor`", lr_factor = 1)
  refused("`max_rollbacks`", max_rollbacks = 1.5)
})

test_that("a guard shows what it knows", {
  skip_without_keras()
  guard <- callback_spike_guard()
  expect_output(print(guard), "<SpikeGuard> on loss", fixed = TRUE)
  expect_identical(nrow(guard$bad_batches), 0L)
  types <- vapply(guard$bad_batches, typeof, "")
  expect_identical(types, c(epoch = "integer", batch = "integer", times = "integer"))
  expect_error(guard$bad_batches <- 1, class = "kguard_state_error")
  expect_identical(guard$monitor, "loss")
  expect_true(is.na(guard$best))
  data <- batches_of_32()
  fit_in_order(small_model(keras()$optimizers$SGD(0.02)), data, list(guard), epochs = 10L)
  expect_identical(nrow(guard$events), 0L)
  expect_true(is.finite(guard$best))
  expect_output(print(summary(guard)), "SpikeGuard on loss")
})
