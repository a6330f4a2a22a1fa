for (optimizer in c("adam", "rmsprop", "sgd_momentum")) {
  test_that(paste("an epoch of NaN is taken back and training goes on:", optimizer), {
    skip_without_keras()
    make <- function() {
      switch(optimizer,
        sgd_momentum = keras()$optimizers$SGD(0.01, momentum = 0.9),
        optimizer
      )
    }
    guard <- callback_revert_on_loss_increase()
    poisoned <- small_model(make())
    data <- regression_data()
    broken <- data$y
    broken[5, ] <- NaN
    losses <- callback_loss_history()
    poisoned$fit(data$x, data$y, epochs = 2L, verbose = 0L, shuffle = FALSE, callbacks = list(guard))
    good <- weights_of(poisoned)
    poisoned$fit(data$x, broken, epochs = 1L, verbose = 0L, shuffle = FALSE, callbacks = list(guard))
    expect_identical(weights_of(poisoned), good)
    poisoned$fit(data$x, data$y, epochs = 2L, verbose = 0L, shuffle = FALSE, callbacks = list(guard, losses))

    clean <- small_model(make())
    clean$fit(data$x, data$y, epochs = 4L, verbose = 0L, shuffle = FALSE)
    expect_true(all(is.finite(losses$losses)))
    expect_identical(weights_of(poisoned), weights_of(clean))
  })
}

test_that("weights alone are not enough: the recipe that people copy stays NaN", {
  skip_without_keras()
  Recipe <- R6::R6Class("Recipe",
    inherit = KerasCallback,
    public = list(
      kept = NULL,
      on_epoch_begin = function(epoch, logs = NULL) {
        self$kept <- self$model$get_weights()
      },
      on_epoch_end = function(epoch, logs = NULL) {
        if (is.nan(logs$loss)) self$model$set_weights(self$kept)
      }
    )
  )
  model <- small_model()
  data <- regression_data()
  model$fit(data$x, data$y * NaN, epochs = 1L, verbose = 0L, callbacks = list(Recipe$new()))
  expect_true(all(is.finite(unlist(weights_of(model)))))
  history <- model$fit(data$x, data$y, epochs = 2L, verbose = 0L)
  expect_true(all(is.nan(history$history$loss)))
})

test_that("events are a data frame that counts epochs from 1", {
  skip_without_keras()
  guard <- callback_revert_on_loss_increase(lr_factor = 0.5)
  fit_quietly(small_model(), list(Breaker$new(3), guard))
  events <- guard$events
  expect_s3_class(events, "data.frame")
  expect_identical(
    vapply(events, typeof, ""),
    c(
      epoch = "integer", batch = "integer", action = "character", monitor = "character",
      value = "double", reference = "double", restored_from = "integer",
      learning_rate = "double", reason = "character"
    )
  )
  expect_identical(events$epoch, 3L)
  expect_identical(events$batch, NA_integer_)
  expect_identical(events$restored_from, 2L)
  expect_equal(events$learning_rate, 0.0005, tolerance = 1e-6)
  expect_match(events$reason, "non-finite values in .*kernel")
})

test_that("a guard without events has an empty data frame and no best", {
  skip_without_keras()
  guard <- callback_restore_best()
  expect_identical(nrow(guard$events), 0L)
  expect_identical(names(guard$events)[1:3], c("epoch", "batch", "action"))
  expect_identical(guard$best, NA_real_)
  expect_identical(guard$best_epoch, NA_integer_)
  expect_identical(guard$n_reverts, 0L)
  expect_error(guard$events <- 1, class = "kguard_state_error")
})

test_that("a guard can be printed before and after a fit", {
  skip_without_keras()
  guard <- callback_revert_on_loss_increase()
  expect_output(print(guard), "<RevertOnLossIncrease> on loss\n  best: none yet; events: 0")
  fit_quietly(small_model(), list(Breaker$new(2), guard))
  expect_output(print(guard), "Epoch 2: loss .* hides non-finite .*: reverted to epoch 1")
})

