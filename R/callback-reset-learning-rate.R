#' Reset the learning rate at given epochs
#'
#' `callback_reset_learning_rate()` makes a callback for `fit()` that replaces the learning rate or the
#' schedule at the beginning of given epochs, as [reset_learning_rate()] does: with `s` a schedule and
#' `t0` the optimizer's step when the epoch begins,
#'
#' `rate(t) = s(t - t0)` with `restart`, and `s(t)` without,
#'
#' in force from the first step of the epoch. One cosine and several epochs are warm restarts (SGDR).
#'
#' @section Beside other callbacks:
#' A guard's `lr_factor` scales what was set here from then on, and what is set here later replaces it
#' unscaled. ReduceLROnPlateau and LearningRateScheduler of Keras can follow a number, but raise an
#' error where the optimizer holds a schedule.
#'
#' @section What the object knows:
#' \describe{
#'   \item{`events`}{A data frame, a row for each rate that was replaced, with the columns that
#'     [guards][callback_revert_on_loss_increase] have: `epoch`; `value`, the old rate; and
#'     `learning_rate`, the new one.}
#'   \item{`get_config()`}{A named list of its options.}
#' }
#' `as.data.frame()` gives the events, and `summary()` what they say: `epoch`, `old` and `new`, a row a
#' reset. It starts afresh with each `fit()`.
#'
#' @section Errors:
#' An option that cannot be used is refused at once, with a condition of class `kguard_option_error`
#' that names the argument, what it must be and what it was. `fit()` stops at its start, if an epoch is
#' before its first, and within it, if a schedule or a function gives something that is no rate; the
#' old rate stays. An epoch that does not come is warned of.
#'
#' @param learning_rate What the rate is replaced by: a number above 0; a learning-rate schedule, of
#'   keras3, of keras 2.16 or made in Python; or an R function without arguments that gives the rate.
#'   Or an R function of the epoch that gives one of them; or a vector or list that has one for each
#'   of the epochs.
#' @param epoch The epoch, counted from 1; several of them; or an R function of the epoch that gives
#'   `TRUE` where the rate is to be replaced and `FALSE` elsewhere.
#' @param restart Whether a schedule begins with its step 0, or goes on from the optimizer's step.
#' @param verbose 0 is silent, 1 prints a line for each event.
#' @return An R6 object of class `ResetLearningRate`, to be put in the list `callbacks` of `fit()`.
#' @references Ilya Loshchilov and Frank Hutter (2017). SGDR: Stochastic Gradient Descent with Warm
#'   Restarts. International Conference on Learning Representations. arXiv:1608.03983.
#' @seealso [reset_learning_rate()], [current_learning_rate()]
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' # With keras3: learning_rate_schedule_cosine_decay(0.1, decay_steps = 6)
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.1), "mse")
#' x <- matrix(seq(-2, 2, length.out = 64))
#' cosine <- keras$optimizers$schedules$CosineDecay(0.1, decay_steps = 6L)
#' restarts <- callback_reset_learning_rate(cosine, epoch = c(1, 4))
#' losses <- callback_loss_history()
#' history <- model$fit(x, 3 * x, epochs = 6L, verbose = 0L, callbacks = list(restarts, losses))
#' restarts
#' losses$batches[c("epoch", "batch", "learning_rate")]
#' @export
callback_reset_learning_rate <- function(learning_rate, epoch, restart = TRUE, verbose = 0) {
  ResetLearningRate$new(learning_rate, epoch, restart, verbose)
}

#' @rdname callback_reset_learning_rate
#' @format `ResetLearningRate` is an R6 class generator; `$new()` takes the same arguments.
#' @export
ResetLearningRate <- R6Class("ResetLearningRate",
  inherit = RateReset,
  public = list(
    initialize = function(learning_rate, epoch, restart = TRUE, verbose = 0) {
      super$initialize("ResetLearningRate", as.list(environment()))
    }
  )
)
