#' Record what the loss really was
#'
#' `callback_loss_history()` makes a callback for `fit()` that records each batch's own loss, what was
#' logged for it, and each epoch's metrics. What Keras logs after batch `b` of an epoch is the mean
#' since the epoch began, weighted by the batch sizes `n`,
#'
#' `logged[b] = sum(n[1:b] * loss[1:b]) / sum(n[1:b])`
#'
#' which hides a late spike. Here `loss[b]` itself is recorded, regularisation and weights included,
#' as the compiled step computed it: measured before that batch's update.
#'
#' A model whose own `train_step` does not update its loss tracker hides the loss; what it returned
#' is then recorded, with `exact` `FALSE`. Each `fit()` starts a new record.
#'
#' @param path `NULL`, or the name of a CSV file to write while training runs, with the columns
#'   `run`, `epoch`, `batch` (empty for a whole epoch), `name`, `value` and `exact`, in which epochs
#'   and batches count from 0. A file that is there is appended to; its runs count from 0.
#' @param every Record every so many batches of an epoch, beginning with its first; whole epochs are
#'   always recorded.
#' @return An R6 object of class `LossHistory`, to be put in the list `callbacks` of `fit()`, with
#' \describe{
#'   \item{`losses`}{Numeric vector of each recorded batch's own loss.}
#'   \item{`batches`}{Data frame of `epoch`, `batch`, `loss`, `logged_loss`, `exact`.}
#'   \item{`epochs`}{Data frame of `epoch` and each logged metric.}
#'   \item{`batches_per_epoch`}{The number of batches in the longest epoch so far.}
#' }
#' `plot()` draws it and `as.data.frame()` gives the batches.
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.1), "mse")
#' x <- matrix(seq(-2, 2, length.out = 64))
#' losses <- callback_loss_history()
#' history <- model$fit(x, 3 * x, epochs = 3L, verbose = 0L, callbacks = list(losses))
#' head(losses$batches)
#' summary(losses)
#' @export
callback_loss_history <- function(path = NULL, every = 1) {
  LossHistory$new(path, every)
}

#' @rdname callback_loss_history
#' @format `LossHistory` is an R6 class generator; `$new()` takes the same arguments.
#' @export
LossHistory <- R6Class("LossHistory",
  inherit = RecordedHistory,
  public = list(
    initialize = function(path = NULL, every = 1) {
      super$initialize("LossHistory", list(path = path, every = every))
    }
  )
)

# Carries the S3 class that the methods below belong to: users call classes of their own LossHistory.
RecordedHistory <- R6Class("kguard_history",
  inherit = CoreCallback,
  public = list(
    print = function(...) {
      epochs <- self$epochs
      cat(sprintf("<%s> of %d batches in %d epochs\n", class(self)[1L], length(self$losses), nrow(epochs)))
      if (nrow(epochs)) print(tail(epochs, 3L), row.names = FALSE)
      invisible(self)
    }
  ),
  active = list(
    losses = function(value) {
      if (!missing(value)) stop_read_only("losses")
      as.numeric(private$.kguard_python()$losses)
    },
    batches_per_epoch = function(value) {
      if (!missing(value)) stop_read_only("batches_per_epoch")
      private$.kguard_python()$batches_per_epoch
    },
    batches = function(value) {
      if (!missing(value)) stop_read_only("batches")
      columns_frame(bridge()$columns(private$.kguard_python(), "batches"))
    },
    epochs = function(value) {
      if (!missing(value)) stop_read_only("epochs")
      columns_frame(bridge()$columns(private$.kguard_python(), "epochs"))
    }
  )
)

columns_frame <- function(columns) {
  frame <- as.data.frame(lapply(columns, as.vector), optional = TRUE)
  names(frame) <- names(columns)
  frame
}

#' @param x A `LossHistory`.
#' @param row.names,optional Not used; there for the generic.
#' @param ... Not used.
#' @rdname callback_loss_history
#' @export
as.data.frame.kguard_history <- function(x, row.names = NULL, optional = FALSE, ...) {
  x$batches
}
