constructors <- list(
  RevertOnLossIncrease = callback_revert_on_loss_increase,
  RevertToBestOnIncrease = callback_revert_to_best_on_increase,
  RestoreBest = callback_restore_best,
  SpikeGuard = callback_spike_guard,
  LossHistory = callback_loss_history,
  ResetLearningRate = callback_reset_learning_rate
)
functions <- list(
  reset_learning_rate = reset_learning_rate,
  current_learning_rate = current_learning_rate,
  read_history = read_history,
  guarded_loop = guarded_loop,
  external_loss = external_loss
)

# Names and defaults; an argument without one has "required".
python_arguments <- function(f) {
  inspect <- reticulate::import("inspect")
  builtins <- reticulate::import_builtins()
  parameters <- inspect$signature(f)$parameters
  values <- lapply(builtins$list(parameters$values()), function(p) {
    if (inherits(p$default, "python.builtin.type")) "required" else p$default # inspect.Parameter.empty
  })
  names <- unlist(builtins$list(parameters$keys()))
  names(values) <- ifelse(names == "model_or_optimizer", "object", names)
  if ("initial_epoch" %in% names) values$initial_epoch <- values$initial_epoch + 1L # counted from 1
  values
}
# Where R names all choices, the first is the default.
r_arguments <- function(f) {
  lapply(formals(f), function(default) {
    value <- if (identical(deparse(default), "")) "required" else eval(default)
    if (is.character(value)) value[1L] else value
  })
}

test_that("R and Python have the same options with the same defaults", {
  skip_without_keras()
  path <- system.file("python", package = "kguard")
  core <- reticulate::import_from_path("pykguard", path = path)
  for (name in names(c(constructors, functions))) {
    python <- python_arguments(core[[name]])
    ours <- r_arguments(c(constructors, functions)[[name]])
    expect_identical(names(ours), names(python), label = name)
    expect_equal(ours, python, label = name)
  }
})

test_that("$new() takes what the constructor takes", {
  generators <- list(
    RevertOnLossIncrease, RevertToBestOnIncrease, RestoreBest, SpikeGuard, LossHistory,
    ResetLearningRate
  )
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
    "SpikeGuard", "callback_spike_guard",
    "LossHistory", "callback_loss_history", "read_history",
    "ResetLearningRate", "callback_reset_learning_rate",
    "reset_learning_rate", "current_learning_rate",
    "guarded_loop",
    "external_loss", "external_loss_model"
  ))
})
