revert <- callback_revert_on_loss_increase
to_best <- callback_revert_to_best_on_increase
best <- callback_restore_best
history <- callback_loss_history
eight <- matrix(0, 8, 3)

# Each: the call, the argument it must name, and a piece of what it must say of the value.
bad <- list(
  list(quote(revert(1)), "monitor", "got 1"),
  list(quote(revert("")), "monitor", "not empty"),
  list(quote(revert("  ")), "monitor", "not empty"),
  list(quote(revert(NULL)), "monitor", "got NULL"),
  list(quote(revert(NA_character_)), "monitor", "got NA_character_"),
  list(quote(revert(c("loss", "val_loss"))), "monitor", "val_loss"),
  list(quote(revert(factor("loss"))), "monitor", "string"),
  list(quote(revert(mode = "auot")), "mode", "auot"),
  list(quote(revert(mode = 1)), "mode", "got 1"),
  list(quote(revert(mode = NULL)), "mode", "got NULL"),
  list(quote(revert(tolerance = -1)), "tolerance", "got -1"),
  list(quote(revert(tolerance = NaN)), "tolerance", "got NaN"),
  list(quote(revert(tolerance = NA)), "tolerance", "got NA"),
  list(quote(revert(tolerance = NA_real_)), "tolerance", "got NA_real_"),
  list(quote(revert(tolerance = Inf)), "tolerance", "got Inf"),
  list(quote(revert(tolerance = "0.1")), "tolerance", "\"0.1\""),
  list(quote(revert(tolerance = c(0, 1))), "tolerance", "c(0, 1)"),
  list(quote(revert(tolerance = numeric())), "tolerance", "numeric(0)"),
  list(quote(revert(tolerance = TRUE)), "tolerance", "got TRUE"),
  list(quote(revert(tolerance = Sys.Date())), "tolerance", "structure"),
  list(quote(revert(relative_tolerance = -0.1)), "relative_tolerance", "got -0.1"),
  list(quote(revert(relative_tolerance = list(1))), "relative_tolerance", "list(1)"),
  list(quote(revert(reference = "worst")), "reference", "worst"),
  list(quote(revert(reference = c("best", "previous"))), "reference", "previous"),
  list(quote(revert(patience = 2.5)), "patience", "got 2.5"),
  list(quote(revert(patience = -1)), "patience", "got -1"),
  list(quote(revert(patience = TRUE)), "patience", "got TRUE"),
  list(quote(revert(patience = "3")), "patience", "\"3\""),
  list(quote(revert(patience = NULL)), "patience", "got NULL"),
  list(quote(revert(patience = 1e10)), "patience", "got 1e+10"),
  list(quote(revert(restore_optimizer = 1)), "restore_optimizer", "TRUE or FALSE, got 1"),
  list(quote(revert(restore_optimizer = NA)), "restore_optimizer", "TRUE or FALSE, got NA"),
  list(quote(revert(restore_random_state = 1)), "restore_random_state", "TRUE or FALSE, got 1"),
  list(quote(revert(lr_factor = 0)), "lr_factor", "got 0"),
  list(quote(revert(lr_factor = 2)), "lr_factor", "got 2"),
  list(quote(revert(lr_factor = NaN)), "lr_factor", "got NaN"),
  list(quote(revert(min_lr = -1e-5)), "min_lr", "got -1e-05"),
  list(quote(revert(max_reverts = 0)), "max_reverts", "or NULL, got 0"),
  list(quote(revert(max_reverts = 1.5)), "max_reverts", "got 1.5"),
  list(quote(revert(max_reverts = NA)), "max_reverts", "or NULL, got NA"),
  list(quote(revert(start_from_epoch = -1)), "start_from_epoch", "got -1"),
  list(quote(revert(start_from_epoch = Inf)), "start_from_epoch", "got Inf"),
  list(quote(revert(verbose = TRUE)), "verbose", "got TRUE"),
  list(quote(revert(probe = eight)), "probe", "8 x 3"),
  list(quote(revert(probe = list(eight))), "probe", "list(x, y)"),
  list(quote(revert(probe = list(eight, 1:7))), "probe", "equally many rows"),
  list(quote(revert(probe = list(eight[0, ], 1[0]))), "probe", "equally many rows"),
  list(quote(revert(probe = list(eight, factor(1:8)))), "probe", "equally many rows"),
  list(quote(revert(probe = list(data.frame(a = letters[1:8]), 1:8))), "probe", "equally many rows"),
  list(quote(revert(probe = list(eight, c(1:7, NaN)))), "probe", "without NaN"),
  list(quote(revert(probe = list(replace(eight, 3, NA), 1:8))), "probe", "without NaN"),
  list(quote(revert(probe = list(x = eight, z = 1:8))), "probe", "list(x"),
  list(quote(revert(probe = list(x = eight, 1:8))), "probe", "list(x"),
  list(quote(revert("accuracy", mode = "max", probe = list(eight, 1:8))), "monitor", "accuracy"),
  list(quote(to_best(lr_factor = 0)), "lr_factor", "got 0"),
  list(quote(to_best(patience = 2.5)), "patience", "got 2.5"),
  list(quote(best(min_delta = -1)), "min_delta", "got -1"),
  list(quote(best(restore_optimizer = "yes")), "restore_optimizer", "yes"),
  list(quote(best("")), "monitor", "not empty"),
  list(quote(history(1)), "path", "got 1"),
  list(quote(history("losses.txt")), "path", "losses.txt"),
  list(quote(history("no/such/folder/losses.csv")), "path", "no/such"),
  list(quote(history(every = 0)), "every", "got 0"),
  list(quote(history(every = 1.5)), "every", "got 1.5"),
  list(quote(history(every = TRUE)), "every", "got TRUE"),
  list(quote(history(data = eight)), "data", "8 x 3"),
  list(quote(history(data = list(eight))), "data", "list(x, y)"),
  list(quote(history(data = list(eight, 1:7))), "data", "equally many rows"),
  list(quote(history(data = list(x = eight, z = 1:8))), "data", "list(x"),
  list(quote(history(log_dir = 1)), "log_dir", "got 1"),
  list(quote(history(log_dir = c("a", "b"))), "log_dir", "c(\"a\", \"b\")"),
  list(quote(read_history(NULL)), "path", "got NULL"),
  list(quote(read_history(1)), "path", "got 1"),
  list(quote(read_history(NA)), "path", "got NA"),
  list(quote(read_history("losses.txt")), "path", "losses.txt"),
  list(quote(read_history("there-is-none.csv")), "path", "there-is-none"),
  list(quote(read_history("there-is-none.sqlite")), "path", "there-is-none"),
  list(quote(read_history(tempdir())), "path", "got \"")
)

