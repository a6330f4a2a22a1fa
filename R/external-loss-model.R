#' A Keras model whose loss is an R function of tensors
#'
#' `external_loss_model()` makes a Keras model that trains `model` by ordinary `fit()` with a loss that may
#' use the inputs, the weights and the model itself.
#'
#' `loss_fn(model, x, y, y_pred, sample_weight)` gets tensors of a batch, and returns its loss, a scalar,
#' computed by operations of Keras: those of keras3, as `op_mean()`, or of `keras$ops`. What is not given
#' to `fit()` is `NULL`. Its gradient is taken through `y_pred`, and through the weights and further calls
#' of `model` that it uses. On TensorFlow and JAX it is called when the step is compiled, once for each
#' shape of the data, so that R costs nothing for each batch; on torch once a batch. The loss that is
#' trained on and logged is
#'
#' `loss_fn(model, x, y, y_pred, sample_weight) + sum(model$losses)`
#'
#' with the losses of regularisation, as Keras adds them. `compile()` takes an optimizer and metrics, and
#' no loss. The variables of `model` itself are trained: save and use that one, which is the field `model`
#' of what is made. A function cannot be saved, so saving the outer model is refused; its weights may be
#' saved.
#'
#' @section Errors:
#' An argument that cannot be used is refused with a condition of class `kguard_option_error`. An error in
#' `loss_fn`, or a return that is not a scalar tensor, ends `fit()` with an error that names the function;
#' its field `parent` is the condition that `loss_fn` raised (with reticulate before 1.29 only the message
#' gets through Python). Model and optimizer are then as they were before the batch.
#'
#' @param model The Keras model to train, of keras3 or made in Python.
#' @param loss_fn The loss.
#' @return A Keras model, a Python object.
#' @seealso [external_loss()] for a loss of arrays.
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' # With keras3: op_mean((y - y_pred)^2) + 1e-3 * op_sum(model$layers[[1]]$kernel^2)
#' keras <- reticulate::import("keras")
#' ops <- keras$ops
#' ridge <- function(model, x, y, y_pred, sample_weight) {
#'   penalty <- ops$sum(ops$square(model$layers[[1]]$kernel))
#'   ops$add(ops$mean(ops$square(ops$subtract(y, y_pred))), ops$multiply(1e-3, penalty))
#' }
#' model <- keras$Sequential(list(keras$Input(list(1L)), keras$layers$Dense(1L)))
#' outer <- external_loss_model(model, ridge)
#' outer$compile(keras$optimizers$SGD(0.1))
#' x <- matrix(seq(-2, 2, length.out = 64))
#' history <- outer$fit(x, 3 * x, epochs = 5L, verbose = 0L)
#' model$get_weights()
#' @export
external_loss_model <- function(model, loss_fn) {
  name <- name_in_call(substitute(loss_fn), "loss_fn")
  if (!is.function(loss_fn)) stop_option("loss_fn", "a function", loss_fn)
  check_takes("loss_fn", loss_fn, c("model", "x", "y", "y_pred", "sample_weight"))
  usable <- inherits(model, "python.builtin.object") && is_alive(model)
  given <- if (usable) model else unusable(model)
  made <- bridge()$external_loss_model(given, called_for_tensor(loss_fn, name), name)
  stop_if_refused(made, list(model = model, loss_fn = loss_fn))
  made$made
}

called_for_tensor <- function(loss_fn, name) {
  force(loss_fn)
  what <- paste("the function", sQuote(name, FALSE), "of an ExternalLossModel")
  function(...) {
    tryCatch(
      as_scalar_tensor(loss_fn(...), what),
      error = function(parent) loss_failure(what, a_scalar, parent),
      interrupt = function(condition) interrupted
    )
  }
}

a_scalar <- "a scalar of floating point"

as_scalar_tensor <- function(returned, what) {
  is_tensor <- inherits(returned, "python.builtin.object")
  if (!is_tensor && !is_one_number(returned)) stop_returned(what, a_scalar, spell(returned))
  if (is_tensor) returned else as.double(returned)
}
