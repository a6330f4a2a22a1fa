#' Base class of R6 callbacks
#'
#' Derive an R6 class from `KerasCallback`, override the hooks you need, and pass
#' an object of it to `fit()`, `evaluate()` or `predict()`: of keras3, of keras 2.16, or
#' of a Keras model used through reticulate, alone or in a list beside other callbacks.
#' Hooks that a class does not override are never called, so they cost nothing.
#'
#' @section Fields:
#' \describe{
#'   \item{`model`}{The Keras model being trained.}
#'   \item{`params`}{Named list of training parameters: verbosity, number of epochs, steps.}
#' }
#'
#' @section Hooks:
#' `epoch` and `batch` count from 1; in keras 2.16, whose own callbacks count from 0, from 0. `logs`
#' is a named list of the metrics so far. A named list that a hook returns is merged into `logs`, for
#' the callbacks behind it and for the history.
#' \describe{
#'   \item{`on_train_begin(logs)`, `on_train_end(logs)`}{Around `fit()`.}
#'   \item{`on_epoch_begin(epoch, logs)`, `on_epoch_end(epoch, logs)`}{Around each epoch.}
#'   \item{`on_train_batch_begin(batch, logs)`, `on_train_batch_end(batch, logs)`}{Around each batch
#'     of `fit()`. `on_batch_begin()` and `on_batch_end()` are other names for them.}
#'   \item{`on_test_begin(logs)`, `on_test_end(logs)`}{Around `evaluate()`, and around the validation
#'     in `fit()`.}
#'   \item{`on_test_batch_begin(batch, logs)`, `on_test_batch_end(batch, logs)`}{Around each batch of
#'     them.}
#'   \item{`on_predict_begin(logs)`, `on_predict_end(logs)`}{Around `predict()`.}
#'   \item{`on_predict_batch_begin(batch, logs)`, `on_predict_batch_end(batch, logs)`}{Around each
#'     batch of it.}
#' }
#' `set_context(params, model)` is called before them, when the two fields are set anew.
#'
#' keras 2.16 has a class of this name too; the one of the package that was attached last is found, so
#' write `kguard::KerasCallback` where both are.
#'
#' @section Errors:
#' An error in a hook stops training. The message of the error that `fit()` then raises names the class
#' and the hook, and its field `parent` is the condition that the hook raised (with reticulate before
#' 1.29 only the message gets through Python). Refused before training are a hook that does not take
#' its arguments, a class generator in place of an object of it, and an object that is in the list of
#' callbacks twice.
#'
#' @format An R6 class generator.
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' # With keras3: model |> fit(x, 3 * x, epochs = 3, callbacks = list(stopwatch))
#' Stopwatch <- R6::R6Class("Stopwatch",
#'   inherit = KerasCallback,
#'   public = list(
#'     seconds = NULL, start = NULL,
#'     on_epoch_begin = function(epoch, logs = NULL) self$start <- Sys.time(),
#'     on_epoch_end = function(epoch, logs = NULL) {
#'       self$seconds[epoch] <- as.numeric(Sys.time() - self$start, units = "secs")
#'     }
#'   )
#' )
#' stopwatch <- Stopwatch$new()
#' stopwatch
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.1), "mse")
#' x <- matrix(seq(-2, 2, length.out = 64))
#' history <- model$fit(x, 3 * x, epochs = 3L, verbose = 0L, callbacks = list(stopwatch))
#' stopwatch$seconds
#' @export
KerasCallback <- R6Class("kguard_callback", # keras 2.16 has its own, slow way with class KerasCallback
  public = list(
    print = function(...) {
      cat("<", class_of(self), ">\n", sep = "")
      hooks <- overridden_hooks(self, KerasCallback$public_methods)
      cat("  hooks: ", if (length(hooks)) paste(hooks, collapse = ", ") else "none", "\n", sep = "")
      invisible(self)
    },
    set_context = function(params = NULL, model = NULL) {
      self$params <- params
      self$model <- model
    },
    on_epoch_begin = function(epoch, logs = NULL) invisible(),
    on_epoch_end = function(epoch, logs = NULL) invisible(),
    on_batch_begin = function(batch, logs = NULL) invisible(),
    on_batch_end = function(batch, logs = NULL) invisible(),
    on_train_batch_begin = function(batch, logs = NULL) self$on_batch_begin(batch, logs),
    on_train_batch_end = function(batch, logs = NULL) self$on_batch_end(batch, logs),
    on_train_begin = function(logs = NULL) invisible(),
    on_train_end = function(logs = NULL) invisible(),
    on_test_batch_begin = function(batch, logs = NULL) invisible(),
    on_test_batch_end = function(batch, logs = NULL) invisible(),
    on_test_begin = function(logs = NULL) invisible(),
    on_test_end = function(logs = NULL) invisible(),
    on_predict_batch_begin = function(batch, logs = NULL) invisible(),
    on_predict_batch_end = function(batch, logs = NULL) invisible(),
    on_predict_begin = function(logs = NULL) invisible(),
    on_predict_end = function(logs = NULL) invisible()
  ),
  active = list(
    model = function(value) {
      if (missing(value)) private$.kguard_model() else private$.kguard_context$model <- value
    },
    params = function(value) {
      if (missing(value)) private$.kguard_params() else private$.kguard_context$params <- value
    }
  ),
  private = list(
    .kguard_context = list(model = NULL, params = NULL),
    .kguard_model = function() private$.kguard_context$model,
    .kguard_params = function() private$.kguard_context$params,
    .kguard_newest = NULL,
    .kguard_to_python = function(first) {
      hooks <- overridden_hooks(self, KerasCallback$public_methods)
      hooks_to_python(self, hooks, core = NULL, first = first, newest = private$.kguard_memory())
    },
    # What the Python callbacks that stand for this object share: which of them is in use.
    .kguard_memory = function() {
      if (!is_alive(private$.kguard_newest)) private$.kguard_newest <- reticulate::dict()
      private$.kguard_newest
    }
  )
)
