mse <- function(y_true, y_pred) {
  error <- y_pred - y_true
  list(loss = rowMeans(error^2), gradient = 2 * error / ncol(error))
}
mse_only <- function(y_true, y_pred) rowMeans((y_pred - y_true)^2)

# Two outputs; batches of 8 leave a last one of 5.
two_columns <- function() {
  with_seed(7, list(x = matrix(stats::rnorm(111), 37), y = matrix(stats::rnorm(74), 37), w = runif(37)))
}

model_with <- function(loss, ...) {
  keras()$utils$set_random_seed(1L)
  layers <- keras()$layers
  model <- keras()$Sequential(list(
    layers$Input(shape = list(3L)), layers$Dense(4L, activation = "tanh"), layers$Dense(2L)
  ))
  model$compile("adam", loss, ...)
  model
}

fitted_with <- function(loss, ..., epochs = 3L, callbacks = list(), weighted = FALSE) {
  model <- if (inherits(loss, "keras.src.models.model.Model")) loss else model_with(loss, ...)
  data <- two_columns()
  history <- model$fit(data$x, data$y,
    sample_weight = if (weighted) array(data$w), validation_data = list(data$x, data$y),
    epochs = epochs, batch_size = 8L, verbose = 0L, shuffle = FALSE, callbacks = callbacks
  )
  list(losses = unlist(history$history), weights = unlist(model$get_weights()), model = model)
}

expect_same_training <- function(ours, theirs) {
  expect_equal(ours$losses, theirs$losses, tolerance = 1e-6)
  expect_lte(max(abs(ours$weights - theirs$weights)), 1e-6)
}

# Weights and the variables of the optimizer, without its learning rate.
state_of <- function(model) {
  variables <- c(model$variables, model$optimizer$variables)
  variables <- Filter(function(v) v$name != "learning_rate", variables)
  unlist(lapply(variables, function(v) as.vector(v$numpy())))
}

# Good in the first calls and then not.
good_until <- function(call, then) {
  calls <- 0
  function(y_true, y_pred) {
    calls <<- calls + 1
    if (calls == call) then(y_true, y_pred) else mse(y_true, y_pred)
  }
}

# ---------------------------------------------------------------- as Keras' own
test_that("an mse in R trains as Keras' own, in compiled steps and eagerly", {
  skip_without_keras()
  for (eagerly in c(FALSE, TRUE)) {
    theirs <- fitted_with("mse", run_eagerly = eagerly)
    expect_same_training(fitted_with(external_loss(mse), run_eagerly = eagerly), theirs)
  }
  batch_mse <- function(y_true, y_pred) {
    error <- y_pred - y_true
    list(mean(error^2), 2 * error / length(error))
  }
  theirs <- fitted_with("mse", steps_per_execution = 2L)
  expect_same_training(fitted_with(external_loss(batch_mse), steps_per_execution = 2L), theirs)
})

test_that("sample weights count as with Keras' own loss", {
  skip_without_keras()
  theirs <- fitted_with("mse", weighted = TRUE)
  expect_same_training(fitted_with(external_loss(mse), weighted = TRUE), theirs)
  expect_false(isTRUE(all.equal(theirs$losses, fitted_with("mse")$losses)))
})

test_that("the function gets arrays of R and is called on R's main thread once a batch", {
  skip_without_keras()
  seen <- list()
  watched <- function(y_true, y_pred) {
    thread <- reticulate::import("threading")$current_thread()$name
    seen[[length(seen) + 1L]] <<- list(dim(y_true), dim(y_pred), typeof(y_pred), thread)
    mse(y_true, y_pred)
  }
  data <- two_columns()
  model <- model_with(external_loss(watched))
  model$fit(data$x, data$y, batch_size = 8L, verbose = 0L)
  of <- function(rows) list(c(rows, 2L), c(rows, 2L), "double", "MainThread")
  expect_identical(seen, c(rep(list(of(8L)), 4L), list(of(5L))))
  seen <- list()
  model$predict(data$x, verbose = 0L)
  expect_identical(seen, list())
  expect_equal(model$evaluate(data$x, data$y, batch_size = 8L, verbose = 0L),
    mean((model$predict(data$x, verbose = 0L) - data$y)^2), tolerance = 1e-6)
  expect_length(seen, 5L)
})

