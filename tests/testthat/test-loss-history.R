test_that("each batch's own loss is recorded, not the running mean", {
  skip_without_keras()
  history <- callback_loss_history()
  model <- small_model(keras()$optimizers$SGD(0))
  fit_quietly(model, list(history), epochs = 2L)

  data <- regression_data()
  squares <- as.vector((data$y - model$predict(data$x, verbose = 0L))^2)
  own <- tapply(squares, rep(1:3, each = 20L), mean)
  expect_equal(history$losses, rep(as.vector(own), 2L), tolerance = 1e-5)
  batches <- history$batches
  expect_identical(batches$epoch, rep(1:2, each = 3L))
  expect_identical(batches$batch, rep(1:3, 2L))
  expect_true(all(batches$exact))
  running <- cumsum(own) / 1:3
  expect_equal(batches$logged_loss, rep(as.vector(running), 2L), tolerance = 1e-5)
  expect_equal(history$epochs$loss, rep(mean(own), 2L), tolerance = 1e-5)
  expect_identical(as.data.frame(history), batches)
})

test_that("epochs without validation are NaN in a column of their own", {
  skip_without_keras()
  history <- callback_loss_history(every = 2)
  data <- regression_data()
  fit_quietly(small_model(), list(history),
    epochs = 3L,
    validation_data = list(data$x, data$y), validation_freq = 3L
  )
  expect_named(history$epochs, c("epoch", "loss", "val_loss"))
  expect_identical(is.nan(history$epochs$val_loss), c(TRUE, TRUE, FALSE))
  expect_identical(history$batches$batch, rep(c(1L, 3L), 3L))
})

test_that("the data frames are plain, as dplyr and ggplot2 take them", {
  skip_without_keras()
  losses <- callback_loss_history()
  are_plain <- function(frames) {
    for (frame in frames) {
      expect_identical(class(frame), "data.frame")
      expect_named(attributes(frame), c("names", "class", "row.names"), ignore.order = TRUE)
      expect_true(all(vapply(frame, function(column) is.atomic(column) && is.null(attributes(column)), NA)))
    }
  }
  frames <- function() {
    explanation <- losses$explain()
    list(
      losses$batches, losses$epochs, losses$events, explanation$quantities, explanation$parts
    )
  }
  before <- frames()
  are_plain(before)
  guard <- callback_revert_on_loss_increase()
  fit_quietly(small_model(metrics = list("mae")), list(Breaker$new(2), guard, losses), epochs = 2L)
  after <- frames()
  are_plain(after)
  for (i in seq_along(after)) {
    same <- names(before[[i]])
    expect_identical(vapply(after[[i]][same], typeof, ""), vapply(before[[i]], typeof, ""))
  }
  skip_if_not_installed("dplyr")
  summarise <- getExportedValue("dplyr", "summarise")
  group_by <- getExportedValue("dplyr", "group_by")
  by_epoch <- summarise(group_by(losses$batches, epoch), loss = sum(loss * size) / sum(size))
  expect_equal(by_epoch$loss, losses$epochs$loss, tolerance = 1e-6)
})

test_that("a batch has its size, its learning rate, its time, and what was shown of it", {
  skip_without_keras()
  losses <- callback_loss_history()
  data <- regression_data()
  model <- small_model(keras()$optimizers$SGD(0.25), metrics = list("mae"))
  text <- reticulate::py_capture_output(model$fit(data$x, data$y,
    epochs = 1L, batch_size = 25L, shuffle = FALSE, verbose = 1L, callbacks = list(losses)
  ))
  batches <- losses$batches
  expect_identical(batches$size, c(25L, 25L, 10L))
  expect_equal(batches$learning_rate, rep(0.25, 3L))
  expect_true(all(diff(batches$seconds) > 0))
  expect_identical(batches$error_bound, rep(0, 3L))
  expect_true("logged_mae" %in% names(batches))
  running <- cumsum(batches$loss * batches$size) / cumsum(batches$size)
  expect_equal(batches$logged_loss, running, tolerance = 1e-5)
  shown <- regmatches(text, gregexpr("loss: [0-9.]+", text))[[1]]
  expect_identical(utils::tail(shown, 1L), sprintf("loss: %.4f", losses$explain()$quantities$console))
})

