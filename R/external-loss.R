#' A Keras loss made of an R function
#'
#' `external_loss()` makes a loss of a plain function of arrays, for what `compile(loss = )` cannot
#' express otherwise. It is given to `compile()` of keras3, of keras 2.16, or of a Keras model used through
#' reticulate, as any other loss, one for each output where there are several; and it works in the
#' compiled steps of TensorFlow and JAX, and on torch.
#'
#' `fn(y_true, y_pred)` gets two arrays of doubles, of dimensions `rows x ...`; with one output a matrix
#' of one column. It is always called on R's main thread, also where the backend would call it from a
#' thread of its own: the compiled step then runs on another thread, while R waits for its calls.
#'
#' With `gradient = "returned"`, `fn` returns `list(loss = , gradient = )`, or a list of the two in this
#' order. The loss is one number, the loss `L` of the batch, or one number a row, `l[i]`. The gradient
#' has the dimensions of `y_pred`, and may be a plain vector where that has one column: it is
#' `dL/dy_pred`, or in row `i` the gradient `dl[i]/dy_pred[i, ]`, not divided by the number of rows. `fn`
#' is called once a batch.
#'
#' With `gradient = "spsa"`, `fn` returns the loss only, and the gradient is estimated by simultaneous
#' perturbation. `D` has the dimensions of `y_pred` and is 1 or -1 at each place, with equal odds; over
#' `n_draws` of them the mean is taken of
#'
#' `D * (l(y_pred + c * D) - l(y_pred - c * D)) / (2 * c)`, where `c` is `perturbation`.
#'
#' For small `c` the estimate of the true gradient's element `G[j]` has the standard error
#' `sqrt((sum(G^2) - G[j]^2) / n_draws)`, where the sum is over the elements that are perturbed together:
#' those of the batch, or with one loss a row those of the row. Training calls `fn` `1 + 2 * n_draws`
#' times a batch, evaluation once.
#'
#' Keras logs the mean of losses of rows, and trains on it. Only they can be weighted, by sample weights
#' or class weights. A function cannot be saved: a model with this loss is loaded by
#' `load_model(path, custom_objects = list(NAME = external_loss(NAME)))`, where `NAME` is the name of the
#' loss, or with `compile = FALSE`.
#'
#' @section Errors:
#' An argument that cannot be used is refused with a condition of class `kguard_option_error`. An error in
#' `fn`, or a return that is not what it must be, not finite among it, ends `fit()` with an error that
#' names the function and what it returned; its field `parent` is the condition that `fn` raised (with
#' reticulate before 1.29 only the message gets through Python). Model and optimizer are then as they
#' were before that batch, or before the steps of one execution. So they are where Ctrl-C interrupts.
#'
#' `fn` cannot be called, and an error says so, in a compiled step that is not Keras' own, as in a
#' `tf_function()` of a loop of one's own, and where TensorFlow trains on several devices.
#'
#' @param fn A function of `y_true` and `y_pred`, of R's or of Python's; that gets NumPy arrays.
#' @param gradient `"returned"` by `fn`, or estimated by `"spsa"`.
#' @param perturbation `c`, above 0, in the unit of the predictions.
#' @param n_draws How many draws are averaged.
#' @param seed Of the draws: the same seed gives the same gradients. With `NULL` it is drawn from NumPy's
#'   generator, which `keras3::set_random_seed()` sets.
#' @param name Name of the loss, in errors and for loading. With `NULL` it is that of `fn` where the call
#'   has a name there, and otherwise `"external_loss"`.
#' @return A Keras loss, a Python object.
#' @seealso [external_loss_model()] for a loss of tensors that sees the model and its inputs.
#' @references J. C. Spall (1992), Multivariate stochastic approximation using a simultaneous
#'   perturbation gradient approximation, IEEE Transactions on Automatic Control 37(3), 332-341.
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' # With keras3: model |> compile(optimizer = "sgd", loss = external_loss(mse))
#' mse <- function(y_true, y_pred) {
#'   error <- y_pred - y_true
#'   list(loss = rowMeans(error^2), gradient = 2 * error / ncol(error))
#' }
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.1), external_loss(mse))
#' x <- matrix(seq(-2, 2, length.out = 64))
#' history <- model$fit(x, 3 * x, epochs = 5L, verbose = 0L)
#' unlist(history$history$loss)
#' @export
external_loss <- function(fn, gradient = c("returned", "spsa"), perturbation = 0.01, n_draws = 1L,
                          seed = NULL, name = NULL) {
  if (missing(gradient)) gradient <- "returned"
  if (is.null(name)) name <- name_in_call(substitute(fn), "external_loss")
  if (!is.function(fn)) stop_option("fn", "a function", fn)
  # keras 2.16 loads it on first use, and the loss has to know that it is there.
  if (has_keras2()) reticulate::import("tf_keras")
  options <- list(
    gradient = gradient, perturbation = perturbation, n_draws = n_draws, seed = seed, name = name
  )
  given <- Map(option_to_python, names(options), options)
  made <- if (inherits(fn, "python.builtin.object")) {
    bridge()$external_loss_of_python(fn, given)
  } else {
    check_takes("fn", fn, c("y_true", "y_pred"))
    bridge()$external_loss(called_for_loss(fn, name, identical(gradient, "returned")), name, given)
  }
  stop_if_refused(made, options)
  made$made
}

has_keras2 <- function() {
  "keras" %in% loadedNamespaces() && reticulate::py_module_available("tf_keras")
}

# The name that stands in a call, as `mse` does in `external_loss(mse)`.
name_in_call <- function(expression, otherwise) {
  name <- if (is.symbol(expression)) as.character(expression) else ""
  if (grepl("^[A-Za-z][A-Za-z0-9_.]*$", name)) name else otherwise
}

# It is called with its arguments in order, whatever it calls them.
check_takes <- function(argument, f, given) {
  required <- is_required(f)
  enough <- "..." %in% names(formals(args(f))) || length(required) >= length(given)
  if (!enough || any(utils::tail(required, -length(given)))) {
    stop_option(
      argument, paste0("a function of (", paste(given, collapse = ", "), ")"), f,
      paste0("one of (", paste(names(formals(args(f))), collapse = ", "), ")")
    )
  }
}

# What Python calls: gives Python the loss or what went wrong, and never jumps over its frames.
called_for_loss <- function(fn, name, with_gradient) {
  force(fn)
  what <- paste0("the function of the external loss ", sQuote(name, FALSE))
  function(y_true, y_pred) {
    tryCatch(
      returned_loss(fn(y_true, y_pred), what, y_pred, with_gradient),
      error = function(parent) loss_failure(what, "a loss", parent),
      interrupt = function(condition) interrupted
    )
  }
}

loss_failure <- function(what, requirement, parent) {
  condition <- if (inherits(parent, "kguard_external_loss_error")) {
    parent
  } else {
    structure(
      class = c("kguard_external_loss_error", "kguard_error", "error", "condition"),
      list(
        message = paste0(what, " must return ", requirement, ", but failed: ", conditionMessage(parent)),
        call = NULL, parent = parent
      )
    )
  }
  # An old reticulate makes no error of Python's of it.
  carries <- !is.null(utils::getS3method("r_to_py", "error", TRUE, asNamespace("reticulate")))
  list(failed = conditionMessage(condition), condition = if (carries) condition)
}