test_that("batches by hand and several outputs train alike", {
  skip_without_keras()
  by_hand <- function(loss) {
    model <- model_with(loss)
    data <- two_columns()
    losses <- c(model$train_on_batch(data$x, data$y), model$test_on_batch(data$x, data$y))
    list(losses = losses, weights = unlist(model$get_weights()))
  }
  expect_same_training(by_hand(external_loss(mse)), by_hand("mse"))
  two_outputs <- function(losses) {
    keras()$utils$set_random_seed(1L)
    inputs <- keras()$Input(list(3L))
    head <- function(name) keras()$layers$Dense(2L, name = name)(inputs)
    model <- keras()$Model(inputs, list(head("a"), head("b")))
    model$compile("adam", losses)
    data <- two_columns()
    history <- model$fit(data$x, list(data$y, -data$y), epochs = 2L, shuffle = FALSE, verbose = 0L)
    list(losses = unlist(history$history), weights = unlist(model$get_weights()))
  }
  ours <- two_outputs(list(external_loss(mse), external_loss(mse)))
  expect_same_training(ours, two_outputs(list("mse", "mse")))
})

test_that("losses and gradients may have the forms that R gives them", {
  y_pred <- matrix(c(1, 2, 3), 3)
  taken <- function(returned) kguard:::returned_loss(returned, "f", y_pred, TRUE)
  expected <- list(array(c(4, 5, 6), 3), matrix(c(7, 8, 9), 3))
  expect_identical(taken(list(loss = c(4, 5, 6), gradient = matrix(c(7, 8, 9), 3))), expected)
  expect_identical(taken(list(gradient = c(7, 8, 9), loss = matrix(c(4, 5, 6), 3))), expected)
  expect_identical(taken(list(array(4:6), array(7:9))), expected)
  expect_identical(taken(list(matrix(5), 7:9))[[1]], 5)
  last <- kguard:::returned_loss(2, "f", matrix(0, 1, 2), FALSE)
  expect_identical(last, array(2, 1)) # the last batch of one row is one of rows
})

test_that("estimated gradients train, and the same seed gives the same", {
  skip_without_keras()
  weights <- function(seed) {
    fitted_with(external_loss(mse_only, gradient = "spsa", n_draws = 4, seed = seed))
  }
  once <- weights(1)
  expect_identical(once$weights, weights(1)$weights)
  expect_false(identical(once$weights, weights(2)$weights))
  expect_lt(once$losses[["loss3"]], once$losses[["loss1"]])
})

test_that("a function of Python's is taken as it is", {
  skip_without_keras()
  code <- "def mse(y_true, y_pred):\n  e = y_pred - y_true\n  return (e**2).mean(-1), 2 * e / e.shape[-1]"
  loss <- external_loss(reticulate::py_run_string(code, local = TRUE)$mse, name = "theirs")
  expect_identical(loss$name, "theirs")
  expect_same_training(fitted_with(loss), fitted_with("mse"))
})

test_that("the guards and the history see what they see with Keras' own loss", {
  skip_without_keras()
  watched <- function(loss) {
    guard <- callback_revert_on_loss_increase(lr_factor = 0.5)
    losses <- callback_loss_history()
    fitted_with(loss, callbacks = list(Breaker$new(2), guard, losses), epochs = 4L)
    list(guard$events$action, guard$events$epoch, losses$batches$loss)
  }
  theirs <- watched("mse")
  expect_equal(watched(external_loss(mse)), theirs, tolerance = 1e-6)
  expect_true("revert" %in% theirs[[1]])
})

