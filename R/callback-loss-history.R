#' Record what the loss really was
#'
#' `callback_loss_history()` makes a callback for `fit()` that records each batch's own loss, what was
#' logged for it, and each epoch's metrics, and that explains how they differ. What Keras logs after
#' batch `b` of an epoch is the mean since the epoch began, weighted by the batch sizes `n`,
#'
#' `logged[b] = sum(n[1:b] * loss[1:b]) / sum(n[1:b])`
#'
#' which hides a late spike. Here `loss[b]` itself is recorded, regularisation and weights included,
#' as the compiled step computed it: measured before that batch's update.
#'
#' Each `fit()` starts a new record. Put the object behind the guards in the list `callbacks`, and the
#' record holds what they did.
#'
#' A model whose own `train_step` does not update its loss tracker hides the loss. If it keeps a `Mean`
#' named `"loss"`, differences of its total are recorded, with `exact` `FALSE` and the bound on their
#' error; if not, what was logged, with an infinite bound. A warning says so.
#'
#' @section What the object knows:
#' Epochs and batches count from 1. The data frames are plain ones: no list columns, no attributes.
#' \describe{
#'   \item{`losses`}{Numeric vector of each recorded batch's own loss.}
#'   \item{`batches`}{Data frame, a row a batch: `epoch` and `batch`; `loss`, its own; `logged_loss`,
#'     the running mean that was logged after it; `console_loss`, what the progress bar made of that;
#'     `learning_rate`, the one that its step used; `seconds` since the fit began; `size` in rows;
#'     `exact`, whether `loss` is the very number that the step computed, and if not, `error_bound`:
#'     `loss` is off by at most so much. Other metrics follow as `logged_<name>`, running means too.
#'     `NaN`, or a size of 0, is what there was not.}
#'   \item{`epochs`}{Data frame, a row an epoch: `epoch` and each metric as Keras logged it, `NaN`
#'     where it is missing.}
#'   \item{`events`}{Data frame of what the guards in the same fit did, as a guard's own `events`.}
#'   \item{`batches_per_epoch`}{The number of batches in the longest epoch so far.}
#'   \item{`explain()`}{Why console, history, batch losses and `evaluate()` differ, for each epoch: a
#'     [kguard_explanation].}
#' }
#' `plot()` draws it, `summary()` has a row an epoch, and `as.data.frame()` gives the batches. The
#' fields cannot be assigned.
#'
#' The first recording of a model has Keras compile its step, once more if it was trained before.
#' Random operations of TensorFlow's own (`tf$random`) start over with that; those of Keras go on.
#'
#' @section Errors:
#' An option that cannot be used is refused at once, with a condition of class `kguard_option_error`
#' that names the argument, what it must be and what it was. `fit()` refuses a file at `path` that
#' holds something else, `data` that the model cannot be evaluated on, and TensorFlow strategies with
#' several replicas.
#'
#' @param path `NULL`, or the name of a `.csv` or `.sqlite` file to write while training runs, a row a
#'   value, with the columns `run`, `epoch`, `batch` (empty for a whole epoch), `name`, `value` and
#'   `exact`, in which runs, epochs and batches count from 0. A file that is there is appended to. A
#'   process that is killed loses at most the batches of the 50 ms before the one that it was in.
#'   [read_history()] reads it.
#' @param every Record every so many batches of an epoch, beginning with its first; epochs, and what
#'   `explain()` says of them, are always those of all batches.
#' @param data `NULL`, or `list(x, y)` or `list(x, y, sample_weight)` of arrays, matrices, numeric data
#'   frames or vectors with equally many rows, usually the training data: at the end of each epoch the
#'   model is evaluated on it, and run on it as in training, so that `explain()` can say how the
#'   history and `evaluate()` differ. Where `fit()` has class weights, give them as sample weights.
#'   Put this callback before the guards: what stands behind one measures what the guard put back. Costs
#'   four forward passes.
#' @param log_dir `NULL`, or a folder for TensorBoard, which gets batch losses and epochs as scalars
#'   and the events of guards as text; needs the Python package `tensorboard`.
#' @return An R6 object of class `LossHistory`, to be put in the list `callbacks` of `fit()`.
#' @seealso [read_history()], [kguard_explanation], [plot.kguard_history()],
#'   [callback_revert_on_loss_increase()]
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.1), "mse")
#' x <- matrix(seq(-2, 2, length.out = 64))
#' losses <- callback_loss_history(data = list(x, 3 * x))
#' history <- model$fit(x, 3 * x, epochs = 3L, verbose = 0L, callbacks = list(losses))
#' head(losses$batches)
#' summary(losses)
#' print(losses$explain(), epochs = 3)
#' @export
callback_loss_history <- function(path = NULL, every = 1, data = NULL, log_dir = NULL) {
  LossHistory$new(path, every, data, log_dir)
}

#' @rdname callback_loss_history
#' @format `LossHistory` is an R6 class generator; `$new()` takes the same arguments.
#' @export
LossHistory <- R6Class("LossHistory",
  inherit = RecordedHistory,
  public = list(
    initialize = function(path = NULL, every = 1, data = NULL, log_dir = NULL) {
      super$initialize("LossHistory", as.list(environment()))
    }
  )
)

#' @param x A `LossHistory`.
#' @param row.names,optional Not used; there for the generic.
#' @param ... Not used.
#' @rdname callback_loss_history
#' @export
as.data.frame.kguard_history <- function(x, row.names = NULL, optional = FALSE, ...) {
  x$batches
}
