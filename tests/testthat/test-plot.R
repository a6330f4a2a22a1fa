trained <- function() {
  guard <- callback_revert_on_loss_increase()
  history <- callback_loss_history()
  fit_quietly(small_model(), list(Breaker$new(2), guard, history))
  list(guard = guard, history = history)
}

layer_of <- function(plot, geom) {
  drawn_by <- vapply(plot$layers, function(layer) inherits(layer$geom, geom), NA)
  ggplot2::layer_data(plot, which(drawn_by)[1L])
}

test_that("a plot shows every batch, every epoch and the reverts", {
  skip_without_keras()
  skip_if_not_installed("ggplot2")
  run <- trained()
  plot <- plot(run$history, run$guard)
  expect_s3_class(plot, "ggplot")
  expect_equal(layer_of(plot, "GeomVline")$xintercept[1L], 2)
  drawn <- layer_of(plot, "GeomLine")
  of_batches <- drawn[drawn$colour == kguard:::history_colours[["each batch"]], ]
  expect_equal(of_batches$x, seq_len(12) / 3)
  expect_equal(of_batches$y, run$history$losses)
  of_epochs <- drawn[drawn$colour == kguard:::history_colours[["loss"]], ]
  expect_equal(of_epochs$y, run$history$epochs$loss)
})

test_that("losses that are not finite are marked, not dropped", {
  skip_without_keras()
  skip_if_not_installed("ggplot2")
  history <- callback_loss_history()
  data <- regression_data()
  data$y[30] <- NaN
  model <- small_model()
  model$fit(data$x, data$y,
    epochs = 1L, batch_size = 20L, shuffle = FALSE, verbose = 0L, callbacks = list(history)
  )
  marks <- ggplot2::ggplot_build(plot(history))$data
  crosses <- Filter(function(layer) 4L %in% layer$shape, marks)
  expect_equal(crosses[[1]]$x, 2:3 / 3)
})

# What is drawn of such losses, chosen where it always is.
picture_of <- function(losses, per_epoch, loss = NULL, rate = NULL, reverts = NULL) {
  types <- reticulate::import("types")
  number <- seq_along(losses) - 1
  batches <- list(epoch = number %/% per_epoch, batch = number %% per_epoch, loss = losses)
  batches$exact <- rep(TRUE, length(losses))
  batches$learning_rate <- rate
  loss <- if (is.null(loss)) as.vector(tapply(losses, batches$epoch, mean)) else loss
  columns <- function(columns) lapply(columns, function(column) reticulate::np_array(array(column)))
  history <- types$SimpleNamespace(
    batches = columns(batches), epochs = columns(list(epoch = seq_along(loss) - 1, loss = loss)),
    batches_per_epoch = as.integer(per_epoch)
  )
  event <- function(epoch) {
    types$SimpleNamespace(epoch = as.integer(epoch - 1), batch = NULL, action = "revert")
  }
  guard <- types$SimpleNamespace(events = lapply(reverts, event))
  kguard:::as_picture(kguard:::bridge()$picture(history, guard))
}

wavy <- function(n) 2 + sin(seq_len(n))

test_that("a loss far above the epochs' is marked, so that the others can be read", {
  skip_without_keras()
  skip_if_not_installed("ggplot2")
  picture <- picture_of(c(1, 1e30, 2, -Inf, -1e30), 5, loss = c(NaN, 1.5))
  drawn <- ggplot2::ggplot_build(kguard:::ggplot_history(picture))
  marked <- function(layer) if ("shape" %in% names(layer)) layer[layer$shape < 19, c("x", "y", "shape")]
  marks <- do.call(rbind, lapply(drawn$data, marked))
  edges <- drawn$layout$panel_params[[1L]]$y.range
  expect_equal(marks$x, c(0.8, 0.4, 1, 1))
  expect_equal(marks$shape, c(4, 17, 6, 4))
  expect_equal(marks$y, edges[c(2, 2, 1, 2)])
  expect_lt(edges[2], 3)
})

test_that("the learning rate has a panel below, a quarter as high, with its own numbers", {
  skip_without_keras()
  skip_if_not_installed("ggplot2")
  steep <- rep(c(1, 0.1, 0.01), each = 10)
  gentle <- rep(c(0.1, 0.05, 0.025), each = 10)
  for (losses in list(wavy(30), 10^seq(3, -3, length.out = 30))) {
    for (rate in list(steep, gentle)) {
      drawn <- ggplot2::ggplot_build(kguard:::ggplot_history(picture_of(losses, 10, rate = rate)))
      params <- drawn$layout$panel_params
      ranges <- vapply(params, function(panel) diff(panel$y.range), 0)
      expect_equal(ranges[2], ranges[1] / 4)
      # Between the ticks, as the eye reads it.
      scale <- if (identical(rate, steep)) log10 else identity
      ticks <- scale(as.numeric(params[[2L]]$y$get_labels()))
      expect_gt(length(ticks), 1)
      read <- stats::lm.fit(cbind(1, params[[2L]]$y$breaks), ticks)$coefficients
      line <- Filter(function(layer) all(layer$PANEL == 2L) && nrow(layer) == 6L, drawn$data)[[1L]]
      expect_equal(read[[1]] + read[[2]] * line$y, scale(rep(unique(rate), each = 2L)))
      expect_equal(line$x, c(0, 1, 1, 2, 2, 3))
    }
  }
})

