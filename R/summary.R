#' Summarise a guard or a loss history
#'
#' `summary()` of a guard tells how often it went back, what it took as the best, and which learning
#' rates it left. That of a [LossHistory][callback_loss_history] sets the batches' own losses beside
#' the loss that was logged for each epoch.
#'
#' @param object A guard or a `LossHistory`.
#' @param x What `summary()` returned.
#' @param ... Not used.
#' @return For a guard a list of class `summary.kguard_guard` with `class`, `monitor`, `best`,
#'   `best_epoch`, `n_reverts`, `reverted` (the epochs it took back), `learning_rates` (in force after
#'   each event) and `stopped`. For a history a data frame of class `summary.kguard_history`, a row an
#'   epoch: `epoch`, the number of `batches` recorded, of their own losses the `mean`, `worst` and
#'   `last`, the number `not_finite`, and the `loss` that was logged for the epoch.
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
  numbers <- sort(unique(c(batches$epoch, epochs$epoch)))
  rows <- lapply(numbers, function(epoch) {
    losses <- batches$loss[batches$epoch == epoch]
    finite <- losses[is.finite(losses)]
    data.frame(
      epoch = epoch,
      batches = length(losses),
      mean = if (length(finite)) mean(finite) else NA_real_,
      worst = if (length(finite)) max(finite) else NA_real_,
      last = if (length(losses)) losses[[length(losses)]] else NA_real_,
      not_finite = sum(!is.finite(losses))
    )
  })
  empty <- data.frame(
    epoch = integer(), batches = integer(), mean = numeric(), worst = numeric(), last = numeric(),
    not_finite = integer()
  )
  table <- do.call(rbind, c(list(empty), rows))
  logged <- epochs$loss[match(table$epoch, epochs$epoch)]
  table$loss <- if (is.null(logged)) rep(NA_real_, nrow(table)) else logged
  structure(table, class = c("summary.kguard_history", "data.frame"))
}

#' @rdname summary.kguard_guard
#' @export
print.summary.kguard_history <- function(x, ...) {
  cat("each batch's own loss, and the loss that was logged for the epoch\n")
  print(structure(x, class = "data.frame"), row.names = FALSE, digits = 4L)
  invisible(x)
}
