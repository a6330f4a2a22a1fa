# The picture of a loss history, by ggplot2.
ggplot_history <- function(picture) {
  aes <- ggplot2::aes
  time <- value <- name <- NULL # columns, for R CMD check
  lines <- in_panel(picture$lines, "loss")
  lines$name <- factor(lines$name, intersect(names(history_widths), lines$name))
  colours <- history_colours[levels(lines$name)]
  dots <- lines[lines$point, ]
  of_epochs <- dots$name %in% names(mark_sizes)[-1L]
  plot <- ggplot2::ggplot(mapping = aes(time, value)) +
    ggplot2::geom_blank(data = in_panel(corners(picture$span, picture$limits), "loss")) +
    revert_marks(picture) +
    ggplot2::geom_line(
      data = twice_if_single(lines), mapping = aes(colour = name, linewidth = name), na.rm = TRUE
    ) +
    ggplot2::geom_point(
      data = dots, mapping = aes(colour = name), show.legend = FALSE,
      size = ifelse(of_epochs, 1.6, 0.8), shape = ifelse(dots$name == "val_loss", 15L, 19L)
    ) +
    edge_marks(picture) +
    ggplot2::scale_colour_manual(values = colours, name = NULL, guide = entries(1L)) +
    ggplot2::scale_linewidth_manual(
      values = history_widths[names(colours)], name = NULL, guide = entries(1L)
    ) +
    ggplot2::scale_x_continuous(
      breaks = picture$ticks, labels = picture$tick_labels, minor_breaks = NULL,
      expand = ggplot2::expansion(0.01)
    ) +
    loss_scale(picture) +
    ggplot2::labs(x = picture$title, y = "loss") +
    ggplot2::coord_cartesian(clip = "off") +
    ggplot2::theme_minimal() +
    ggplot2::theme(legend.position = "top", legend.box = "horizontal")
  if (nrow(picture$rate)) plot + rate_panel(picture) else plot
}

# ggplot2 has something to say on lines of which each has one point.
twice_if_single <- function(lines) if (anyDuplicated(lines$name)) lines else rbind(lines, lines)

entries <- function(order) ggplot2::guide_legend(order = order)

panels <- c("loss", "learning rate")

in_panel <- function(data, panel) {
  cbind(data, panel = factor(rep(panel, nrow(data)), panels))
}

corners <- function(span, limits) data.frame(time = span, value = limits)

loss_scale <- function(picture) {
  scale <- if (picture$log) ggplot2::scale_y_log10 else ggplot2::scale_y_continuous
  if (nrow(picture$lines)) {
    scale(labels = plain_numbers, expand = ggplot2::expansion(0))
  } else {
    scale(breaks = NULL, expand = ggplot2::expansion(0))
  }
}

revert_marks <- function(picture) {
  aes <- ggplot2::aes
  time <- what <- NULL # columns, for R CMD check
  colour <- history_colours[["reverted"]]
  if (nrow(picture$reverts) == 0L) {
    return(NULL)
  }
  types <- revert_types[intersect(names(revert_types), picture$reverts$what)]
  if (picture$many_reverts) types[] <- "solid"
  layer <- if (picture$many_reverts) {
    ggplot2::geom_rug(
      data = in_panel(picture$reverts, "loss"), mapping = aes(time, linetype = what),
      inherit.aes = FALSE, sides = "b", length = ggplot2::unit(0.04, "npc"), colour = colour
    )
  } else {
    ggplot2::geom_vline(
      data = picture$reverts, mapping = aes(xintercept = time, linetype = what), colour = colour,
      key_glyph = "path"
    )
  }
  list(layer, ggplot2::scale_linetype_manual(values = types, name = NULL, guide = entries(3L)))
}

edge_marks <- function(picture) {
  marks <- marks_at(picture)
  what <- NULL # a column, for R CMD check
  names <- intersect(names(mark_sizes), marks$name)
  layers <- lapply(names, function(name) {
    ggplot2::geom_point(
      data = in_panel(marks[marks$name == name, ], "loss"), mapping = ggplot2::aes(shape = what),
      colour = mark_colours[[name]], size = mark_sizes[[name]], stroke = 0.8,
      show.legend = c(shape = name == names[[1L]], colour = FALSE, linewidth = FALSE, linetype = FALSE)
    )
  })
  shapes <- mark_shapes[intersect(names(mark_shapes), marks$what)]
  list(layers, ggplot2::scale_shape_manual(
    values = shapes, breaks = names(shapes), name = NULL, guide = entries(2L)
  ))
}

# The learning rate, on the scale of the losses: in their units it is a quarter as high as they are.
rate_panel <- function(picture) {
  to_scale <- if (picture$rate_log) log10 else identity
  bottom <- to_scale(picture$rate_limits[[1L]])
  height <- to_scale(picture$rate_limits[[2L]]) - bottom
  losses <- if (picture$log) diff(log10(picture$limits)) else diff(picture$limits)
  place <- function(rate) {
    at <- (to_scale(rate) - bottom) / height * losses / 4
    if (picture$log) 10^at else at
  }
  ticks <- round_ticks(picture$rate_limits, picture$rate_log, 2L)
  rate <- transform(picture$rate, value = place(picture$rate$value))
  limits <- corners(picture$span, place(picture$rate_limits))
  list(
    ggplot2::geom_blank(data = in_panel(limits, "learning rate")),
    ggplot2::geom_line(
      data = in_panel(rate, "learning rate"), colour = "grey20", linewidth = 0.5, na.rm = TRUE
    ),
    facet_with_ticks(place(ticks), plain_numbers(ticks)),
    ggplot2::labs(y = NULL),
    ggplot2::theme(strip.placement = "outside", panel.spacing = ggplot2::unit(1, "lines"))
  )
}

# Panels whose heights are as their ranges, of which the second has ticks of its own.
facet_with_ticks <- function(ticks, labels) {
  panel <- NULL # a column, for R CMD check
  facet <- ggplot2::facet_grid(
    rows = ggplot2::vars(factor(panel, c("loss", "learning rate"))),
    scales = "free_y", space = "free_y", switch = "y",
    labeller = ggplot2::label_wrap_gen(8L) # "learning rate" is longer than its panel is high
  )
  ggplot2::ggproto(NULL, facet,
    init_scales = function(layout, x_scale = NULL, y_scale = NULL, params) {
      scales <- facet$init_scales(layout, x_scale, y_scale, params)
      if (!is.null(scales$y)) {
        second <- scales$y[[length(scales$y)]]
        second$breaks <- ticks
        second$labels <- labels
        second$minor_breaks <- NULL
      }
      scales
    }
  )
}
