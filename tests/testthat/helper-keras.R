# Tests that train need Keras. Where kguard's own checks run they must not be skipped.
skip_without_keras <- function() {
  if (identical(Sys.getenv("KGUARD_TEST_KERAS"), "required")) {
    return(invisible())
  }
  skip_on_cran()
  skip_if_not(
    reticulate::py_available(initialize = TRUE) &&
      reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow"),
    "Python with Keras and TensorFlow"
  )
}

keras <- function() reticulate::import("keras")

# y = x b + noise, with 60 rows of 3 columns.
regression_data <- function() {
  x <- with_seed(7, matrix(stats::rnorm(180), 60))
  list(x = x, y = x %*% c(1, -2, 3))
}

with_seed <- function(seed, code) {
  old <- if (exists(".Random.seed", globalenv())) get(".Random.seed", globalenv())
  on.exit(if (!is.null(old)) assign(".Random.seed", old, globalenv()))
  set.seed(seed)
  code
}

small_model <- function(optimizer = "adam", metrics = NULL) {
  keras()$utils$set_random_seed(1L)
  layers <- keras()$layers
  model <- keras()$Sequential(list(
    layers$Input(shape = list(3L)), layers$Dense(4L, activation = "relu"), layers$Dense(1L)
  ))
  model$compile(optimizer, "mse", metrics = metrics)
  model
}

weights_of <- function(model) lapply(model$get_weights(), as.vector)

# Makes the weights NaN at the end of some epochs, as a broken batch would.
Breaker <- R6::R6Class("Breaker",
  inherit = KerasCallback,
  public = list(
    epochs = NULL,
    initialize = function(...) self$epochs <- c(...),
    on_epoch_end = function(epoch, logs = NULL) {
      if (epoch %in% self$epochs) {
        kernel <- self$model$layers[[1]]$kernel
        kernel$assign(array(NaN, dim = c(3L, 4L)))
      }
    }
  )
)

fit_quietly <- function(model, callbacks, epochs = 4L, ...) {
  data <- regression_data()
  model$fit(data$x, data$y,
    epochs = epochs, batch_size = 20L, verbose = 0L, shuffle = FALSE,
    callbacks = callbacks, ...
  )
}

# Runs R code in a process of its own and returns its lines.
in_fresh_r <- function(code, env = character(), seconds = 0) { # 0: as long as it takes
  file <- tempfile(fileext = ".R")
  on.exit(unlink(file))
  writeLines(code, file)
  libraries <- paste0("R_LIBS=", paste(.libPaths(), collapse = .Platform$path.sep))
  suppressWarnings(system2(
    file.path(R.home("bin"), "Rscript"), c("--no-init-file", file),
    stdout = TRUE, stderr = TRUE, env = c(libraries, env), timeout = seconds
  ))
}

# Runs code while a function of kguard's is another one.
with_function <- function(name, value, code) {
  namespace <- asNamespace("kguard")
  old <- get(name, namespace)
  set <- function(value) {
    unlockBinding(name, namespace)
    assign(name, value, namespace)
    lockBinding(name, namespace)
  }
  on.exit(set(old))
  set(value)
  code
}

# Draws into a file, and returns how large it became.
drawn_bytes <- function(code) {
  file <- tempfile(fileext = ".png")
  on.exit(unlink(file))
  grDevices::png(file)
  force(code)
  grDevices::dev.off()
  file.size(file)
}

# As the R documentation's example has it.
BatchLosses <- R6::R6Class("LossHistory",
  inherit = KerasCallback,
  public = list(
    losses = NULL,
    on_batch_end = function(batch, logs = list()) {
      self$losses <- c(self$losses, logs[["loss"]])
    }
  )
)
