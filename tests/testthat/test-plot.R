trained <- function() {
  guard <- callback_revert_on_loss_increase()
  history <- callback_loss_history()
  fit_quietly(small_model(), list(Breaker$new(2), guard, history))
  list(guard = guard, history = history)
}

test_that("a plot shows every batch, every epoch and the reverts", {
  skip_without_keras()
  skip_if_not_installed("ggplot2")
  run <- trained()
  plot <- plot(run$history, run$guard)
  expect_s3_class(plot, "ggplot")
  drawn <- lapply(seq_along(plot$layers), function(i) ggplot2::layer_data(plot, i))
  expect_equal(drawn[[1]]$xintercept, 2)
  expect_identical(nrow(drawn[[2]]), 12L)
  expect_identical(nrow(drawn[[3]]), 4L)
})

test_that("losses that are not finite are marked, not dropped", {
  skip_without_keras()
  run <- trained()
  parts <- kguard:::plot_parts(run$history, NULL)
  expect_identical(nrow(parts$marks), 0L)
  history <- callback_loss_history()
  data <- regression_data()
  data$y[30] <- NaN
  model <- small_model()
  model$fit(data$x, data$y,
    epochs = 1L, batch_size = 20L, shuffle = FALSE, verbose = 0L, callbacks = list(history)
  )
  parts <- kguard:::plot_parts(history, NULL)
  expect_equal(parts$marks$time, 2:3 / 3)
  expect_identical(parts$marks$what, rep("not finite", 2))
  drawn <- ggplot2::ggplot_build(plot(history))$data
  expect_equal(drawn[[5]]$x, 2:3 / 3)
})

test_that("a loss far above the epochs' is marked, so that the others can be read", {
  history <- list(
    batches_per_epoch = 4L,
    batches = data.frame(epoch = 1L, batch = 1:4, loss = c(1, 1e30, 2, -Inf), exact = TRUE),
    epochs = data.frame(epoch = 1:2, loss = c(NaN, 1.5))
  )
  parts <- kguard:::plot_parts(history, NULL)
  expect_identical(parts$marks$what, c("not finite", "off the scale"))
  expect_equal(parts$marks$time, c(1, 0.5))
  expect_equal(parts$batches$loss, c(1, NA, 2, NA))
  expect_false(parts$log)
})

test_that("base graphics draw the same", {
  skip_without_keras()
  run <- trained()
  file <- tempfile(fileext = ".pdf")
  grDevices::pdf(file)
  on.exit(unlink(file))
  kguard:::base_plot_history(kguard:::plot_parts(run$history, run$guard))
  grDevices::dev.off()
  expect_gt(file.size(file), 1000)
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
  expect_identical(kguard:::plot_parts(losses, NULL)$epochs$loss, c(2, NA, 1))
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
