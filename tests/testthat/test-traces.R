# The fixtures that Python's suite reads too.
read_cases <- function(name) {
  jsonlite::read_json(test_path("..", "fixtures", name))
}

as_number <- function(value) {
  if (is.character(value)) c("NaN" = NaN, "Infinity" = Inf, "-Infinity" = -Inf)[[value]] else value
}

# Drives a guard by hand over the epochs of a case. A weight is set to the epoch's number at its
# end, so that it says which state is in the model afterwards.
drive <- function(guard, model, logs) {
  core <- reticulate::r_to_py(guard)
  marker <- model$layers[[2]]$bias
  core$set_model(model)
  marker$assign(array(0, dim = 1L))
  core$on_train_begin()
  markers <- integer()
  for (epoch in seq_along(logs)) {
    core$on_epoch_begin(epoch - 1L)
    marker$assign(array(epoch, dim = 1L))
    core$on_epoch_end(epoch - 1L, do.call(reticulate::dict, lapply(logs[[epoch]], as_number)))
    markers[epoch] <- as.integer(marker$numpy())
  }
  markers
}

marker_model <- function() {
  model <- small_model(metrics = list("accuracy"))
  data <- regression_data()
  model$evaluate(data$x, data$y, verbose = 0L) # the metrics exist from then on
  model
}

constructors <- list(
  RevertOnLossIncrease = callback_revert_on_loss_increase,
  RevertToBestOnIncrease = callback_revert_to_best_on_increase
)

test_that("the revert guards decide as the fixtures say", {
  skip_without_keras()
  cases <- read_cases("revert.json")
  expect_gte(length(cases), 20L)
  model <- marker_model()
  for (case in cases) {
    guard <- do.call(constructors[[case$guard]], case$options)
    model$stop_training <- FALSE
    if (!is.null(case$error)) {
      expect_error(suppressWarnings(drive(guard, model, case$logs)), "monitor", info = case$name)
      next
    }
    markers <- suppressWarnings(drive(guard, model, case$logs))
    decisions <- unlist(case$decisions)
    expected <- seq_along(decisions)
    expected[decisions == "revert"] <- as.integer(unlist(case$restored_from)) + 1L
    expect_identical(markers, expected, info = case$name)

    reverts <- guard$events[guard$events$action == "revert", ]
    expect_identical(reverts$epoch, which(decisions == "revert"), info = case$name)
    expect_identical(reverts$restored_from, as.integer(unlist(case$restored_from)) + 1L, info = case$name)
    expect_identical(guard$n_reverts, nrow(reverts), info = case$name)
    expect_identical("stop" %in% guard$events$action, case$stopped, info = case$name)
    expect_identical(model$stop_training, case$stopped, info = case$name)
    expect_equal(guard$best, as.numeric(case$best), info = case$name)
    expect_identical(guard$best_epoch, as.integer(case$best_epoch + 1L), info = case$name)
  }
})

test_that("the best epoch is the one that the fixtures name", {
  skip_without_keras()
  cases <- read_cases("restore_best.json")
  model <- marker_model()
  for (case in cases) {
    keep <- do.call(callback_restore_best, case$options)
    markers <- drive(keep, model, case$logs)
    expect_identical(markers, seq_along(case$logs), info = case$name)
    suppressWarnings(keep$restore(), classes = "kguard_warning") # of the trace without a best
    now <- as.integer(model$layers[[2]]$bias$numpy())
    if (is.null(case$best_epoch)) {
      expect_identical(keep$best_epoch, NA_integer_, info = case$name)
      expect_identical(now, length(case$logs), info = case$name)
    } else {
      expect_identical(keep$best_epoch, as.integer(case$best_epoch + 1L), info = case$name)
      expect_equal(keep$best, case$best, info = case$name)
      expect_identical(now, as.integer(case$best_epoch + 1L), info = case$name)
    }
  }
})