test_that("a loss has the name of its function, and is loaded by it", {
  skip_without_keras()
  expect_identical(external_loss(mse)$name, "mse")
  expect_identical(external_loss(function(y_true, y_pred) 1, "spsa")$name, "external_loss")
  `my loss` <- mse
  expect_identical(external_loss(`my loss`)$name, "external_loss")
  expect_identical(external_loss(mse, name = "mine")$name, "mine")
  model <- fitted_with(external_loss(mse))$model
  path <- tempfile(fileext = ".keras")
  on.exit(unlink(path))
  model$save(path)
  load <- keras()$saving$load_model
  data <- two_columns()
  score <- function(model) model$evaluate(data$x, data$y, verbose = 0L)
  loaded <- load(path, custom_objects = list(mse = external_loss(mse)))
  expect_equal(score(loaded), score(model))
  bare <- list(mse = mse)
  expect_error(load(path, custom_objects = bare), "a loss that kguard's `external_loss\\(\\)` made")
  expect_error(load(path), "custom_objects.*'mse'")
})

# ---------------------------------------------------------------- what must not be
test_that("what comes back and cannot be used is named, and leaves the state as before the batch", {
  skip_without_keras()
  data <- two_columns()
  refused <- function(returned, pattern) {
    model <- model_with(external_loss(good_until(6, function(y_true, y_pred) returned), name = "mine"))
    model$fit(data$x, data$y, batch_size = 8L, verbose = 0L)
    before <- state_of(model)
    error <- expect_error(model$fit(data$x, data$y, batch_size = 37L, verbose = 0L))
    said <- paste("the function of the external loss 'mine' must return", pattern)
    expect_match(conditionMessage(error), said, fixed = TRUE)
    expect_identical(state_of(model), before)
    model$fit(data$x, data$y, batch_size = 8L, verbose = 0L)
    expect_false(identical(state_of(model), before))
  }
  gradient <- matrix(1, 37, 2)
  refused(NULL, "list(loss = , gradient = ), got NULL")
  refused(
    list(loss = NaN, gradient = gradient),
    "a finite loss, one number or one a row (37 of them), got NaN"
  )
  refused(
    list(loss = 1, gradient = rep(1, 37)),
    "a finite gradient of the predictions' dimensions 37 x 2, got 37 numbers"
  )
})

test_that("each bad return is told as R spells it", {
  y_pred <- matrix(0, 4, 2)
  said <- function(pattern, returned, with_gradient = TRUE) {
    expect_error(kguard:::returned_loss(returned, "f", y_pred, with_gradient), pattern,
      fixed = TRUE, class = "kguard_external_loss_error"
    )
  }
  good <- matrix(0, 4, 2)
  said("f must return list(loss = , gradient = ), got 0.5", 0.5)
  said("got a list of 3", list(1, good, 3))
  said("got a list with the names \"loss\", \"grad\"", list(loss = 1, grad = good))
  said("got a list with the names \"\", \"gradient\"", list(1, gradient = good))
  said("got \"1.5\"", list("1.5", good))
  said("got TRUE", list(TRUE, good))
  said("got NA", list(NA_real_, good))
  said("got Inf among 4 numbers", list(c(1, Inf, 2, NA), good))
  said("one a row (4 of them), got 3 numbers", list(1:3, good))
  said("got an array of dimensions 4 x 2", list(good, good))
  said("got an array of dimensions 1 x 4", list(matrix(1, 1, 4), good))
  said("dimensions 4 x 2, got an array of dimensions 2 x 4", list(1, t(good)))
  said("got 8 numbers", list(1, as.vector(good)))
  said("got NULL", list(1, NULL))
  said("got NaN among 8 numbers", list(1, good * NaN))
  said("one number or one a row (4 of them), got list(loss", list(loss = 1), FALSE)
})

