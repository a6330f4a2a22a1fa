test_that("the summary of a guard counts what it did", {
  skip_without_keras()
  guard <- callback_revert_on_loss_increase(lr_factor = 0.5, max_reverts = 2)
  expect_output(print(summary(guard)), "best +none yet\n  reverts +0$")
  fit_quietly(small_model(), list(Breaker$new(2, 3), guard))
  found <- summary(guard)
  expect_identical(found$reverted, 2:3)
  expect_identical(found$n_reverts, 2L)
  expect_identical(found$best_epoch, 1L)
  expect_equal(found$learning_rates[c(1, 2)], c(5e-4, 2.5e-4), tolerance = 1e-6)
  expect_true(found$stopped)
  expect_output(print(found), "taken back +epoch 2, 3\n  rate left +0.00025\n  it stopped training")
})

test_that("the summary of a history sets the batches beside the epoch", {
  skip_without_keras()
  losses <- callback_loss_history()
  expect_identical(nrow(summary(losses)), 0L)
  data <- regression_data()
  data$y[45] <- NaN
  small_model()$fit(data$x, data$y,
    epochs = 2L, batch_size = 20L, shuffle = FALSE, verbose = 0L, callbacks = list(losses)
  )
  found <- summary(losses)
  own <- losses$losses
  expect_identical(found$batches, c(3L, 3L))
  expect_equal(found$mean, c(NaN, NaN))
  expect_equal(found$worst, c(max(own[1:2]), NA))
  expect_identical(found$last[1], NaN)
  expect_identical(found$not_finite, c(1L, 3L))
  expect_identical(found$loss, losses$epochs$loss)
  expect_output(print(found), "batches' own losses.*\n epoch batches mean worst last not_finite loss\n")
})

test_that("the summary of a history says mean, console and evaluate(), and what a guard took back", {
  skip_without_keras()
  data <- regression_data()
  losses <- callback_loss_history(every = 2, data = unname(data))
  guard <- callback_revert_on_loss_increase()
  model <- small_model()
  capture.output(reticulate::py_capture_output(model$fit(data$x, data$y,
    epochs = 3L, batch_size = 25L, shuffle = FALSE, verbose = 2L,
    callbacks = list(Breaker$new(2), guard, losses)
  )))
  found <- summary(losses)
  expect_identical(found$batches, c(2L, 2L, 2L)) # recorded, of three
  expect_equal(found$mean, found$loss, tolerance = 1e-6)
  expect_equal(found$console, round(found$loss, 4))
  evaluated <- as.numeric(model$evaluate(data$x, data$y, verbose = 0L))
  expect_equal(found$evaluate[3], evaluated, tolerance = 1e-6)
  expect_equal(found$last, losses$batches$loss[losses$batches$batch == 3L])
  expect_identical(found$exact, rep(TRUE, 3L))
  expect_identical(found$reverted, c(FALSE, TRUE, FALSE))
  expect_output(print(found), "not_finite +loss console evaluate reverted\n")
})
