squares <- function(model, x, y, y_pred, sample_weight) {
  ops <- keras()$ops
  losses <- ops$mean(ops$square(ops$subtract(y_pred, y)), axis = -1L)
  ops$mean(if (is.null(sample_weight)) losses else ops$multiply(losses, sample_weight))
}

inner_model <- function() {
  keras()$utils$set_random_seed(1L)
  layers <- keras()$layers
  keras()$Sequential(list(
    layers$Input(shape = list(3L)),
    layers$Dense(4L, activation = "tanh", kernel_regularizer = "l2"), layers$Dense(1L)
  ))
}

fitted_loss <- function(model, ...) {
  data <- regression_data()
  history <- model$fit(data$x, data$y,
    sample_weight = array(1:60 / 60), epochs = 3L, batch_size = 16L, verbose = 0L, shuffle = FALSE, ...
  )
  unlist(history$history$loss)
}

test_that("it trains the inner model as one that was compiled with the same loss", {
  skip_without_keras()
  for (eagerly in c(FALSE, TRUE)) {
    ours <- inner_model()
    outer <- external_loss_model(ours, squares)
    outer$compile("adam", run_eagerly = eagerly)
    theirs <- inner_model()
    theirs$compile("adam", "mse", run_eagerly = eagerly)
    expect_equal(fitted_loss(outer), fitted_loss(theirs), tolerance = 1e-6)
    expect_equal(weights_of(ours), weights_of(theirs), tolerance = 1e-6)
  }
  data <- regression_data()
  expect_equal(outer$predict(data$x, verbose = 0L), ours$predict(data$x, verbose = 0L), tolerance = 1e-6)
  expect_equal(outer$evaluate(data$x, data$y, verbose = 0L), theirs$evaluate(data$x, data$y, verbose = 0L),
    tolerance = 1e-6
  )
})

test_that("the inner model is saved and loaded, and the outer is not", {
  skip_without_keras()
  outer <- external_loss_model(inner_model(), squares)
  outer$compile("adam")
  fitted_loss(outer)
  path <- tempfile(fileext = ".keras")
  on.exit(unlink(path))
  outer$model$save(path)
  loaded <- keras()$saving$load_model(path)
  expect_identical(weights_of(loaded), weights_of(outer$model))
  expect_error(outer$save(path), "save its attribute `model`")
})

test_that("in keras3 the loss is written with its operators, and with an external loss within", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  data <- regression_data()
  mean_of <- keras3("op_mean")
  mse <- function(y_true, y_pred) {
    error <- y_pred - y_true
    list(loss = rowMeans(error^2), gradient = 2 * error)
  }
  external <- external_loss(mse)
  losses <- list(
    function(model, x, y, y_pred, sample_weight) mean_of((y - y_pred)^2),
    function(model, x, y, y_pred, sample_weight) external(y, y_pred),
    "mse"
  )
  trained <- lapply(losses, function(loss) {
    inner <- keras3_model()
    model <- if (is.function(loss)) external_loss_model(inner, loss) else inner
    if (is.function(loss)) {
      keras3("compile")(model, optimizer = "adam")
    } else {
      keras3("compile")(model, optimizer = "adam", loss = loss)
    }
    keras3("fit")(model, data$x, data$y, epochs = 2, verbose = 0, shuffle = FALSE)
    unlist(keras3("get_weights")(inner))
  })
  expect_equal(trained[[1]], trained[[3]], tolerance = 1e-6)
  expect_equal(trained[[2]], trained[[3]], tolerance = 1e-6)
})

test_that("a loss that is no scalar tensor is refused in R's words, and the weights stay", {
  skip_without_keras()
  refused <- function(returned, pattern) {
    wrong <- function(model, x, y, y_pred, sample_weight) returned(y_pred)
    outer <- external_loss_model(inner_model(), wrong)
    outer$compile("adam")
    before <- weights_of(outer)
    error <- expect_error(fitted_loss(outer))
    said <- "the function 'wrong' of an ExternalLossModel must return a scalar of floating point, "
    said <- paste0(said, pattern)
    expect_match(conditionMessage(error), said, fixed = TRUE)
    expect_identical(weights_of(outer), before)
    error
  }
  refused(function(y_pred) NULL, "got NULL")
  refused(function(y_pred) "low", "got \"low\"")
  refused(function(y_pred) y_pred, "got a tensor of dimensions NA x 1")
  error <- refused(function(y_pred) stop("not today"), "but failed: not today")
  if (utils::packageVersion("reticulate") >= "1.29") {
    expect_identical(conditionMessage(error$parent), "not today")
  }
})

test_that("an interrupt in the function is one in Python", {
  skip_without_keras()
  interrupt <- structure(class = c("interrupt", "condition"), list(message = "", call = NULL))
  outer <- external_loss_model(inner_model(), function(...) stop(interrupt))
  outer$compile("adam")
  said <- function(interrupt) "KeyboardInterrupt"
  caught <- tryCatch(fitted_loss(outer), interrupt = said, error = conditionMessage)
  expect_match(caught, "KeyboardInterrupt")
})

test_that("an argument that cannot be used is refused in R's words", {
  skip_without_keras()
  refused <- function(code, pattern) expect_error(code, pattern, fixed = TRUE, class = "kguard_option_error")
  refused(external_loss_model(3, squares), "`model` must be a Keras model, got 3")
  layer <- keras()$layers$Dense(1L)
  refused(external_loss_model(layer, squares), "`model` must be a Keras model, got <Dense")
  refused(external_loss_model(inner_model(), "mse"), "`loss_fn` must be a function, got \"mse\"")
  refused(
    external_loss_model(inner_model(), function(y, y_pred) 1),
    "`loss_fn` must be a function of (model, x, y, y_pred, sample_weight), got one of (y, y_pred)"
  )
})
