#' Plot a loss history
#'
#' Draws each batch's own loss, the losses of the epochs, and the epochs that a guard took back. With
#' ggplot2 installed the result is a ggplot, otherwise base graphics are used. The loss is drawn on a
#' logarithmic scale where it is positive and spans more than two orders of magnitude. Batches whose
#' loss is not finite, or more than ten times that of the worst finite epoch, are marked along the top,
#' so that a run which exploded can still be read.
#'
#' @param x A [LossHistory][callback_loss_history] that has been in a `fit()`.
#' @param guard `NULL`, or a guard of the same `fit()`.
#' @param ... Not used.
#' @return A ggplot, or `x` invisibly where base graphics are used.
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.5), "mse")
#' x <- matrix(seq(-2, 2, length.out = 64))
#' guard <- callback_revert_on_loss_increase(lr_factor = 0.5)
#' losses <- callback_loss_history()
#' history <- model$fit(x, 3 * x, epochs = 8L, verbose = 0L, callbacks = list(guard, losses))
#' plot(losses, guard)
#' @export
plot.kguard_history <- function(x, guard = NULL, ...) {
  parts <- plot_parts(x, guard)
  if (has_ggplot2()) {
    return(ggplot_history(parts))
  }
  base_plot_history(parts)
  invisible(x)
}

has_ggplot2 <- function() requireNamespace("ggplot2", quietly = TRUE)

# What is to be drawn, on an axis on which epoch `e` ends at `e`.
plot_parts <- function(history, guard) {
  if (!is.null(guard) && !inherits(guard, "kguard_guard")) {
    stop_option("guard", "NULL or a guard", guard)
  }
  batches <- history$batches
  if (nrow(batches) == 0L) {
    stop_kguard("kguard_state_error", "there is nothing to plot: the history has not been in a fit")
  }
  epochs <- epoch_curves(history$epochs)
  epochs$loss[!is.finite(epochs$loss)] <- NA # a gap in the line
  batches$time <- batches$epoch - 1 + batches$batch / history$batches_per_epoch
  top <- highest_shown(epochs$loss)
  above <- is.finite(batches$loss) & batches$loss > top
  bad <- !is.finite(batches$loss)
  marked <- bad & batches$exact # where no loss was logged there is nothing to mark
  marks <- rbind(
    data.frame(time = batches$time[marked], what = rep("not finite", sum(marked))),
    data.frame(time = batches$time[above], what = rep("off the scale", sum(above)))
  )
  batches$loss[bad | above] <- NA
  shown <- c(batches$loss, epochs$loss[is.finite(epochs$loss)])
  list(
    batches = batches, epochs = epochs, marks = thinned(marks),
    reverts = if (is.null(guard)) integer() else reverted_epochs(guard),
    log = spans_magnitudes(shown[!is.na(shown)])
  )
}

# The losses of the epochs, a row a value.
epoch_curves <- function(epochs) {
  names <- intersect(c("loss", "val_loss"), names(epochs))
  rows <- lapply(names, function(name) {
    data.frame(time = epochs$epoch, loss = epochs[[name]], what = rep(name, nrow(epochs)))
  })
  do.call(rbind, c(list(data.frame(time = numeric(), loss = numeric(), what = character())), rows))
}

highest_shown <- function(epoch_losses) {
  finite <- epoch_losses[is.finite(epoch_losses)]
  if (length(finite) && max(finite) > 0) 10 * max(finite) else Inf
}

spans_magnitudes <- function(values) {
  length(values) > 0L && min(values) > 0 && max(values) > 100 * min(values)
}

# One mark of a kind in each 75th of the axis: more would be a bar.
thinned <- function(marks) {
  bin <- floor(marks$time * 75 / max(1, marks$time))
  marks[!duplicated(data.frame(bin, marks$what)), ]
}

reverted_epochs <- function(guard) {
  events <- guard$events
  unique(events$epoch[events$action == "revert"])
}

history_colours <- c(loss = "#1b6ca8", val_loss = "#d1701f", reverted = "#b3261e")
mark_shapes <- c("not finite" = 4L, "off the scale" = 2L)

ggplot_history <- function(parts) {
  aes <- ggplot2::aes
  time <- loss <- what <- NULL # columns, for R CMD check
  plot <- ggplot2::ggplot(mapping = aes(time, loss)) +
    revert_lines(parts$reverts) +
    ggplot2::geom_line(data = parts$batches, colour = "grey65", linewidth = 0.3, na.rm = TRUE) +
    ggplot2::geom_line(data = parts$epochs, mapping = aes(colour = what), na.rm = TRUE) +
    ggplot2::geom_point(
      data = parts$epochs[is.finite(parts$epochs$loss), ], mapping = aes(colour = what), size = 1.4
    ) +
    ggplot2::geom_point(
      data = cbind(parts$marks, loss = rep(Inf, nrow(parts$marks))), mapping = aes(shape = what),
      colour = history_colours[["reverted"]]
    ) +
    ggplot2::scale_colour_manual(values = history_colours[c("loss", "val_loss")], name = NULL) +
    ggplot2::scale_shape_manual(values = mark_shapes, name = NULL) +
    ggplot2::labs(
      x = "epoch", y = "loss",
      caption = paste0(
        "grey: each batch's own loss",
        if (length(parts$reverts)) "; dashed: epoch taken back"
      )
    ) +
    ggplot2::coord_cartesian(clip = "off") +
    ggplot2::theme_minimal()
  if (parts$log) plot + ggplot2::scale_y_log10() else plot
}

base_plot_history <- function(parts) {
  batches <- parts$batches
  graphics::plot(
    batches$time, batches$loss,
    type = "l", col = "grey65", xlab = "epoch", ylab = "loss", bty = "n",
    log = if (parts$log) "y" else "",
    ylim = range(batches$loss, parts$epochs$loss, finite = TRUE)
  )
  graphics::abline(v = parts$reverts, col = history_colours[["reverted"]], lty = 2L)
  for (what in unique(parts$epochs$what)) {
    line <- parts$epochs[parts$epochs$what == what, ]
    graphics::lines(line$time, line$loss, type = "o", pch = 16L, col = history_colours[[what]])
  }
  for (what in unique(parts$marks$what)) {
    times <- parts$marks$time[parts$marks$what == what]
    graphics::axis(3L, times, FALSE, lwd = 0, lwd.ticks = 1, col.ticks = history_colours[["reverted"]])
  }
  legend <- c(
    "each batch" = "grey65", history_colours[unique(parts$epochs$what)],
    if (length(parts$reverts)) history_colours["reverted"]
  )
  graphics::legend("topright", names(legend), col = legend, lty = 1L, bty = "n")
}