test_that("a plot of a history can be added to", {
  skip_without_keras()
  skip_if_not_installed("ggplot2")
  for (rate in list(NULL, rep(0.1, 30))) {
    plot <- kguard:::ggplot_history(picture_of(wavy(30), 10, rate = rate))
    goal <- data.frame(value = 2.5, panel = "loss")
    plot <- plot + ggplot2::geom_hline(data = goal, mapping = ggplot2::aes(yintercept = value)) +
      ggplot2::theme_bw() + ggplot2::ggtitle("mine")
    expect_identical(plot$labels$title, "mine")
    drawn <- ggplot2::ggplot_build(plot)
    expect_identical(as.integer(drawn$data[[length(drawn$data)]]$PANEL), 1L)
    expect_silent(ggplot2::ggplotGrob(plot))
  }
})

test_that("no spike of a long run is lost on its way to R", {
  skip_without_keras()
  losses <- rep(wavy(1000), 60)
  losses[c(12345, 44444)] <- c(9, 8)
  picture <- picture_of(losses, 6000)
  line <- picture$lines[picture$lines$name == "each batch", ]
  expect_lt(nrow(line), 5000)
  expect_equal(line$time[line$value > 5], c(12345, 44444) / 6000)
  expect_true("typical batch" %in% picture$lines$name)
})

test_that("base graphics have a panel for the learning rate too", {
  skip_without_keras()
  where <- NULL
  lower_panel <- function(picture) {
    graphics::plot.new()
    where <<- graphics::par("fig")
  }
  with_function("base_rate", lower_panel, {
    drawn_bytes(kguard:::base_plot_history(picture_of(wavy(30), 10, rate = rep(0.1, 30))))
  })
  expect_equal(where, c(0, 1, 0, 1 / 3.2), tolerance = 1e-3)
})

test_that("where no loss is finite the axis has no numbers", {
  skip_without_keras()
  skip_if_not_installed("ggplot2")
  drawn <- ggplot2::ggplot_build(kguard:::ggplot_history(picture_of(rep(NaN, 30), 10)))
  expect_null(drawn$layout$panel_params[[1L]]$y$breaks)
})

test_that("base graphics and ggplot2 draw whatever there is, and nothing is changed by it", {
  skip_without_keras()
  pictures <- list(
    picture_of(wavy(30), 10, rate = rep(c(1, 0.1, 0.01), each = 10), reverts = 2),
    picture_of(10^seq(3, -3, length.out = 30), 10, rate = rep(0.1, 30)),
    picture_of(rep(NaN, 30), 10, rate = rep(0.1, 30)),
    picture_of(1, 1, rate = 0),
    picture_of(wavy(100), 1, reverts = 1:60)
  )
  for (picture in pictures) {
    bytes <- drawn_bytes({
      graphics::par(mfrow = c(1, 2), las = 0L)
      settings <- c("mar", "las", "mgp", "bty", "mfrow")
      before <- graphics::par(settings)
      kguard:::base_plot_history(picture)
      expect_identical(graphics::par(settings), before)
    })
    expect_gt(bytes, 2000)
    if (requireNamespace("ggplot2", quietly = TRUE)) {
      expect_gt(drawn_bytes(expect_silent(print(kguard:::ggplot_history(picture)))), 2000)
    }
  }
})

test_that("what cannot be plotted is refused", {
  skip_without_keras()
  expect_error(plot(callback_loss_history()), class = "kguard_state_error")
  expect_error(plot(trained()$history, guard = "guard"), class = "kguard_option_error")
})

test_that("a guard marks its reverts in the plot of a history", {
  skip_without_keras()
  skip_if_not_installed("ggplot2")
  guard <- callback_revert_on_loss_increase()
  history <- fit_quietly(small_model(), list(Breaker$new(2, 4), guard))
  plot <- plot(guard, history)
  expect_equal(ggplot2::layer_data(plot, 1)$xintercept, c(2, 4))
  drawn <- ggplot2::layer_data(plot, 3)
  expect_identical(nrow(drawn), 4L)
  expect_equal(drawn$y, unlist(history$history$loss), tolerance = 1e-6)
})