test_that("a guard starts afresh with each fit", {
  skip_without_keras()
  guard <- callback_revert_on_loss_increase()
  model <- small_model()
  fit_quietly(model, list(Breaker$new(2), guard))
  expect_identical(guard$n_reverts, 1L)
  fit_quietly(model, list(guard))
  expect_identical(guard$n_reverts, 0L)
})

test_that("what a guard has to say is an R warning", {
  skip_without_keras()
  expect_warning(
    fit_quietly(small_model(), list(callback_restore_best("val_loss"))),
    "'val_loss' was in no epoch's metrics",
    class = "kguard_warning"
  )
})

test_that("a guard tells its options and is its events as a data frame", {
  skip_without_keras()
  guard <- callback_revert_on_loss_increase(patience = 2, lr_factor = 0.5)
  config <- guard$get_config()
  expect_identical(names(config), names(formals(callback_revert_on_loss_increase)))
  expect_identical(config$patience, 2L)
  expect_identical(config$lr_factor, 0.5)
  expect_identical(as.data.frame(guard), guard$events)
})

test_that("restore_best leaves the best weights and can be asked to", {
  skip_without_keras()
  keep <- callback_restore_best("loss")
  expect_error(keep$restore(), "not been in a `fit`")
  model <- small_model()
  fit_quietly(model, list(Breaker$new(4), keep))
  expect_identical(keep$best_epoch, 3L)
  expect_true(all(is.finite(unlist(weights_of(model)))))
  good <- weights_of(model)
  model$set_weights(lapply(model$get_weights(), function(w) w * 0))
  keep$restore()
  expect_identical(weights_of(model), good)
})

test_that("a missing monitor is an error that names what there is", {
  skip_without_keras()
  guard <- callback_revert_on_loss_increase("los", mode = "min")
  expect_error(fit_quietly(small_model(), list(guard)), "'los'.*'loss'")
})

test_that("an error in training leaves the model usable", {
  skip_without_keras()
  Fails <- R6::R6Class("Fails",
    inherit = KerasCallback,
    public = list(on_epoch_end = function(epoch, logs = NULL) if (epoch == 2) stop("on purpose"))
  )
  guard <- callback_revert_on_loss_increase()
  losses <- callback_loss_history()
  model <- small_model()
  expect_error(
    fit_quietly(model, list(guard, losses, Fails$new())),
    "Fails$on_epoch_end() failed: on purpose",
    fixed = TRUE
  )
  expect_identical(nrow(losses$epochs), 2L)
  expect_true(all(is.finite(model$predict(regression_data()$x, verbose = 0L))))
  fit_quietly(model, list(guard, losses))
  expect_identical(nrow(losses$epochs), 4L)
})

test_that("a guard with a probe says that it judges by it", {
  skip_without_keras()
  data <- regression_data()
  guard <- callback_revert_on_loss_increase(probe = list(data$x, data$y))
  expect_output(print(guard), "<RevertOnLossIncrease> on probe_loss", fixed = TRUE)
  expect_output(print(callback_restore_best()), "<RestoreBest> on val_loss", fixed = TRUE)
})

test_that("a probe may hold arrays of Python's, and lists for several inputs", {
  skip_without_keras()
  data <- regression_data()
  numpy <- reticulate::import("numpy", convert = FALSE)
  as_numpy <- function(values) numpy$array(values, dtype = "float32")
  guards <- list(
    callback_revert_on_loss_increase(probe = list(data$x, data$y)),
    callback_revert_on_loss_increase(probe = list(as_numpy(data$x), as_numpy(data$y)))
  )
  for (guard in guards) fit_quietly(small_model(), list(guard))
  expect_equal(guards[[1]]$best, guards[[2]]$best, tolerance = 1e-6)

  layers <- keras()$layers
  a <- layers$Input(list(1L))
  b <- layers$Input(list(2L))
  model <- keras()$Model(list(a, b), layers$Dense(1L)(layers$Concatenate()(list(a, b))))
  model$compile("sgd", "mse")
  inputs <- list(data$x[, 1, drop = FALSE], data$x[, 2:3])
  guard <- callback_restore_best("loss", probe = list(inputs, data$y))
  model$fit(inputs, data$y, epochs = 2L, verbose = 0L, callbacks = list(guard))
  expect_true(is.finite(guard$best))
})
