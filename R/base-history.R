# The picture of a loss history, by base graphics.
base_plot_history <- function(picture) {
  has_rate <- nrow(picture$rate) > 0L
  old <- graphics::par(no.readonly = TRUE)
  on.exit(graphics::par(old))
  if (has_rate) graphics::layout(matrix(1:2), heights = c(2.2, 1))
  graphics::par(mar = c(if (has_rate) 0.6 else 4, 6, 3, 1), las = 1L, mgp = c(4, 0.7, 0), bty = "l")
  base_losses(picture)
  if (has_rate) {
    graphics::par(mar = c(4, 6, 0.6, 1))
    base_rate(picture)
  }
  time_axis(picture)
  graphics::title(xlab = picture$title, line = 2.5)
}

base_losses <- function(picture) {
  empty_panel(picture$span, picture$limits, picture$log, "loss")
  if (nrow(picture$lines)) number_axis(picture$limits, picture$log, 5L)
  if (nrow(picture$rate)) time_axis(picture, labels = FALSE)
  reverts_of(picture)
  for (name in names(history_widths)) {
    line <- picture$lines[picture$lines$name == name, ]
    of_epochs <- name %in% c("loss", "val_loss")
    graphics::lines(line$time, line$value, col = history_colours[[name]], lwd = line_width(name))
    graphics::points(
      line$time[line$point], line$value[line$point],
      pch = 19L, cex = if (of_epochs) 0.8 else 0.5, col = history_colours[[name]]
    )
  }
  marks <- marks_at(picture)
  graphics::points(
    marks$time, marks$value,
    pch = mark_shapes[marks$what], col = mark_colours[marks$name], cex = mark_sizes[marks$name] / 2,
    xpd = NA
  )
  base_legend(picture, marks)
}

base_rate <- function(picture) {
  empty_panel(picture$span, picture$rate_limits, picture$rate_log, "learning\nrate")
  number_axis(picture$rate_limits, picture$rate_log, 2L)
  if (!picture$many_reverts) reverts_of(picture)
  graphics::lines(picture$rate$time, picture$rate$value, col = "grey20")
}

empty_panel <- function(span, limits, log, label) {
  graphics::plot(
    span, limits,
    type = "n", axes = FALSE, xlab = "", ylab = label, yaxs = "i", log = if (log) "y" else ""
  )
  graphics::box()
}

number_axis <- function(limits, log, n) {
  ticks <- round_ticks(limits, log, n)
  graphics::axis(2L, ticks, plain_numbers(ticks))
}

time_axis <- function(picture, labels = picture$tick_labels) {
  graphics::axis(1L, picture$ticks, labels)
}

line_width <- function(name) 3 * history_widths[[name]]

reverts_of <- function(picture) {
  colour <- history_colours[["reverted"]]
  reverts <- picture$reverts
  if (picture$many_reverts) {
    graphics::axis(1L, reverts$time, FALSE, tck = 0.04, lwd = 0, lwd.ticks = 1, col.ticks = colour)
  } else {
    graphics::abline(v = reverts$time, col = colour, lty = revert_types[reverts$what])
  }
}

# Above the panel, where it covers nothing.
base_legend <- function(picture, marks) {
  lines <- intersect(names(history_widths), picture$lines$name)
  reverts <- intersect(names(revert_types), picture$reverts$what)
  shapes <- mark_shapes[intersect(names(mark_shapes), marks$what)]
  wine <- history_colours[["reverted"]]
  types <- if (picture$many_reverts) rep("solid", length(reverts)) else revert_types[reverts]
  entries <- c(lines, names(shapes), reverts)
  graphics::legend("bottom", entries,
    inset = c(0, 1.02), xpd = NA, bty = "n", cex = 0.8, ncol = min(length(entries), 4L),
    text.width = 1.4 * max(graphics::strwidth(entries, cex = 0.8)),
    col = c(history_colours[lines], rep(wine, length(shapes) + length(reverts))),
    lty = c(rep("solid", length(lines)), rep("blank", length(shapes)), types),
    lwd = c(vapply(lines, line_width, 0), rep(1, length(shapes) + length(reverts))),
    pch = c(rep(NA, length(lines)), shapes, rep(NA, length(reverts)))
  )
}
