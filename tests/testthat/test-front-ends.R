# As often, in the order and with the arguments that the same class in Python gets.
expect_hooks_of_python <- function(mine, python, n_at_least) {
  expect_gt(length(seen_by(mine)), n_at_least)
  expect_identical(seen_by(mine), seen_by(python))
}

test_that("through reticulate every hook is called as Python's are", {
  skip_without_keras()
  mine <- r_recorder()
  python <- python_recorder(keras()$callbacks)
  model <- small_model()
  data <- regression_data()
  model$fit(data$x, data$y,
    epochs = 2L, batch_size = 20L, verbose = 0L, validation_split = 1 / 3,
    callbacks = list(mine, python)
  )
  model$evaluate(data$x, data$y, batch_size = 20L, verbose = 0L, callbacks = list(mine, python))
  model$predict(data$x, batch_size = 20L, verbose = 0L, callbacks = list(python, mine))
  expect_hooks_of_python(mine, python, 35L)
  expect_setequal(unique(sub(" .*", "", seen_by(mine))), kguard:::hook_names)
})

test_that("in keras3 every hook is called as Python's are", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  mine <- r_recorder()
  python <- python_recorder(keras()$callbacks)
  model <- keras3_model()
  data <- regression_data()
  keras3("fit")(model, data$x, data$y,
    epochs = 2, batch_size = 20, verbose = 0, validation_split = 1 / 3,
    callbacks = list(mine, python)
  )
  keras3("evaluate")(model, data$x, data$y, batch_size = 20, verbose = 0, callbacks = list(mine, python))
  stats::predict(model, data$x, batch_size = 20, verbose = 0, callbacks = list(python, mine))
  expect_hooks_of_python(mine, python, 35L)
  expect_setequal(unique(sub(" .*", "", seen_by(mine))), kguard:::hook_names)
})

test_that("in keras 2.16 every hook is called as Python's are, counted from 0", {
  output <- in_keras2(c(
    "mine <- r_recorder(first = 0L)",
    "python <- python_recorder(keras$callbacks)",
    "model <- new_model()",
    "fit(model, x, y, epochs = 2, batch_size = 20, verbose = 0, view_metrics = FALSE,",
    "  validation_split = 1 / 3, callbacks = list(mine, python))",
    "evaluate(model, x, y, batch_size = 20, verbose = 0, callbacks = list(mine, python))",
    "predict(model, x, batch_size = 20, verbose = 0, callbacks = list(python, mine)) -> p",
    "cat('\\nnumber:', length(seen_by(mine)), '\\n')",
    "cat('same:', identical(seen_by(mine), seen_by(python)), '\\n')",
    "cat('all:', setequal(sub(' .*', '', seen_by(mine)), kguard:::hook_names), '\\n')"
  ))
  expect_true("same: TRUE " %in% output, label = paste(output, collapse = "\n"))
  expect_true("all: TRUE " %in% output)
  expect_gt(as.integer(sub("number: ", "", grep("^number:", output, value = TRUE))), 35L)
})

test_that("the guards work in keras 2.16's fit(), and cross into R for no hook", {
  output <- in_keras2(c(
    "Breaks <- R6::R6Class('Breaks', inherit = KerasCallback, public = list(",
    "  on_epoch_end = function(epoch, logs = NULL) if (epoch == 1) self$model$layers[[1]]$kernel$",
    "    assign(matrix(NaN, 3, 4))))",
    "guard <- callback_revert_on_loss_increase(lr_factor = 0.5)",
    "losses <- callback_loss_history()",
    "history <- train(list(Breaks$new(), guard, losses), epochs = 4)",
    "cat('\\nreverted:', guard$events$epoch[guard$events$action == 'revert'][1], '\\n')",
    "cat('finite:', all(is.finite(unlist(lapply(guard$model$get_weights(), as.vector)))), '\\n')",
    "cat('recorded:', isTRUE(all.equal(losses$epochs$loss, history$metrics$loss)), '\\n')",
    "core <- reticulate::r_to_py(guard)",
    "cat('python:', class(core)[1], '\\n')"
  ))
  expect_true("reverted: 2 " %in% output, label = paste(output, collapse = "\n"))
  expect_true("finite: TRUE " %in% output)
  expect_true("recorded: TRUE " %in% output)
  expect_true(any(grepl("^python: pykguard.*RevertOnLossIncrease", output)))
})

test_that("a spike guard skips a batch of NaN in keras3's fit()", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  guard <- callback_spike_guard(interval = 1)
  data <- regression_data()
  data$y[25] <- NaN # in the second batch
  model <- keras3_model()
  keras3("fit")(model, data$x, data$y,
    epochs = 2, batch_size = 20, shuffle = FALSE, verbose = 0, callbacks = list(guard)
  )
  expect_identical(guard$bad_batches, data.frame(epoch = 1L, batch = 2L, times = 2L))
  expect_true(all(is.finite(unlist(lapply(model$get_weights(), as.vector)))))
})

