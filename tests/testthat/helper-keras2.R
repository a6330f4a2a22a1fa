# keras 2.16 works with tf_keras only, which a process has to be told before TensorFlow starts.
in_keras2 <- function(code) {
  skip_without_keras()
  skip_if_not_installed("keras")
  skip_if_not(reticulate::py_module_available("tf_keras"), "tf_keras")
  helper <- normalizePath(test_path("helper-hooks.R"))
  start <- c(
    "suppressPackageStartupMessages({ library(keras); library(kguard) })",
    sprintf("source(%s)", deparse(helper)),
    "set.seed(1)",
    "x <- matrix(rnorm(180), 60)",
    "y <- x %*% c(1, -2, 3)",
    "new_model <- function() {",
    "  model <- keras_model_sequential(input_shape = 3L)",
    "  model <- layer_dense(model, 4, activation = 'relu')",
    "  model <- layer_dense(model, 1)",
    "  compile(model, optimizer = 'adam', loss = 'mse')",
    "  model",
    "}",
    "train <- function(callbacks, epochs = 2, ...) {",
    "  fit(new_model(), x, y, epochs = epochs, batch_size = 20, verbose = 0, view_metrics = FALSE,",
    "    shuffle = FALSE, callbacks = callbacks, ...)",
    "}"
  )
  python <- reticulate::py_config()$python
  output <- in_fresh_r(
    c(start, code),
    env = c("TF_USE_LEGACY_KERAS=1", paste0("RETICULATE_PYTHON=", python), "TF_CPP_MIN_LOG_LEVEL=3")
  )
  attributes(output) <- NULL
  output
}
