#' Why the losses of an epoch differ
#'
#' What `explain()` of a [`LossHistory`][callback_loss_history], or of a run that [read_history()] read,
#' returns: for each epoch the losses that people see for it side by side, and each difference between
#' two of them attributed to its causes, in amounts that add up. Losses and amounts are in units of
#' the loss.
#'
#' With `l` the batches' own losses of an epoch, `n` the batches' sizes in rows, `m` Keras' running mean
#' as the epoch ended and `w = sum(n * l) / sum(n)`,
#'
#' `history - last batch = (history - m) + (m - w) + (w - mean(l)) + (mean(l) - tail(l, 1))`
#'
#' which are: logs that a callback changed; rounding to float32, or metrics that were reset
#' within the epoch; batches of unequal size; and a mean that is compared with one value.
#' `history - evaluate` goes on from `w` to the loss in training mode with the epoch's last weights
#' (weights moving; with dropout also what other draws make, and with BatchNorm what batches of other
#' rows make), from there to the moving statistics of BatchNorm, and from there to the loss without
#' dropout. `console - history` is rounding to the digits shown and, with Keras up to 3.14.1, a
#' progress bar that averaged the running means again.
#'
#' `print()` writes it as text, `format()` returns that text, a line an element, and `as.data.frame()`
#' has it as numbers.
#'
#' @param x What `explain()` returned.
#' @param epochs Which epochs to show; by default all.
#' @param row.names,optional Not used; there for the generic.
#' @param what `"parts"` or `"quantities"`.
#' @param ... Not used.
#' @return `explain()` returns a list of class `kguard_explanation` with two plain data frames.
#' \describe{
#'   \item{`quantities`}{A row an epoch: `epoch`; `console`, as it was shown last, rounded;
#'     `console_running`, as it was shown after the last batch; `history`, what the history holds;
#'     `weighted_mean` (by batch size) and `plain_mean` of the batches' own losses; `last_batch`, the
#'     last one's; with `data` also `evaluate`, at the epoch's end, and `evaluate_data`, of it without
#'     regularisation; and `exact`, whether all the batches' own losses are known. `NaN` is what there
#'     was not.}
#'   \item{`parts`}{A row a cause: `epoch`; `of` and `minus`, the names of the two quantities;
#'     `cause`; and `amount`. The amounts of one difference add up to it.}
#' }
#' `format()` returns a character vector, `as.data.frame()` the data frame that `what` names, and
#' `print()` returns `x` invisibly.
#' @section Errors:
#' `epochs` or `what` that there are not are refused with a condition of class `kguard_option_error`.
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.1), "mse")
#' x <- matrix(seq(-2, 2, length.out = 50))
#' losses <- callback_loss_history(data = list(x, 3 * x))
#' history <- model$fit(x, 3 * x, epochs = 2L, verbose = 2L, callbacks = list(losses))
#' explanation <- losses$explain()
#' print(explanation, epochs = 2)
#' as.data.frame(explanation)
#' explanation$quantities
#' @name kguard_explanation
NULL

explanation <- function(found) {
  parts <- data.frame(
    epoch = as.integer(unlist(found$parts$epoch)),
    of = as.character(unlist(found$parts$of)),
    minus = as.character(unlist(found$parts$minus)),
    cause = as.character(unlist(found$parts$cause)),
    amount = as.numeric(unlist(found$parts$amount))
  )
  structure(
    class = "kguard_explanation",
    list(
      quantities = columns_frame(found$quantities), parts = parts,
      text = as.character(unlist(found$text))
    )
  )
}

#' @rdname kguard_explanation
#' @export
format.kguard_explanation <- function(x, epochs = NULL, ...) {
  known <- x$quantities$epoch
  if (is.null(epochs)) epochs <- known
  if (!is.numeric(epochs) || !all(epochs %in% known)) {
    stop_option("epochs", "NULL or numbers of epochs that there are", epochs)
  }
  if (length(known) == 0L) {
    return("no epoch yet")
  }
  lines <- strsplit(x$text[match(epochs, known)], "\n", fixed = TRUE)
  utils::head(unlist(lapply(lines, c, "")), -1L)
}

#' @rdname kguard_explanation
#' @export
print.kguard_explanation <- function(x, epochs = NULL, ...) {
  cat(format(x, epochs), sep = "\n")
  invisible(x)
}

#' @rdname kguard_explanation
#' @export
as.data.frame.kguard_explanation <- function(x, row.names = NULL, optional = FALSE, ...,
                                             what = "parts") {
  if (!is.character(what) || length(what) != 1L || !what %in% c("parts", "quantities")) {
    stop_option("what", "\"parts\" or \"quantities\"", what)
  }
  x[[what]]
}
