# Objects and calls that cannot work, and what their user is told. Each is a condition of kguard's own,
# or carries its message through Python.
refused <- function(code, pattern, ...) {
  code <- substitute(code)
  expect_error(eval.parent(code), pattern, ..., label = paste(deparse(code), collapse = " "))
}

# R6 gives methods an environment of their own, whose parent is `around`.
hooked <- function(hook, f, inherit = KerasCallback, around = parent.frame()) {
  parent <- new.env(parent = around)
  parent$inherited <- inherit
  R6::R6Class("Mine",
    inherit = inherited, parent_env = parent,
    public = stats::setNames(list(f), hook)
  )
}

fits <- function(...) fit_quietly(small_model(), list(...), epochs = 2L)

test_that("a generator in the place of an object is refused", {
  skip_without_keras()
  Mine <- hooked("on_epoch_end", function(epoch, logs = NULL) NULL)
  refused(fits(KerasCallback), "KerasCallback.*\\$new\\(\\)")
  refused(fits(RevertOnLossIncrease), "RevertOnLossIncrease.*\\$new\\(\\)")
  refused(fits(RestoreBest), "\\$new\\(\\)")
  refused(fits(LossHistory), "\\$new\\(\\)")
  refused(fits(ResetLearningRate), "\\$new\\(\\)")
  # keras3 and keras make Python classes of generators once they are loaded.
  for (package in c("keras3", "keras")) if (nzchar(system.file(package = package))) loadNamespace(package)
  refused(fits(Mine), "\\$new\\(\\)")
  refused(fits(callback_restore_best()$new), "set_model|callback")
})

test_that("an object that was not initialised is refused", {
  skip_without_keras()
  Forgets <- R6::R6Class("Forgets", inherit = RestoreBest, public = list(initialize = function() NULL))
  forgets <- Forgets$new()
  refused(fits(forgets), "Forgets has no Python guard.*super\\$initialize\\(\\)")
  refused(forgets$events, "super\\$initialize", class = "kguard_state_error")
  refused(forgets$best, "super\\$initialize", class = "kguard_state_error")
  refused(summary(forgets), "super\\$initialize", class = "kguard_state_error")
  Silent <- R6::R6Class("Silent", inherit = LossHistory, public = list(initialize = function() NULL))
  refused(Silent$new()$losses, "super\\$initialize", class = "kguard_state_error")
  refused(plot(Silent$new()), "super\\$initialize", class = "kguard_state_error")
})

test_that("a hook that does not take its arguments is refused before training", {
  skip_without_keras()
  model <- small_model()
  before <- weights_of(model)
  refused_hook <- function(hook, f, pattern) {
    expect_error(fit_quietly(model, list(hooked(hook, f)$new())), pattern, fixed = TRUE, label = hook)
  }
  refused_hook("on_epoch_end", function(epoch) NULL, "on_epoch_end() must take (epoch, logs)")
  refused_hook("on_epoch_begin", function() NULL, "on_epoch_begin() must take (epoch, logs), it takes ()")
  refused_hook("on_train_begin", function() NULL, "on_train_begin() must take (logs), it takes ()")
  refused_hook("on_train_batch_end", function(batch) NULL, "must take (batch, logs), it takes (batch)")
  refused_hook("on_epoch_end", function(a, b, c) NULL, "it takes (a, b, c)")
  refused_hook("on_predict_begin", function(logs, more) NULL, "on_predict_begin() must take (logs)")
  expect_identical(weights_of(model), before)
})

test_that("hooks may name their arguments as they like, and have more with defaults", {
  skip_without_keras()
  seen <- NULL
  note <- function(e, l, more = 1) seen <<- c(seen, e)
  fits(hooked("on_epoch_end", note)$new(), hooked("on_epoch_end", function(...) NULL)$new())
  expect_identical(seen, 1:2)
})

test_that("an object that is in the list twice is refused before training", {
  skip_without_keras()
  mine <- hooked("on_epoch_end", function(epoch, logs = NULL) NULL)$new()
  guard <- callback_revert_on_loss_increase()
  losses <- callback_loss_history()
  quiet <- KerasCallback$new()
  loud <- hooked("on_epoch_end", function(epoch, logs = NULL) NULL, RestoreBest)$new("loss")
  model <- small_model()
  before <- weights_of(model)
  refused(fit_quietly(model, list(mine, mine)), "Mine.*twice")
  refused(fit_quietly(model, list(quiet, quiet)), "KerasCallback.*twice")
  refused(fit_quietly(model, list(guard, guard)), "RevertOnLossIncrease.*twice")
  refused(fit_quietly(model, list(losses, guard, losses)), "LossHistory.*twice")
  refused(fit_quietly(model, list(loud, loud)), "Mine.*twice")
  expect_identical(weights_of(model), before)
  fit_quietly(model, list(mine, guard, losses, quiet, loud)) # once each, also after they were refused
  fit_quietly(model, list(mine, guard, losses, quiet, loud))
  expect_length(losses$losses, 12L)
})

