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

test_that("a run of tfruns records what it would without the guards", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  skip_if_not_installed("tfruns")
  skip_if_not(reticulate::py_module_available("tensorboard"), "TensorBoard, which keras3 uses in a run")
  folder <- tempfile("runs")
  dir.create(folder)
  on.exit(unlink(folder, recursive = TRUE))
  script <- c(
    "library(keras3)",
    "library(kguard)",
    "set.seed(1)",
    "set_random_seed(1)",
    "x <- matrix(rnorm(180), 60)",
    "y <- x %*% c(1, -2, 3)",
    "model <- keras_model_sequential(input_shape = 3) |> layer_dense(1)",
    "model |> compile('sgd', 'mse')",
    "history <- model |> fit(x, y, epochs = 4, verbose = 0, shuffle = FALSE, callbacks = CALLBACKS)"
  )
  guards <- "list(callback_revert_on_loss_increase(), callback_loss_history())"
  recorded <- lapply(c("list()", guards), function(made) {
    file <- file.path(folder, "train.R")
    writeLines(sub("CALLBACKS", made, script, fixed = TRUE), file)
    run_dir <- tempfile("run", folder)
    output <- in_fresh_r(c(
      sprintf("setwd(%s)", deparse(folder)),
      sprintf("folder <- %s", deparse(run_dir)),
      "tfruns::training_run('train.R', run_dir = folder, view = FALSE, echo = FALSE)",
      "metrics <- jsonlite::read_json(file.path(folder, 'tfruns.d', 'metrics.json'))",
      "cat('\\nlosses:', unlist(metrics$loss), '\\n')"
    ))
    found <- grep("^losses:", output, value = TRUE)
    expect_length(found, 1L)
    as.numeric(strsplit(found, " ")[[1]][-1])
  })
  expect_length(recorded[[1]], 4L)
  expect_identical(recorded[[2]], recorded[[1]])
})

test_that("a loss history explains what keras3's fit() shows and holds, class weights among it", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  data <- regression_data()
  y <- as.integer(data$y > 0.5)
  model <- keras3("keras_model_sequential")(input_shape = 3L)
  model <- keras3("layer_dense")(model, 1L, activation = "sigmoid")
  keras3("compile")(model, optimizer = "adam", loss = "binary_crossentropy")
  weights <- c("0" = 0.5, "1" = 2)
  losses <- callback_loss_history(data = list(data$x, y, unname(weights[y + 1L])))
  text <- reticulate::py_capture_output(
    history <- keras3("fit")(model, data$x, y,
      epochs = 2, batch_size = 25, verbose = 2, view_metrics = FALSE, class_weight = as.list(weights),
      callbacks = list(losses)
    )
  )
  found <- losses$explain()$quantities
  expect_equal(found$history, history$metrics$loss)
  expect_equal(found$weighted_mean, history$metrics$loss, tolerance = 1e-6)
  shown <- regmatches(text, gregexpr("loss: [0-9.]+", text))[[1]]
  expect_identical(shown, sprintf("loss: %.4f", found$console))
  p <- as.vector(stats::predict(model, data$x, verbose = 0))
  own <- -log(ifelse(y == 1L, p, 1 - p))
  expect_equal(found$evaluate[2], mean(weights[y + 1L] * own), tolerance = 1e-5)
})
