#' Plot a loss history
#'
#' Draws each batch's own loss, the losses of the epochs, and the epochs that a guard took back. With
#' ggplot2 installed the result is a ggplot, otherwise base graphics are used. The loss is drawn on a
#' logarithmic scale where it is positive and spans more than two orders of magnitude; losses that
#' are not finite are marked along the top.
#'
#' @param x A [LossHistory][callback_loss_history] that has been in a `fit()`.
#' @param guard `NULL`, or a guard of the same `fit()`.
#' @param ... Not used.
#' @return A ggplot, or `x` invisibly where base graphics are used.
#' @examples
#' \dontrun{
#' guard <- callback_revert_on_loss_increase(lr_factor = 0.5)
#' losses <- callback_loss_history()
#' model |> fit(x, y, epochs = 10, callbacks = list(guard, losses))
#' plot(losses, guard)
#' }
#' @export
plot.kguard_history <- function(x, guard = NULL, ...) {
  parts <- plot_parts(x, guard)
  if (requireNamespace("ggplot2", quietly = TRUE)) {
    return(ggplot_history(parts))
  }
  base_plot_history(parts)
  invisible(x)
}

# What is to be drawn, on an axis on which epoch `e` ends at `e`.
plot_parts <- function(history, guard) {
  if (!is.null(guard) && !inherits(guard, "kguard_guard")) {
    stop_option("guard", "NULL or a guard", guard)
  }
  batches <- history$batches
  epochs <- history$epochs
  if (nrow(batches) == 0L) {
    stop_kguard("kguard_state_error", "there is nothing to plot: the history has not been in a fit")
  }
  batches$time <- batches$epoch - 1 + batches$batch / max(batches$batch)
  lines <- lapply(intersect(c("loss", "val_loss"), names(epochs)), function(name) {
    data.frame(time = epochs$epoch, loss = epochs[[name]], what = name)
  })
  finite <- c(batches$loss, unlist(lapply(lines, `[[`, "loss")))
  finite <- finite[is.finite(finite)]
  list(
    batches = batches,
    epochs = do.call(rbind, lines),
    bad = batches[!is.finite(batches$loss), ],
    reverts = if (is.null(guard)) integer() else reverted_epochs(guard),
    log = length(finite) > 0L && min(finite) > 0 && max(finite) > 100 * min(finite)
  )
}

reverted_epochs <- function(guard) {
  events <- guard$events
  unique(events$epoch[events$action == "revert"])
}

history_colours <- c(loss = "#1b6ca8", val_loss = "#d1701f", reverted = "#b3261e")

ggplot_history <- function(parts) {
  aes <- function(...) ggplot2::aes(...)
  time <- loss <- what <- at <- NULL # columns, for R CMD check
  plot <- ggplot2::ggplot(mapping = aes(time, loss)) +
    ggplot2::geom_line(
      data = parts$batches[is.finite(parts$batches$loss), ],
      colour = "grey75", linewidth = 0.3
    )
  if (length(parts$reverts)) {
    plot <- plot + ggplot2::geom_vline(
      data = data.frame(at = parts$reverts, what = "reverted"),
      mapping = aes(xintercept = at, colour = what), linetype = "dashed", show.legend = FALSE
    )
  }
  epochs <- parts$epochs[is.finite(parts$epochs$loss), ]
  if (NROW(epochs)) {
    plot <- plot +
      ggplot2::geom_line(data = epochs, mapping = aes(colour = what)) +
      ggplot2::geom_point(data = epochs, mapping = aes(colour = what), size = 1.4)
  }
  if (nrow(parts$bad)) {
    plot <- plot + ggplot2::geom_point(
      data = data.frame(time = parts$bad$time, loss = Inf, what = "reverted"),
      mapping = aes(colour = what), shape = 4, show.legend = FALSE
    )
  }
  plot <- plot +
    ggplot2::scale_colour_manual(
      values = history_colours, breaks = c("loss", "val_loss"), name = NULL
    ) +
    ggplot2::labs(
      x = "epoch", y = "loss",
      caption = paste(
        c(
          "grey: each batch's own loss",
          if (length(parts$reverts)) "dashed: epoch taken back",
          if (nrow(parts$bad)) "crosses: not finite"
        ),
        collapse = "; "
      )
    ) +
    ggplot2::theme_minimal()
  if (parts$log) plot + ggplot2::scale_y_log10() else plot
}

base_plot_history <- function(parts) {
  batches <- parts$batches
  finite <- is.finite(batches$loss)
  graphics::plot(
    batches$time[finite], batches$loss[finite],
    type = "l", col = "grey75",
    xlab = "epoch", ylab = "loss", log = if (parts$log) "y" else "", bty = "n",
    xlim = range(batches$time)
  )
  graphics::abline(v = parts$reverts, col = history_colours[["reverted"]], lty = 2L)
  for (what in unique(parts$epochs$what)) {
    line <- parts$epochs[parts$epochs$what == what, ]
    graphics::lines(line$time, line$loss, type = "o", pch = 16L, col = history_colours[[what]])
  }
  graphics::rug(parts$bad$time, side = 3L, col = history_colours[["reverted"]])
  legend <- c(
    "each batch" = "grey75", history_colours[unique(parts$epochs$what)],
    if (length(parts$reverts)) history_colours["reverted"]
  )
  graphics::legend("topright", names(legend), col = legend, lty = 1L, bty = "n")
}