test_that("an error in the function names it, carries its condition and leaves the state", {
  skip_without_keras()
  data <- two_columns()
  model <- model_with(external_loss(good_until(8, function(...) stop("no such data")), name = "mine"))
  before <- NULL
  Keeps <- R6::R6Class("Keeps",
    inherit = KerasCallback,
    public = list(on_train_batch_begin = function(batch, logs = NULL) before <<- state_of(self$model))
  )
  error <- tryCatch(
    model$fit(data$x, data$y, epochs = 2L, batch_size = 8L, verbose = 0L, callbacks = list(Keeps$new())),
    error = identity
  )
  expect_match(
    conditionMessage(error),
    "external loss 'mine' must return a loss, but failed: no such data"
  )
  expect_identical(state_of(model), before)
  if (utils::packageVersion("reticulate") >= "1.29") {
    expect_identical(conditionMessage(error$parent), "no such data")
  }
})

test_that("a warning in the function is a warning of R", {
  skip_without_keras()
  warns <- good_until(2, function(y_true, y_pred) {
    warning("odd data")
    mse(y_true, y_pred)
  })
  expect_warning(ours <- fitted_with(external_loss(warns), epochs = 1L), "odd data")
  expect_same_training(ours, fitted_with("mse", epochs = 1L))
})

test_that("a loss of the batch cannot be weighted", {
  skip_without_keras()
  one <- function(y_true, y_pred) list(1, y_pred)
  expect_error(
    fitted_with(external_loss(one), weighted = TRUE),
    "one loss a sample, 8 of them, .* got one number"
  )
})

test_that("an argument that cannot be used is refused in R's words", {
  skip_without_keras()
  refused <- function(code, pattern) expect_error(code, pattern, fixed = TRUE, class = "kguard_option_error")
  refused(external_loss("mse"), "`fn` must be a function, got \"mse\"")
  refused(external_loss(function(x) x), "`fn` must be a function of (y_true, y_pred), got one of (x)")
  refused(external_loss(function(a, b, c) a), "got one of (a, b, c)")
  expect_error(external_loss(function(...) 1), NA)
  expect_error(external_loss(function(a, b, c = 1) 1), NA)
  refused(external_loss(mse, "numeric"), "`gradient` must be one of \"returned\", \"spsa\", got \"numeric\"")
  refused(external_loss(mse, perturbation = 0), "`perturbation` must be")
  refused(external_loss(mse, n_draws = 1.5), "`n_draws` must be a whole number of at least 1, got 1.5")
  refused(external_loss(mse, n_draws = NA), "`n_draws` must be a whole number of at least 1, got NA")
  refused(external_loss(mse, seed = -1), "`seed` must be a whole number of at least 0 or NULL, got -1")
  refused(external_loss(mse, name = ""), "`name` must be a string that is not empty, got \"\"")
})

test_that("a bare function of R's is refused by Python, where it would hang", {
  skip_without_keras()
  core <- reticulate::import_from_path("pykguard", path = system.file("python", package = "kguard"))
  expect_error(core$external_loss(mse), "`fn` must be a loss that kguard's `external_loss\\(\\)` made")
})

test_that("in a compiled step of one's own it is refused, and in an eager one it works", {
  skip_without_keras()
  tf <- reticulate::import("tensorflow")
  loss <- external_loss(mse)
  data <- two_columns()
  y <- tf$constant(data$y, "float32")
  expect_error(tf$`function`(loss)(y, y), "on the main thread only")
  expect_equal(as.numeric(loss(y, tf$add(y, y))$numpy()), mean(data$y^2), tolerance = 1e-6)
})

test_that("in keras3 it is trained with, evaluated, saved and loaded as Keras' own", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  data <- regression_data()
  trained <- function(loss) {
    model <- keras3_model()
    keras3("compile")(model, optimizer = "adam", loss = loss)
    history <- keras3("fit")(model, data$x, data$y, epochs = 3, batch_size = 16, verbose = 0, shuffle = FALSE)
    list(losses = history$metrics$loss, weights = unlist(keras3("get_weights")(model)), model = model)
  }
  ours <- trained(external_loss(mse))
  expect_same_training(ours, trained("mse"))
  path <- tempfile(fileext = ".keras")
  on.exit(unlink(path))
  keras3("save_model")(ours$model, path)
  loaded <- keras3("load_model")(path, custom_objects = list(mse = external_loss(mse)))
  score <- function(model) keras3("evaluate")(model, data$x, data$y, verbose = 0)[["loss"]]
  expect_equal(score(loaded), score(ours$model))
  expect_error(
    keras3("load_model")(path, custom_objects = list(mse = mse)),
    "a loss that kguard's `external_loss\\(\\)` made"
  )
})