test_that("a guard without a history plots what its events hold", {
  skip_without_keras()
  skip_if_not_installed("ggplot2")
  guard <- callback_revert_on_loss_increase("val_loss")
  Scripted <- R6::R6Class("Scripted",
    inherit = KerasCallback,
    public = list(on_epoch_end = function(epoch, logs = NULL) list(val_loss = c(1, 3, 0.5, 9)[epoch]))
  )
  fit_quietly(small_model(), list(Scripted$new(), guard))
  drawn <- ggplot2::layer_data(plot(guard), 3)
  expect_equal(sort(drawn$y), c(0.5, 1, 3, 9))
})

test_that("keras3's own plot gets the reverts", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  skip_if_not_installed("ggplot2")
  guard <- callback_revert_on_loss_increase()
  data <- regression_data()
  history <- keras3("fit")(keras3_model(), data$x, data$y,
    epochs = 4, batch_size = 20, verbose = 0, view_metrics = FALSE,
    callbacks = list(Breaker$new(3), guard)
  )
  own <- plot(history)
  marked <- plot(guard, history)
  expect_s3_class(marked, "ggplot")
  expect_identical(length(marked$layers), length(own$layers) + 1L)
  expect_equal(ggplot2::layer_data(marked, length(marked$layers))$xintercept[1], 3)
})

test_that("without ggplot2 base graphics draw, and the object comes back", {
  skip_without_keras()
  guard <- callback_revert_on_loss_increase()
  losses <- callback_loss_history()
  history <- fit_quietly(small_model(), list(Breaker$new(2), guard, losses))
  with_function("has_ggplot2", function() FALSE, {
    expect_gt(drawn_bytes(expect_identical(plot(guard, history), guard)), 2000)
    expect_gt(drawn_bytes(expect_identical(plot(losses, guard), losses)), 2000)
  })
})

test_that("a history with its own plot method is drawn by it, and marked", {
  marked <- function(plot) kguard:::over_its_own_plot(plot, c(2L, 3L), "the guard")
  bare <- drawn_bytes(plot(1:4))
  expect_gt(drawn_bytes(expect_identical(marked(plot(1:4)), "the guard")), bare)
  skip_if_not_installed("ggplot2")
  theirs <- ggplot2::ggplot(data.frame(x = 1:4), ggplot2::aes(x, x)) + ggplot2::geom_point()
  ours <- marked(theirs)
  expect_equal(ggplot2::layer_data(ours, 2)$xintercept, 2:3)
  expect_identical(ours$labels$caption, "dashed: epoch taken back")
})

test_that("a guard's plot is logarithmic where its values span magnitudes", {
  skip_if_not_installed("ggplot2")
  curves <- data.frame(epoch = 1:4, value = c(1000, 10, 1, 0.5), what = "loss")
  is_log <- function(plot) any(grepl("log", plot$scales$get_scales("y")$trans$name))
  expect_true(is_log(kguard:::ggplot_curves(curves, 2L)))
  curves$value <- c(2, 1, 1, 0)
  expect_null(kguard:::ggplot_curves(curves, 2L)$scales$get_scales("y"))
})

test_that("an epoch whose loss is infinite is a gap in the line", {
  skip_without_keras()
  losses <- callback_loss_history()
  Scripted <- R6::R6Class("Scripted",
    inherit = KerasCallback,
    public = list(on_epoch_end = function(epoch, logs = NULL) list(loss = c(2, Inf, 1)[epoch]))
  )
  fit_quietly(small_model(), list(Scripted$new(), losses), epochs = 3L)
  picture <- kguard:::history_picture(losses, NULL)
  expect_equal(picture$lines$value[picture$lines$name == "loss"], c(2, NaN, 1))
  expect_equal(picture$marks$time[picture$marks$name == "loss"], 2)
})

test_that("an epoch that is not finite is a gap in a guard's plot, and marked", {
  skip_without_keras()
  skip_if_not_installed("ggplot2")
  guard <- callback_revert_on_loss_increase("score", mode = "max")
  Scripted <- R6::R6Class("Scripted",
    inherit = KerasCallback,
    public = list(on_epoch_end = function(epoch, logs = NULL) list(score = c(1, 2, NaN, 3)[epoch]))
  )
  history <- fit_quietly(small_model(), list(Scripted$new(), guard))
  curves <- kguard:::history_curves(history)
  expect_identical(curves$value[curves$what == "score"], c(1, 2, NA, 3))
  drawn <- plot(guard, history)
  expect_equal(ggplot2::layer_data(drawn, 1)$xintercept, 3)
  expect_true(anyNA(ggplot2::layer_data(drawn, 2)$y))
})