test_that("a guard from a saved workspace says that its Python half is gone", {
  skip_without_keras()
  file <- tempfile(fileext = ".rds")
  on.exit(unlink(file))
  Mine <- hooked("on_epoch_end", function(epoch, logs = NULL) NULL)
  mine <- Mine$new()
  guard <- callback_revert_on_loss_increase()
  losses <- callback_loss_history()
  fits(mine, guard, losses)
  saveRDS(list(mine, guard, losses), file)
  again <- readRDS(file)
  gone <- "saved in another session"
  refused(again[[2]]$events, gone, class = "kguard_state_error")
  refused(again[[2]]$get_config(), gone, class = "kguard_state_error")
  refused(print(again[[2]]), gone, class = "kguard_state_error")
  refused(summary(again[[2]]), gone, class = "kguard_state_error")
  refused(again[[3]]$losses, gone, class = "kguard_state_error")
  refused(as.data.frame(again[[3]]), gone, class = "kguard_state_error")
  refused(plot(again[[3]]), gone, class = "kguard_state_error")
  refused(fits(again[[2]]), gone)
  fits(again[[1]]) # has nothing in Python, and works
})

test_that("a forked process is told that it cannot use Python", {
  skip_without_keras()
  skip_on_os("windows")
  guard <- callback_revert_on_loss_increase()
  say <- function(code) {
    child <- parallel::mcparallel(tryCatch(code, error = conditionMessage))
    parallel::mccollect(child)[[1]]
  }
  expect_match(say(callback_restore_best()), "fork of the process")
  expect_match(say(guard$events), "fork of the process")
  expect_s3_class(guard$events, "data.frame")
})

test_that("what a guard found cannot be assigned", {
  skip_without_keras()
  guard <- callback_revert_on_loss_increase()
  losses <- callback_loss_history()
  for (field in c("events", "n_reverts", "best", "best_epoch", "monitor")) {
    refused(guard[[field]] <- 1, field, class = "kguard_state_error")
  }
  for (field in c("losses", "batches", "epochs", "batches_per_epoch")) {
    refused(losses[[field]] <- 1, field, class = "kguard_state_error")
  }
})

test_that("plots refuse what is not of the fit", {
  skip_without_keras()
  guard <- callback_revert_on_loss_increase()
  losses <- callback_loss_history()
  refused(plot(losses), "nothing to plot", class = "kguard_state_error")
  refused(plot(guard), "nothing to plot", class = "kguard_state_error")
  refused(plot(guard, 1:3), "`history` must be NULL or what fit", class = "kguard_option_error")
  refused(plot(guard, list(loss = 1)), "`history`", class = "kguard_option_error")
  fits(losses)
  refused(plot(losses, 1), "`guard` must be NULL or a guard", class = "kguard_option_error")
  refused(plot(losses, losses), "`guard`", class = "kguard_option_error")
})

test_that("an error in a hook keeps the condition that it came from", {
  skip_without_keras()
  told <- structure(class = c("mine", "error", "condition"), list(message = "no disk", call = NULL))
  mine <- hooked("on_epoch_end", function(epoch, logs = NULL) stop(told))$new()
  condition <- tryCatch(fits(mine), error = identity)
  expect_match(conditionMessage(condition), "Mine$on_epoch_end() failed: no disk", fixed = TRUE)
  skip_if(utils::packageVersion("reticulate") < "1.29", "before, Python lets only the message through")
  expect_s3_class(condition$parent, "mine")
  expect_true("kguard_hook_error" %in% condition$r_class)
})

test_that("warnings and messages in hooks reach the user", {
  skip_without_keras()
  warns <- hooked("on_epoch_end", function(epoch, logs = NULL) if (epoch == 2) warning("it is late"))$new()
  speaks <- hooked("on_epoch_end", function(epoch, logs = NULL) if (epoch == 1) message("good morning"))$new()
  expect_warning(fits(warns), "it is late")
  expect_message(fits(speaks), "good morning")
})
