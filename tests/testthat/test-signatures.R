constructors <- list(
  RevertOnLossIncrease = callback_revert_on_loss_increase,
  RevertToBestOnIncrease = callback_revert_to_best_on_increase,
  RestoreBest = callback_restore_best,
  LossHistory = callback_loss_history
)

test_that("R and Python have the same options with the same defaults", {
  skip_without_keras()
  path <- system.file("python", package = "kguard")
  core <- reticulate::import_from_path("pykguard", path = path)
  inspect <- reticulate::import("inspect")
  builtins <- reticulate::import_builtins()
  for (class in names(constructors)) {
    parameters <- inspect$signature(core[[class]])$parameters
    python <- lapply(builtins$list(parameters$values()), function(p) p$default)
    names(python) <- unlist(builtins$list(parameters$keys()))
    ours <- lapply(formals(constructors[[class]]), eval)
    expect_identical(names(ours), names(python), label = class)
    expect_equal(ours, python, label = class)
  }
})

test_that("$new() takes what the constructor takes", {
  generators <- list(RevertOnLossIncrease, RevertToBestOnIncrease, RestoreBest, LossHistory)
  for (generator in generators) {
    class <- generator$classname
    arguments <- formals(generator$public_methods$initialize)
    expect_identical(arguments, formals(constructors[[class]]), label = class)
  }
})

test_that("the package exports what it should", {
  expect_setequal(getNamespaceExports("kguard"), c(
    "KerasCallback",
    "RevertOnLossIncrease", "callback_revert_on_loss_increase",
    "RevertToBestOnIncrease", "callback_revert_to_best_on_increase",
    "RestoreBest", "callback_restore_best",
    "LossHistory", "callback_loss_history", "read_history"
  ))
})
