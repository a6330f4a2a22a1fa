test_that("the guards work in keras3's fit()", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  data <- regression_data()
  model <- keras3_model()
  guard <- callback_revert_on_loss_increase("val_loss", lr_factor = 0.5)
  keep <- callback_restore_best()
  losses <- callback_loss_history()
  stop_early <- keras3("callback_early_stopping")(patience = 10)
  history <- keras3("fit")(model, data$x, data$y,
    epochs = 4, batch_size = 20, validation_split = 1 / 3, verbose = 0,
    callbacks = list(Breaker$new(3), guard, keep, losses, stop_early)
  )
  expect_s3_class(history, "keras_training_history")
  expect_identical(guard$events$epoch, 3L)
  expect_identical(guard$events$restored_from, 2L)
  expect_equal(losses$epochs$val_loss, history$metrics$val_loss)
  expect_identical(keep$best_epoch, 4L)
  expect_true(all(is.finite(unlist(weights_of(model)))))
})

test_that("a KerasCallback works in keras3's fit(), evaluate() and predict(), not in a list too", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  Counts <- R6::R6Class("Counts",
    inherit = KerasCallback,
    public = list(
      epochs = NULL, tests = 0, predictions = 0,
      on_epoch_end = function(epoch, logs = NULL) self$epochs <- c(self$epochs, epoch),
      on_test_end = function(logs = NULL) self$tests <- self$tests + 1,
      on_predict_end = function(logs = NULL) self$predictions <- self$predictions + 1
    )
  )
  counts <- Counts$new()
  data <- regression_data()
  model <- keras3_model()
  keras3("fit")(model, data$x, data$y, epochs = 2, verbose = 0, callbacks = counts)
  keras3("evaluate")(model, data$x, data$y, verbose = 0, callbacks = list(counts))
  stats::predict(model, data$x, verbose = 0, callbacks = list(counts))
  expect_equal(counts$epochs, 1:2)
  expect_identical(counts$tests, 1)
  expect_identical(counts$predictions, 1)
})