test_that("data frames and vectors serve as data", {
  skip_without_keras()
  data <- regression_data()
  evaluated <- vapply(
    list(
      unname(data), list(as.data.frame(data$x), as.vector(data$y)),
      list(y = data$y, x = data$x, sample_weight = rep(1, 60))
    ),
    function(data) {
      losses <- callback_loss_history(data = data)
      fit_quietly(small_model(keras()$optimizers$SGD(0)), list(losses), epochs = 1L)
      losses$explain()$quantities$evaluate
    }, 0
  )
  expected <- as.numeric(small_model()$evaluate(data$x, data$y, verbose = 0L))
  expect_equal(evaluated, rep(expected, 3L), tolerance = 1e-6)
})

test_that("the events of guards are in the record, also of a guard with hooks in R", {
  skip_without_keras()
  seen <- NULL
  Mine <- R6::R6Class("Mine",
    inherit = RevertOnLossIncrease,
    public = list(
      on_epoch_end = function(epoch, logs = NULL) {
        super$on_epoch_end(epoch, logs)
        seen <<- c(seen, epoch)
      }
    )
  )
  for (guard in list(callback_revert_on_loss_increase(), Mine$new())) {
    losses <- callback_loss_history()
    fit_quietly(small_model(), list(Breaker$new(2, 4), guard, losses))
    expect_identical(losses$events$epoch, c(2L, 4L))
    expect_identical(losses$events, guard$events)
  }
  expect_identical(seen, 1:4)
})

test_that("a class of one's own records and explains as well", {
  skip_without_keras()
  Mine <- R6::R6Class("Mine",
    inherit = LossHistory,
    public = list(
      seen = NULL,
      on_epoch_end = function(epoch, logs = NULL) {
        super$on_epoch_end(epoch, logs)
        self$seen <- c(self$seen, self$explain()$quantities$weighted_mean[epoch])
      }
    )
  )
  losses <- Mine$new(every = 2)
  fit_quietly(small_model(), list(losses), epochs = 2L)
  expect_equal(losses$seen, losses$epochs$loss, tolerance = 1e-6)
  expect_equal(losses$explain()$quantities$history, losses$epochs$loss)
  expect_output(print(losses), "<Mine> of 4 batches in 2 epochs")
})

test_that("a record cannot be assigned to", {
  skip_without_keras()
  losses <- callback_loss_history()
  for (field in c("losses", "batches", "epochs", "events", "batches_per_epoch")) {
    expect_error(losses[[field]] <- 1, "cannot be assigned", class = "kguard_state_error")
  }
})

test_that("TensorBoard gets what was recorded", {
  skip_without_keras()
  skip_if_not(reticulate::py_module_available("tensorboard"), "tensorboard")
  folder <- tempfile()
  on.exit(unlink(folder, recursive = TRUE))
  losses <- callback_loss_history(log_dir = folder)
  fit_quietly(small_model(), list(losses), epochs = 2L)
  event_file <- reticulate::import("tensorboard.backend.event_processing.event_accumulator")
  board <- event_file$EventAccumulator(file.path(folder, "train"))
  board$Reload()
  tensors <- reticulate::import("tensorboard.util.tensor_util")
  values <- vapply(board$Tensors("batch_loss"), function(each) {
    as.numeric(tensors$make_ndarray(each$tensor_proto))
  }, 0)
  expect_equal(values, losses$losses, tolerance = 1e-6)
})

test_that("the file holds what the history holds", {
  skip_without_keras()
  path <- tempfile(fileext = ".csv")
  on.exit(unlink(path))
  history <- callback_loss_history(path)
  fit_quietly(small_model(), list(history), epochs = 2L)
  file <- utils::read.csv(path)
  expect_named(file, c("run", "epoch", "batch", "name", "value", "exact"))
  expect_equal(file$value[file$name == "loss" & !is.na(file$batch)], history$losses)
  expect_equal(file$value[file$name == "loss" & is.na(file$batch)], history$epochs$loss)
})

test_that("a history prints its size and its last epochs", {
  skip_without_keras()
  history <- callback_loss_history()
  expect_output(print(history), "<LossHistory> of 0 batches in 0 epochs")
  fit_quietly(small_model(), list(history))
  expect_output(print(history), "<LossHistory> of 12 batches in 4 epochs\n epoch +loss")
})
