#' Plot what a guard did
#'
#' Marks the epochs that a guard took back in the plot of the history that `fit()` returned: its own
#' plot in keras3 and keras, lines of the metrics otherwise. Without a history the events alone are
#' drawn, the value that each judged epoch had and the reference that it was compared with.
#'
#' @param x A guard that has been in a `fit()`.
#' @param history `NULL`, or what that `fit()` returned: a `keras_training_history`, or the `History` of
#'   a Keras model used through reticulate.
#' @param ... For a `keras_training_history`, passed on to its own plot method.
#' @return A ggplot where ggplot2 is installed, otherwise `x` invisibly.
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.5), "mse")
#' x <- matrix(seq(-2, 2, length.out = 64))
#' guard <- callback_revert_on_loss_increase(lr_factor = 0.5)
#' history <- model$fit(x, 3 * x, epochs = 8L, verbose = 0L, callbacks = list(guard))
#' plot(guard, history)
#' @export
plot.kguard_guard <- function(x, history = NULL, ...) {
  reverts <- reverted_epochs(x)
  if (inherits(history, "keras_training_history")) {
    return(over_its_own_plot(plot(history, ...), reverts, invisible(x)))
  }
  curves <- if (is.null(history)) event_curves(x) else history_curves(history)
  plot_curves(curves, reverts, "Without a history only the guard's events are drawn", invisible(x))
}

# Lines over the epochs, as a ggplot where there is ggplot2.
plot_curves <- function(curves, reverts, hint, otherwise) {
  if (length(shown_values(curves)) == 0L) {
    stop_kguard("kguard_state_error", "there is nothing to plot: no value is finite. ", hint)
  }
  if (has_ggplot2()) {
    return(ggplot_curves(curves, reverts))
  }
  base_plot_curves(curves, reverts)
  otherwise
}

# keras3's method returns a ggplot, or draws with base graphics where there is no ggplot2.
over_its_own_plot <- function(plot, reverts, otherwise) {
  if (inherits(plot, "ggplot")) {
    return(plot + revert_lines(reverts) + ggplot2::labs(caption = revert_caption(reverts)))
  }
  graphics::abline(v = reverts, lty = 2L, col = history_colours[["reverted"]])
  otherwise
}

revert_caption <- function(reverts) if (length(reverts)) "dashed: epoch taken back"

revert_lines <- function(reverts) {
  at <- NULL # a column, for R CMD check
  ggplot2::geom_vline(
    data = data.frame(at = as.numeric(reverts)), mapping = ggplot2::aes(xintercept = at),
    linetype = "dashed", colour = history_colours[["reverted"]]
  )
}

event_curves <- function(guard) {
  events <- guard$events
  rows <- rbind(
    data.frame(epoch = events$epoch, value = events$value, what = events$monitor),
    data.frame(epoch = events$epoch, value = events$reference, what = rep("reference", nrow(events)))
  )
  rows[is.finite(rows$value), ]
}

history_curves <- function(history) {
  if (!any(grepl("[.]History$", class(history)))) {
    stop_option("history", "NULL or what fit() returned", history)
  }
  metrics <- history$history
  curve <- function(name) {
    values <- as.numeric(unlist(metrics[[name]]))
    data.frame(epoch = seq_along(values), value = values, what = rep(name, length(values)))
  }
  with_gaps(do.call(rbind, lapply(names(metrics), curve)))
}

with_gaps <- function(rows) {
  rows$value[!is.finite(rows$value)] <- NA # a gap in the line
  rows
}

shown_values <- function(curves) curves$value[!is.na(curves$value)]

ggplot_curves <- function(curves, reverts) {
  epoch <- value <- what <- NULL # columns, for R CMD check
  aes <- ggplot2::aes
  plot <- ggplot2::ggplot(curves, aes(epoch, value, colour = what)) +
    revert_lines(reverts) +
    ggplot2::geom_line(na.rm = TRUE) +
    ggplot2::geom_point(size = 1.4, na.rm = TRUE) +
    ggplot2::labs(x = "epoch", y = NULL, colour = NULL, caption = revert_caption(reverts)) +
    ggplot2::theme_minimal()
  if (spans_magnitudes(shown_values(curves))) plot + ggplot2::scale_y_log10() else plot
}

base_plot_curves <- function(curves, reverts) {
  names <- unique(curves$what)
  colours <- stats::setNames(grDevices::hcl.colors(max(2L, length(names)), "Dark 3")[seq_along(names)], names)
  graphics::plot(
    curves$epoch, curves$value,
    type = "n", xlab = "epoch", ylab = "", bty = "n",
    log = if (spans_magnitudes(shown_values(curves))) "y" else ""
  )
  graphics::abline(v = reverts, col = history_colours[["reverted"]], lty = 2L)
  for (name in names) {
    line <- curves[curves$what == name, ]
    graphics::lines(line$epoch, line$value, type = "o", pch = 16L, col = colours[[name]])
  }
  graphics::legend("topright", names, col = colours, lty = 1L, bty = "n")
}
