#' Reset a learning rate, in force from the next step
#'
#' `reset_learning_rate()` replaces the learning rate of a model or an optimizer. A number, a schedule
#' and a function may each take the place of each other, before, between and within `fit()`, there
#' from a hook of a [KerasCallback]. Steps that were compiled are compiled anew where that is needed:
#' Keras would go on with the old schedule. The optimizer's moments and its step counter `t` are left
#' as they are. With a schedule `s`, and `t0` the counter now,
#'
#' `rate(t) = s(t - t0)` with `restart`, and `s(t)` without.
#'
#' @section Errors:
#' An argument that cannot be used is refused with a condition of class `kguard_option_error` that names
#' it, what it must be and what it was; so is a schedule or a function, which is called once to see,
#' that gives something else than one finite number of at least 0. The old rate stays.
#'
#' @param object A Keras model that was compiled with one optimizer, or an optimizer: of keras3, of
#'   keras 2.16, or made in Python.
#' @param learning_rate A finite number above 0; a learning-rate schedule of the same library; or an R
#'   function without arguments that gives the rate. Keras calls such a function once when it compiles
#'   a step, and at each step where it does not compile: with `run_eagerly`, and on PyTorch. It cannot be
#'   used where TensorFlow trains a model on several devices.
#' @param restart Whether a schedule begins with its step 0, or goes on from the optimizer's step.
#' @return `object`, invisibly, so that calls can be piped.
#' @seealso [callback_reset_learning_rate()] for given epochs, [current_learning_rate()]
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.1), "mse")
#' x <- matrix(seq(-2, 2, length.out = 64))
#' history <- model$fit(x, 3 * x, epochs = 1L, verbose = 0L)
#' reset_learning_rate(model, keras$optimizers$schedules$CosineDecay(0.05, 10L))
#' current_learning_rate(model)
#' history <- model$fit(x, 3 * x, epochs = 2L, verbose = 0L)
#' current_learning_rate(model)
#' reset_learning_rate(model, 0.01)
#' current_learning_rate(model)
#' @export
reset_learning_rate <- function(object, learning_rate, restart = TRUE) {
  result <- bridge()$reset(
    target_to_python(object), rate_to_python(learning_rate), option_to_python("restart", restart)
  )
  stop_if_refused(result, as.list(environment()))
  invisible(object)
}

# Python knows what a model or an optimizer is, but only of its own objects.
target_to_python <- function(object) {
  is_object <- inherits(object, "python.builtin.object") && is_alive(object)
  if (is_object) object else unusable(object)
}
