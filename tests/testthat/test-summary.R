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
  expect_equal(found$mean[1], mean(own[1:2]))
  expect_equal(found$worst[1], max(own[1:2]))
  expect_identical(found$last[1], NaN)
  expect_identical(found$not_finite, c(1L, 3L))
  expect_identical(found$mean[2], NA_real_)
  expect_identical(found$loss, losses$epochs$loss)
  expect_output(print(found), "each batch's own loss")
})