test_that("a spike guard skips a batch of NaN in keras 2.16's fit()", {
  output <- in_keras2(c(
    "guard <- callback_spike_guard(interval = 1)",
    "y[25] <- NaN",
    "model <- new_model()",
    "fit(model, x, y, epochs = 2, batch_size = 20, shuffle = FALSE, verbose = 0,",
    "  view_metrics = FALSE, callbacks = list(guard))",
    "cat('\\nbad:', unlist(guard$bad_batches), '\\n')",
    "cat('finite:', all(is.finite(unlist(lapply(model$get_weights(), as.vector)))), '\\n')"
  ))
  expect_true("bad: 1 2 2 " %in% output, label = paste(output, collapse = "\n"))
  expect_true("finite: TRUE " %in% output)
})

test_that("a loss history explains what keras 2.16's fit() holds, and its file is read", {
  output <- in_keras2(c(
    "path <- tempfile(fileext = '.sqlite')",
    "losses <- callback_loss_history(path, data = list(x, y))",
    "Mine <- R6::R6Class('Mine', inherit = kguard::RevertOnLossIncrease, public = list(",
    "  on_epoch_begin = function(epoch, logs = NULL) super$on_epoch_begin(epoch, logs)))",
    "Rises <- R6::R6Class('Rises', inherit = kguard::KerasCallback, public = list(",
    "  on_epoch_end = function(epoch, logs = NULL) list(score = epoch)))",
    "history <- train(list(Rises$new(), Mine$new('score', mode = 'min'), losses), epochs = 3)",
    "found <- losses$explain()$quantities",
    "cat('history', all.equal(found$history, history$metrics$loss), '\\n')",
    "cat('mean', all.equal(found$weighted_mean, found$history, tolerance = 1e-6), '\\n')",
    "cat('evaluate', is.finite(found$evaluate), '\\n')",
    "cat('events', losses$events$epoch, '\\n')",
    "run <- read_history(path)[[1]]",
    "cat('file', identical(run$explain(), losses$explain()), identical(run$events, losses$events), '\\n')"
  ))
  label <- paste(output, collapse = "\n")
  expected <- c(
    "history TRUE ", "mean TRUE ", "evaluate TRUE TRUE TRUE ", "events 2 3 ", "file TRUE TRUE "
  )
  expect_identical(intersect(output, expected), expected, label = label)
})

test_that("the example of the R documentation runs in keras 2.16", {
  output <- in_keras2(c(
    "LossHistory <- R6::R6Class('LossHistory', inherit = KerasCallback, public = list(",
    "  losses = NULL,",
    "  on_batch_end = function(batch, logs = list()) {",
    "    self$losses <- c(self$losses, logs[['loss']])",
    "  }))",
    "history <- LossHistory$new()",
    "shown <- train(list(history), epochs = 2)",
    "last <- history$losses[c(3, 6)]",
    "cat('\\nlast:', isTRUE(all.equal(last, shown$metrics$loss)), length(history$losses), '\\n')"
  ))
  expect_true("last: TRUE 6 " %in% output, label = paste(output, collapse = "\n"))
})

test_that("the example of the R documentation runs in keras3", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  mine <- BatchLosses$new()
  data <- regression_data()
  shown <- keras3("fit")(keras3_model(), data$x, data$y,
    epochs = 2, batch_size = 20, verbose = 0, callbacks = list(mine)
  )
  expect_length(mine$losses, 6L)
  expect_equal(mine$losses[c(3, 6)], shown$metrics$loss)
})

# Where keras was installed with its tests, what they say of KerasCallback is tried with ours.
test_that("keras 2.16's own tests of KerasCallback hold, with keras3's fit() underneath", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  file <- system.file("tests", "testthat", "test-callbacks.R", package = "keras")
  skip_if_not(nzchar(file), "keras 2.16, installed with its tests, is there")
  calls <- as.list(parse(file))
  is_theirs <- function(call) is.call(call) && identical(call[[1]], quote(test_succeeds))
  is_wanted <- function(call) is_theirs(call) && "KerasCallback" %in% all.names(call)
  wanted <- Filter(is_wanted, calls)
  expect_length(wanted, 3L)
  env <- new.env(parent = asNamespace("keras3"))
  env$KerasCallback <- KerasCallback
  env$get_keras_implementation <- function() "tensorflow"
  env$define_compile_and_fit <- function(callbacks) {
    model <- keras3("keras_model_sequential")(input_shape = 784L)
    model <- keras3("layer_dense")(model, 10L, activation = "softmax")
    keras3("compile")(model, optimizer = "sgd", loss = "categorical_crossentropy")
    data <- with_seed(1, matrix(stats::rexp(50 * 784), 50))
    labels <- diag(10)[rep(1:10, 5), ]
    keras3("fit")(model, data, labels, epochs = 1, verbose = 0, callbacks = callbacks)
  }
  tools <- c("expect_is", "expect_equal", "expect_true", "capture_warnings", "capture_output", "skip")
  for (name in tools) assign(name, getExportedValue("testthat", name), env)
  is_helper <- function(call) is.call(call) && identical(call[[2]], quote(expect_warns_and_out))
  for (call in Filter(is_helper, calls)) eval(call, env)
  old <- options(keras.predict_verbose = 0, keras.evaluate_verbose = 0, keras.fit_verbose = 0)
  on.exit(options(old))
  said <- utils::capture.output(for (call in wanted) eval(call[[3]], new.env(parent = env)))
  expect_match(said, "TRAIN BEGIN", all = FALSE)
  expect_match(said, "TRAIN END", all = FALSE)
})
