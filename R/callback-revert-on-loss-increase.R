#' Take back an epoch that made the model worse
#'
#' `callback_revert_on_loss_increase()` makes a callback for `fit()`. At the end of each epoch it
#' compares the monitored value with a reference value `r`. Minimising, the epoch is worse if
#'
#' `!(value <= r + max(tolerance, relative_tolerance * abs(r)))`
#'
#' and the mirror image of it when maximising, so a `NaN` is worse. A worse epoch is undone: the
#' whole training state that the last accepted epoch ended with is put back. A value that is not
#' finite, or weights that are not, count as worse at once, whatever `tolerance` and `patience`, also
#' in the first epoch, which goes back to the initial state.
#'
#' @section What is restored:
#' The model's variables (weights, BatchNorm statistics, seed generators) and, with
#' `restore_optimizer`, the optimizer's (moments, iterations, loss scale) except the learning rate.
#' Not restored is the order of the data, nor, unless `restore_random_state`, the global random state
#' of Python, NumPy and PyTorch; R's own is left alone.
#'
#' One copy of that state is kept, on the device. TensorFlow shares its memory with the model until
#' the next step. There the smaller variables, up to 8 MiB, are checked at the epoch's end, and the
#' larger ones beside the next epoch's first step; if one of those is not finite, the epoch is taken
#' back before the second step, or where there is none, at the end.
#'
#' Where several devices train one model, all take the same decision and put back what each held.
#'
#' @section Beside other callbacks:
#' Put the guards first in the list. Those behind them then see the model as the guards leave it,
#' while the history keeps the epoch's true values:
#' * early stopping counts a reverted epoch as one without improvement;
#' * a model checkpoint saves the state that was put back; one that monitors another quantity than the
#'   guard goes before it, or it may file that state under the reverted epoch's value;
#' * a reduction of the learning rate on a plateau and `lr_factor` both cut it, one after the other; a
#'   learning-rate scheduler sets it anew at each epoch, whatever the guard did;
#' * termination on NaN ends training within the epoch, which the guard then takes back, so that
#'   training ends with the good state in place.
#'
#' When several guards are in one list, the first one that goes back settles the epoch: those behind
#' it leave it unjudged, those before it do not count it as accepted.
#'
#' @section What the object knows:
#' \describe{
#'   \item{`events`}{A data frame, a row for each thing it did: `epoch`, `batch`, `action`, `monitor`,
#'     `value`, `reference`, `restored_from` (0 is the initial state), `learning_rate` in force
#'     afterwards, and `reason`.}
#'   \item{`n_reverts`}{How often a state was put back because training had gone bad.}
#'   \item{`best`, `best_epoch`}{The best value so far and its epoch; `NA` before there is one.}
#'   \item{`get_config()`}{A named list of its options.}
#' }
#' It starts afresh with each `fit()`.
#'
#' @param monitor Name of the quantity in the epoch's logs.
#' @param mode `"min"`, `"max"`, or `"auto"`, which infers it as Keras does.
#' @param tolerance How much worse than the reference a value may be, in units of the quantity; at
#'   least 0.
#' @param relative_tolerance The same as a fraction of the reference's absolute value; the larger of
#'   the two counts.
#' @param reference `"best"`, the best value so far, which moves only on strict improvement, so that
#'   a series of small rises is caught; or `"previous"`, the last accepted value.
#' @param patience Number of worse epochs in a row that are let pass before one is taken back. An
#'   accepted or a reverted epoch starts the count anew.
#' @param restore_optimizer Whether the optimizer's state is put back too.
#' @param restore_random_state Whether the global random state of Python, NumPy and PyTorch is put
#'   back too, which dropout without a seed draws from on PyTorch, and the order of the data may.
#' @param lr_factor After a revert the learning rate is multiplied by this, above 0 and at most 1; a
#'   schedule is scaled from then on.
#' @param min_lr The learning rate is not cut below this.
#' @param max_reverts After that many reverts training stops, with the good state in place. `NULL`
#'   means no limit.
#' @param start_from_epoch Number of epochs at the start that are accepted unjudged, unless they are
#'   not finite.
#' @param probe `NULL`, or `list(x, y)` or `list(x, y, sample_weight)` of arrays, matrices, numeric
#'   data frames or vectors with equally many rows, without `NaN`. The value is then the model's loss
#'   on these data with the weights as they stand at the epoch's end, which the training loss does not
#'   describe.
#' @param verbose 0 is silent, 1 prints a line for each event.
#'
#' @return An R6 object of class `RevertOnLossIncrease`, to be put in the list `callbacks` of `fit()`.
#'   `RevertOnLossIncrease` is its class; derive from it to override hooks, in which
#'   `super$on_epoch_end(epoch, logs)` runs the guard.
#'
#' @section Errors:
#' An option that cannot be used is refused at once, with a condition of class `kguard_option_error`
#' that names the argument, what it must be and what it was; a probe that does not fit the model at
#' the start of `fit()`. A quantity that is missing from the logs stops training with an error that
#' names the metrics there are.
#'
#' @seealso [callback_revert_to_best_on_increase()], [callback_restore_best()],
#'   [callback_loss_history()]
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' # With keras3: model |> fit(x, 3 * x, epochs = 8, callbacks = list(guard))
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.5), "mse")
#' x <- matrix(seq(-2, 2, length.out = 64))
#' guard <- callback_revert_on_loss_increase(lr_factor = 0.5, verbose = 1)
#' history <- model$fit(x, 3 * x, epochs = 8L, verbose = 0L, callbacks = list(guard))
#' guard$events
#' guard
#' @export
callback_revert_on_loss_increase <- function(
    monitor = "loss", mode = "auto", tolerance = 0, relative_tolerance = 0, reference = "best",
    patience = 0, restore_optimizer = TRUE, restore_random_state = FALSE, lr_factor = 1,
    min_lr = 0, max_reverts = NULL, start_from_epoch = 0, probe = NULL, verbose = 0) {
  do.call(RevertOnLossIncrease$new, as.list(environment()))
}

#' @rdname callback_revert_on_loss_increase
#' @format `RevertOnLossIncrease` is an R6 class generator; `$new()` takes the same arguments.
#' @export
RevertOnLossIncrease <- R6Class("RevertOnLossIncrease",
  inherit = Guard,
  public = list(
    initialize = function(monitor = "loss", mode = "auto", tolerance = 0, relative_tolerance = 0,
                          reference = "best", patience = 0, restore_optimizer = TRUE,
                          restore_random_state = FALSE, lr_factor = 1, min_lr = 0,
                          max_reverts = NULL, start_from_epoch = 0, probe = NULL,
                          verbose = 0) {
      super$initialize("RevertOnLossIncrease", as.list(environment()))
    }
  )
)