test_that("in keras3 metrics, layers and generators of R work beside it", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  data <- regression_data()
  doubles <- keras3("Layer")("Doubles", call = function(inputs) inputs * 2)
  off <- keras3("custom_metric")("off", function(y_true, y_pred) {
    keras3("op_mean")(keras3("op_abs")(y_true - y_pred))
  })
  model <- doubles(keras3("keras_model_sequential")(input_shape = 3L))
  model <- keras3("layer_dense")(model, 1L)
  keras3("compile")(model, optimizer = "sgd", loss = external_loss(mse), metrics = list(off))
  before <- mean(abs(stats::predict(model, data$x, verbose = 0) - data$y))
  history <- keras3("fit")(model, data$x, data$y, batch_size = 60, epochs = 2, verbose = 0)
  expect_equal(history$metrics$off[1], before, tolerance = 1e-6)
  n <- 0
  batches <- function() {
    n <<- n + 1
    list(data$x[1:8, ], data$y[1:8, , drop = FALSE])
  }
  suppressWarnings(keras3("fit")(model, batches, steps_per_epoch = 3, epochs = 2, verbose = 0))
  expect_gte(n, 6)
})

test_that("in keras 2.16 it trains as Keras' own, and its errors leave the weights", {
  output <- in_keras2(c(
    "mse <- function(y_true, y_pred) {",
    "  error <- y_pred - y_true",
    "  list(loss = rowMeans(error^2), gradient = 2 * error / ncol(error))",
    "}",
    "fails <- function(y_true, y_pred) stop('no such data')",
    "trained <- function(loss, ...) {",
    "  keras$utils$set_random_seed(1L)",
    "  model <- new_model()",
    "  compile(model, optimizer = 'adam', loss = loss)",
    "  fit(model, x, y, epochs = 2, batch_size = 16, verbose = 0, view_metrics = FALSE,",
    "    shuffle = FALSE, ...)",
    "  model",
    "}",
    "loss <- external_loss(mse)",
    "weights <- function(model) unlist(get_weights(model))",
    "ours <- trained(loss, sample_weight = 1:60 / 60)",
    "theirs <- trained('mse', sample_weight = 1:60 / 60)",
    "cat('\\nsame:', max(abs(weights(ours) - weights(theirs))) < 1e-6, '\\n')",
    "before <- weights(ours)",
    "compile(ours, optimizer = 'adam', loss = external_loss(fails))",
    "said <- tryCatch(fit(ours, x, y, verbose = 0, view_metrics = FALSE), error = conditionMessage)",
    "cat('\\nsaid:', grepl(\"'fails' must return a loss, but failed: no such data\", said), '\\n')",
    "cat('\\nkept:', identical(weights(ours), before), '\\n')"
  ))
  expect_true("same: TRUE " %in% output, label = paste(utils::tail(output, 30), collapse = "\n"))
  expect_true("said: TRUE " %in% output, label = paste(utils::tail(output, 30), collapse = "\n"))
  expect_true("kept: TRUE " %in% output)
})

