#' Plot a loss history
#'
#' Draws each batch's own loss, the losses of the epochs, the epochs and batches that a guard took
#' back, and in a second panel the learning rate, if it was recorded. With ggplot2 installed the result
#' is a ggplot, otherwise base graphics are used.
#'
#' Of a long run only what the eye can tell apart is drawn, but of every stretch its highest and lowest
#' batch, so that no spike is lost; the median shows how a typical batch went. Losses that are not
#' finite, or far above all epochs' (more than ten times the worst), are marked along the edge, so that
#' a run which exploded can still be read. The scale of the losses is logarithmic where they are
#' positive and span more than two orders of magnitude.
#'
#' What is added to a ggplot of two panels is drawn in both, unless its data has the column `panel`,
#' `"loss"` or `"learning rate"`.
#'
#' @param x A [LossHistory][callback_loss_history] that has been in a `fit()`, or a run of
#'   [read_history()].
#' @param guard `NULL`, or a guard whose reverts are marked, in place of those that were recorded.
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
  if (!is.null(guard) && !inherits(guard, "kguard_guard")) {
    stop_option("guard", "NULL or a guard", guard)
  }
  picture <- history_picture(x, guard)
  if (nrow(picture$lines) + nrow(picture$marks) == 0L) {
    stop_kguard("kguard_state_error", "there is nothing to plot: the history has not been in a fit")
  }
  if (has_ggplot2()) {
    return(ggplot_history(picture))
  }
  base_plot_history(picture)
  invisible(x)
}

has_ggplot2 <- function() requireNamespace("ggplot2", quietly = TRUE)

# All that is drawn, chosen in Python: see `Picture` there.
history_picture <- function(history, guard) {
  core <- function(object) object$.__enclos_env__$private$.kguard_python()
  as_picture(bridge()$picture(core(history), if (!is.null(guard)) core(guard)))
}

as_picture <- function(picture) {
  tables <- c("lines", "marks", "reverts", "rate")
  picture[tables] <- lapply(picture[tables], columns_frame)
  lapply(picture, function(part) if (is.data.frame(part)) part else unlist(part))
}

spans_magnitudes <- function(values) {
  length(values) > 0L && min(values) > 0 && max(values) > 100 * min(values)
}

reverted_epochs <- function(guard) {
  events <- guard$events
  unique(events$epoch[events$action == "revert"])
}

# Told apart by eyes that see no red or no green, and in print by their lightness.
history_colours <- c(
  "each batch" = "grey65", "not exact" = "grey82", "typical batch" = "grey20", loss = "#0072b2",
  val_loss = "#e69f00", reverted = "#882255"
)
history_widths <- c(
  "each batch" = 0.3, "not exact" = 0.3, "typical batch" = 0.5, loss = 0.7, val_loss = 0.7
)
mark_colours <- replace(history_colours, "each batch", history_colours[["reverted"]])
revert_types <- c(reverted = "dashed", "rolled back" = "dotted")
mark_sizes <- c("each batch" = 1.6, loss = 3.2, val_loss = 2.2)
mark_shapes <- c("not finite" = 4L, "off the scale" = 17L, "below the scale" = 6L)

# At the limits, which are the edges of the panel.
marks_at <- function(picture) {
  marks <- picture$marks
  marks$value <- ifelse(marks$edge > 0, picture$limits[[2L]], picture$limits[[1L]])
  marks$what <- ifelse(marks$edge > 0, marks$what, "below the scale")
  marks
}

# Powers of ten where there are two of them, round numbers otherwise.
round_ticks <- function(limits, log, n) {
  if (log) {
    powers <- ceiling(log10(limits[[1L]])):floor(log10(limits[[2L]]))
    if (length(powers) > 1L && diff(log10(limits)) > 1) {
      return(10^powers[seq(1L, length(powers), by = ceiling(length(powers) / (n + 1)))])
    }
  }
  grDevices::axisTicks(if (log) log10(limits) else limits, log, nint = n)
}

plain_numbers <- function(x) {
  large <- any(abs(x) >= 1e6, na.rm = TRUE)
  ifelse(is.na(x), NA, sprintf(if (large) "%.3g" else "%g", x))
}
