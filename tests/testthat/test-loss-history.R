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