# In a process of its own, which is ended after a time: what hangs never comes back by itself.
test_that("nothing hangs: callbacks and data of R beside it, errors, interrupts, the last small batch", {
  skip_without_keras()
  skip_on_os("windows")
  output <- in_fresh_r(c(
    "library(kguard)",
    "keras <- reticulate::import('keras')",
    "set.seed(1)",
    "x <- matrix(rnorm(111), 37)",
    "y <- matrix(rnorm(74), 37)",
    "mse <- function(y_true, y_pred) {",
    "  error <- y_pred - y_true",
    "  list(loss = rowMeans(error^2), gradient = 2 * error / ncol(error))",
    "}",
    "model_with <- function(fn, ...) {",
    "  keras$utils$set_random_seed(1L)",
    "  model <- keras$Sequential(list(keras$layers$Dense(2L)))",
    "  model$compile('adam', external_loss(fn), ...)",
    "  model",
    "}",
    "Counts <- R6::R6Class('Counts', inherit = KerasCallback, public = list(n = 0,",
    "  on_train_batch_end = function(batch, logs = NULL) self$n <- self$n + 1,",
    "  on_epoch_end = function(epoch, logs = NULL)",
    "    self$n <- self$n + 100 * (self$model$evaluate(x, y, verbose = 0L) > 0)))",
    "counts <- Counts$new()",
    "model <- model_with(mse)",
    "model$fit(x, y, epochs = 2L, batch_size = 8L, verbose = 0L, validation_split = 0.3,",
    "  callbacks = list(counts, callback_revert_on_loss_increase('val_loss')))",
    "cat('\\nfound: callbacks', counts$n, '\\n')",
    "losses <- 1:2",
    "if (utils::packageVersion('reticulate') >= '1.41') {", # an older one calls R on any thread
    "  code <- 'def batches_of(f):\n  for _ in range(8): yield f()'",
    "  batch <- function() reticulate::tuple(x[1:8, ], y[1:8, ])",
    "  batches <- reticulate::py_run_string(code)$batches_of(batch)",
    "  losses <- model$fit(batches, epochs = 2L, steps_per_epoch = 3L, verbose = 0L)$history$loss",
    "}",
    "cat('\\nfound: data', length(losses), '\\n')",
    "calls <- 0",
    "stops <- function(y_true, y_pred) {",
    "  calls <<- calls + 1",
    "  if (calls == 5) stop('at 5')",
    "  mse(y_true, y_pred)",
    "}",
    "model <- model_with(stops, steps_per_execution = 2L)",
    "said <- tryCatch(model$fit(x, y, batch_size = 8L, verbose = 0L), error = conditionMessage)",
    "cat('\\nfound: error', grepl('failed: at 5', said), '\\n')",
    "for (in_function in c(TRUE, FALSE)) {",
    "  calls <- 0",
    "  interrupted <- function(y_true, y_pred) {",
    "    calls <<- calls + 1",
    "    wait <- if (in_function) 0.1 else 0.4",
    "    if (calls == 5) system(sprintf('(sleep %s; kill -INT %d) > /dev/null 2>&1 &', wait, Sys.getpid()))",
    "    if (calls == 5 && in_function) Sys.sleep(20)",
    "    mse(y_true, y_pred)",
    "  }",
    "  model <- model_with(interrupted)",
    "  how <- tryCatch(",
    "    model$fit(x, y, epochs = 1000000L, batch_size = 8L, verbose = 0L),",
    "    interrupt = function(condition) 'interrupt',",
    "    error = function(error)", # so does an old reticulate call it
    "      sub('.*KeyboardInterrupt.*', 'interrupt', paste(conditionMessage(error), collapse = ' ')))",
    "  finite <- all(is.finite(unlist(model$get_weights())))",
    "  again <- model$fit(x, y, verbose = 0L)$history$loss",
    "  cat('\\nfound:', how, finite, length(again), '\\n')",
    "}",
    "cat('\\nfound: end \\n')"
  ), env = "TF_CPP_MIN_LOG_LEVEL=3", seconds = 240)
  found <- grep("^found:", output, value = TRUE)
  expect_identical(found, c(
    "found: callbacks 208 ", "found: data 2 ", "found: error TRUE ",
    "found: interrupt TRUE 1 ", "found: interrupt TRUE 1 ", "found: end "
  ), label = paste(utils::tail(output, 30), collapse = "\n"))
})
