#' Summarise a guard or a loss history
#'
#' `summary()` of a guard tells how often it went back, what it took as the best, and which learning
#' rates it left. That of a [LossHistory][callback_loss_history] sets the batches' own losses beside
#' the loss that Keras has for each epoch.
#'
#' @param object A guard, a `LossHistory`, or a run of [read_history()].
#' @param x What `summary()` returned.
#' @param ... Not used.
#' @return For a guard a list of class `summary.kguard_guard` with `class`, `monitor`, `best`,
#'   `best_epoch`, `n_reverts`, `reverted` (the epochs it took back), `learning_rates` (in force after
#'   each event) and `stopped`. For a history a data frame of class `summary.kguard_history`, a row an
#'   epoch: `epoch`; the number of `batches` recorded; of the batches' own losses the `mean` of all by
#'   batch size, the `worst` finite one recorded, the `last` of all, and how many recorded are
#'   `not_finite`; the `loss` that was logged for the epoch, what the `console` showed of it, and what
#'   `evaluate()` gave where the history has `data`; whether all own losses are known as `exact`; and
#'   whether a guard `reverted` the epoch. `NA` or `NaN` is what there was not. `print()` leaves out
#'   columns that say nothing.
#' @examplesIf reticulate::py_module_available("keras")
#' guard <- callback_revert_on_loss_increase()
#' summary(guard)
#' @name summary.kguard_guard
#' @export
summary.kguard_guard <- function(object, ...) {
  events <- object$events
  structure(
    class = "summary.kguard_guard",
    list(
      class = class_of(object),
      monitor = object$monitor,
      best = object$best,
      best_epoch = object$best_epoch,
      n_reverts = object$n_reverts,
      reverted = reverted_epochs(object),
      learning_rates = events$learning_rate,
      stopped = "stop" %in% events$action
    )
  )
}

#' @rdname summary.kguard_guard
#' @export
print.summary.kguard_guard <- function(x, ...) {
  shown <- utils::head(x$reverted, 12L)
  more <- length(x$reverted) - length(shown)
  rates <- x$learning_rates[is.finite(x$learning_rates)]
  lines <- c(
    sprintf("%s on %s", x$class, x$monitor),
    sprintf("  best         %s", best_in_words(x$best, x$best_epoch)),
    sprintf("  reverts      %d", x$n_reverts),
    if (length(shown)) {
      sprintf("  taken back   epoch %s%s", toString(shown), if (more) paste(" and", more, "more") else "")
    },
    if (length(rates)) sprintf("  rate left    %.4g", rates[[length(rates)]]),
    if (x$stopped) "  it stopped training"
  )
  cat(lines, sep = "\n")
  invisible(x)
}

best_in_words <- function(best, epoch) {
  if (is.na(epoch)) "none yet" else sprintf("%.4g in epoch %d", best, epoch)
}

#' @rdname summary.kguard_guard
#' @export
summary.kguard_history <- function(object, ...) {
  batches <- object$batches
  epochs <- object$epochs
  found <- object$explain()$quantities
  events <- object$events
  numbers <- sort(unique(c(batches$epoch, epochs$epoch)))
  own <- function(f) vapply(numbers, function(epoch) f(batches$loss[batches$epoch == epoch]), 0)
  of_all <- function(name) found[[name]][match(numbers, found$epoch)]
  logged <- epochs$loss[match(numbers, epochs$epoch)]
  table <- data.frame(
    epoch = numbers,
    batches = as.integer(own(length)),
    mean = of_all("weighted_mean"),
    worst = own(highest),
    last = of_all("last_batch"),
    not_finite = as.integer(own(function(losses) sum(!is.finite(losses)))),
    loss = if (is.null(logged)) rep(NA_real_, length(numbers)) else logged,
    console = of_all("console"),
    evaluate = of_all("evaluate"),
    exact = of_all("exact"),
    reverted = numbers %in% events$epoch[events$action == "revert"]
  )
  structure(table, class = c("summary.kguard_history", "data.frame"))
}

highest <- function(losses) {
  finite <- losses[is.finite(losses)]
  if (length(finite)) max(finite) else NA_real_
}

#' @rdname summary.kguard_guard
#' @export
print.summary.kguard_history <- function(x, ...) {
  cat("mean, worst and last of the batches' own losses, and the loss of the epoch as Keras has it\n")
  shown <- structure(x, class = "data.frame")
  says_nothing <- c(
    console = all(is.na(x$console)), evaluate = all(is.na(x$evaluate)),
    exact = isTRUE(all(x$exact)), reverted = !any(x$reverted)
  )
  shown <- shown[setdiff(names(shown), names(which(says_nothing)))]
  print(shown, row.names = FALSE, digits = 4L)
  invisible(x)
}