test_that("bad options are refused with the argument, the requirement and the value", {
  skip_without_keras()
  expect_gte(length(bad), 40L)
  for (case in bad) {
    label <- deparse1(case[[1]])
    condition <- tryCatch(eval(case[[1]]), error = identity)
    expect_s3_class(condition, "kguard_option_error")
    expect_identical(condition$argument, case[[2]], label = label)
    message <- conditionMessage(condition)
    expect_match(message, paste0("`", case[[2]], "` must be "), fixed = TRUE, label = label)
    expect_match(message, case[[3]], fixed = TRUE, label = label)
    expect_false(grepl("None|True|False|tuple", message), label = message)
  }
})

test_that("a refused value is the one that R users typed, whole numbers among them", {
  skip_without_keras()
  guard <- revert(patience = 2, max_reverts = 3, start_from_epoch = 1, verbose = 0)
  expect_s3_class(guard, "RevertOnLossIncrease")
  expect_s3_class(revert(patience = 2L, tolerance = 1L, min_lr = 0L), "RevertOnLossIncrease")
  expect_s3_class(revert(c(name = "loss"), tolerance = c(a = 0.1)), "RevertOnLossIncrease")
  expect_s3_class(history(every = 10), "LossHistory")
})

test_that("a file that holds something else is refused, and left as it was", {
  skip_without_keras()
  for (suffix in c(".csv", ".sqlite")) {
    path <- tempfile(fileext = suffix)
    writeLines(c("a,b", "1,2"), path)
    condition <- tryCatch(read_history(path), error = identity)
    expect_s3_class(condition, "kguard_option_error")
    expect_match(conditionMessage(condition), "`path` must be")
    expect_error(fit_quietly(small_model(), list(history(path))), "`path` must be")
    expect_identical(readLines(path), c("a,b", "1,2"))
    unlink(path)
  }
})

test_that("data that do not fit the model are refused by fit", {
  skip_without_keras()
  losses <- history(data = list(matrix(0, 8, 5), matrix(0, 8, 1)))
  expect_error(fit_quietly(small_model(), list(losses)), "`data` must be")
})

test_that("a probe that does not fit the model is refused at the start of fit", {
  skip_without_keras()
  model <- small_model()
  before <- weights_of(model)
  guard <- revert(probe = list(matrix(0, 8, 5), matrix(0, 8, 1)))
  expect_error(fit_quietly(model, list(guard)), "`probe` must be")
  expect_identical(weights_of(model), before)
})

test_that("a named probe is taken by its names", {
  skip_without_keras()
  data <- regression_data()
  guards <- list(
    revert(probe = list(data$x, data$y)),
    revert(probe = list(y = data$y, x = data$x))
  )
  model <- small_model(keras()$optimizers$SGD(0))
  for (guard in guards) fit_quietly(model, list(guard), epochs = 1L)
  expect_identical(guards[[2]]$best, guards[[1]]$best)
})

test_that("a probe takes matrices, data frames and vectors", {
  skip_without_keras()
  data <- regression_data()
  frame <- as.data.frame(data$x)
  model <- small_model()
  values <- lapply(
    list(list(data$x, data$y), list(frame, as.vector(data$y)), list(data$x, data$y, rep(1, 60))),
    function(probe) {
      guard <- revert(probe = probe)
      fit_quietly(small_model(), list(guard), epochs = 1L)
      guard$best
    }
  )
  expect_equal(values[[2]], values[[1]], tolerance = 1e-6)
  expect_equal(values[[3]], values[[1]], tolerance = 1e-6)
})
