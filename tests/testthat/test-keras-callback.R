# Records every hook it is called with.
recorder <- function(hooks) {
  record <- lapply(stats::setNames(hooks, hooks), function(hook) {
    body <- if (grepl("_(epoch|batch)_", hook)) {
      bquote(function(index, logs = NULL) self$note(.(hook), index, logs))
    } else {
      bquote(function(logs = NULL) self$note(.(hook), NA, logs))
    }
    eval(body)
  })
  R6::R6Class("Recorder",
    inherit = KerasCallback,
    public = c(record, list(
      seen = NULL,
      note = function(hook, index, logs) {
        self$seen <- rbind(self$seen, data.frame(hook, index = as.integer(index)))
      }
    ))
  )$new()
}

test_that("a hook that is not overridden is not crossed into R", {
  skip_without_keras()
  quiet <- reticulate::r_to_py(recorder(character()))
  one <- reticulate::r_to_py(recorder("on_batch_end"))
  default <- function(callback, hook) {
    reticulate::py_has_attr(callback[[hook]], "_is_default")
  }
  # Those are always there in Python, to look for an object that is in the list twice.
  beginnings <- c("on_train_begin", "on_test_begin", "on_predict_begin")
  for (hook in setdiff(kguard:::hook_names, beginnings)) {
    expect_true(default(quiet, hook), label = hook)
    expect_identical(default(one, hook), hook != "on_train_batch_end", label = hook)
  }
})

test_that("hooks of fit, evaluate and predict are called in Keras' order, counted from 1", {
  skip_without_keras()
  callback <- recorder(kguard:::hook_names)
  model <- small_model()
  data <- regression_data()
  model$fit(data$x, data$y,
    epochs = 1L, batch_size = 30L, verbose = 0L, validation_data = list(data$x, data$y),
    callbacks = list(callback)
  )
  batches <- function(kind) {
    data.frame(
      hook = paste0("on_", kind, "_batch_", c("begin", "end")),
      index = rep(1:2, each = 2L)
    )
  }
  one <- function(hook, index = NA) data.frame(hook, index = as.integer(index))
  expect_identical(callback$seen, rbind(
    one("on_train_begin"), one("on_epoch_begin", 1), batches("train"),
    one("on_test_begin"), batches("test"), one("on_test_end"),
    one("on_epoch_end", 1), one("on_train_end")
  ))
  callback$seen <- NULL
  model$predict(data$x, batch_size = 30L, verbose = 0L, callbacks = list(callback))
  expect_identical(
    callback$seen,
    rbind(one("on_predict_begin"), batches("predict"), one("on_predict_end"))
  )
})

test_that("the example of the R documentation records the running mean of each batch", {
  skip_without_keras()
  mine <- BatchLosses$new()
  ours <- callback_loss_history()
  fit_quietly(small_model(), list(mine, ours))
  expect_length(mine$losses, 12L)
  expect_equal(mine$losses, ours$batches$logged_loss)
})

test_that("a named list that a hook returns reaches the history and the callbacks behind it", {
  skip_without_keras()
  Adds <- R6::R6Class("Adds",
    inherit = KerasCallback,
    public = list(on_epoch_end = function(epoch, logs = NULL) list(score = -epoch))
  )
  guard <- callback_revert_on_loss_increase("score", mode = "max", tolerance = 1, lr_factor = 0.5)
  history <- fit_quietly(small_model(), list(Adds$new(), guard))
  expect_equal(history$history$score, -(1:4))
  expect_identical(guard$events$epoch, 3:4)
})

test_that("model and params are those of the fit", {
  skip_without_keras()
  Looks <- R6::R6Class("Looks",
    inherit = KerasCallback,
    public = list(
      epochs = NULL, name = NULL,
      on_train_begin = function(logs = NULL) {
        self$epochs <- self$params$epochs
        self$name <- self$model$name
      }
    )
  )
  looks <- Looks$new()
  model <- small_model()
  fit_quietly(model, list(looks))
  expect_identical(looks$epochs, 4L)
  expect_identical(looks$name, model$name)
})

test_that("a subclass keeps its fields, private members, active bindings and super", {
  skip_without_keras()
  First <- R6::R6Class("First",
    inherit = KerasCallback,
    public = list(
      on_epoch_end = function(epoch, logs = NULL) private$count <- private$count + 1
    ),
    private = list(count = 0),
    active = list(counted = function() private$count)
  )
  Second <- R6::R6Class("Second",
    inherit = First,
    public = list(
      on_epoch_end = function(epoch, logs = NULL) {
        super$on_epoch_end(epoch, logs)
        private$count <- private$count + 10
      }
    )
  )
  second <- Second$new()
  fit_quietly(small_model(), list(second))
  expect_identical(second$counted, 44)
})

test_that("a subclass of a guard has its hooks called, and super runs the guard", {
  skip_without_keras()
  Loud <- R6::R6Class("Loud",
    inherit = RevertOnLossIncrease,
    public = list(
      reverts = NULL, batches = 0,
      on_epoch_end = function(epoch, logs = NULL) {
        super$on_epoch_end(epoch, logs)
        self$reverts[epoch] <- self$n_reverts
      },
      on_batch_end = function(batch, logs = NULL) self$batches <- self$batches + 1
    )
  )
  loud <- Loud$new(lr_factor = 0.5)
  model <- small_model()
  fit_quietly(model, list(Breaker$new(2), loud))
  expect_identical(loud$reverts, c(0L, 1L, 1L, 1L))
  expect_identical(loud$batches, 12)
  expect_identical(loud$model$name, model$name)
  expect_true(all(is.finite(unlist(weights_of(model)))))
})

test_that("a subclass of a guard that forgets super$initialize() is told so", {
  skip_without_keras()
  Forgets <- R6::R6Class("Forgets",
    inherit = RevertOnLossIncrease,
    public = list(initialize = function() NULL)
  )
  expect_error(fit_quietly(small_model(), list(Forgets$new())), "super\\$initialize")
})

test_that("an error in a hook names the class and the hook", {
  skip_without_keras()
  Fails <- R6::R6Class("Fails",
    inherit = KerasCallback,
    public = list(on_train_begin = function(logs = NULL) stop("no disk"))
  )
  expect_error(
    fit_quietly(small_model(), list(Fails$new())),
    "Fails$on_train_begin() failed: no disk",
    fixed = TRUE
  )
})

test_that("a class KerasCallback of another package is left to that package", {
  skip_without_keras()
  Foreign <- R6::R6Class("KerasCallback", public = list(x = 1))
  outcome <- tryCatch(
    class(reticulate::r_to_py(Foreign$new()))[1],
    error = conditionMessage
  )
  expect_match(outcome, "PyCapsule|Unable to convert R object") # reticulate's own answers
})

test_that("a callback prints the hooks it overrides", {
  expect_output(print(recorder("on_epoch_end")), "<Recorder>\n  hooks: on_epoch_end")
  expect_output(print(KerasCallback$new()), "hooks: none")
})

test_that("the base class has every hook, so that super can be called", {
  callback <- KerasCallback$new()
  aliases <- unname(kguard:::hook_aliases)
  for (hook in c(kguard:::hook_names, aliases)) {
    given <- if (kguard:::is_indexed(hook)) list(1L, list(loss = 1)) else list(list(loss = 1))
    expect_null(do.call(callback[[hook]], given), label = hook)
  }
  callback$set_context(list(epochs = 3L), "a model")
  expect_identical(callback$params$epochs, 3L)
  expect_identical(callback$model, "a model")
})

test_that("super of every hook of a guard runs the guard, with its params and model", {
  skip_without_keras()
  hooks <- c("on_epoch_begin", "on_epoch_end", "on_train_batch_begin", "on_train_batch_end")
  passing <- lapply(stats::setNames(hooks, hooks), function(hook) {
    eval(bquote(function(index, logs = NULL) super[[.(hook)]](index, logs)))
  })
  Passes <- R6::R6Class("Passes",
    inherit = RevertOnLossIncrease,
    public = c(passing, list(
      seen = NULL,
      on_train_begin = function(logs = NULL) {
        super$on_train_begin(logs)
        self$seen <- self$params$epochs
      },
      on_train_end = function(logs = NULL) super$on_train_end(logs)
    ))
  )
  mine <- Passes$new()
  alone <- callback_revert_on_loss_increase()
  fit_quietly(small_model(), list(Breaker$new(2), mine))
  fit_quietly(small_model(), list(Breaker$new(2), alone))
  expect_identical(mine$seen, 4L)
  expect_identical(mine$events$epoch, 2L)
  same <- setdiff(names(alone$events), "reason") # which names the model's layers
  expect_equal(mine$events[same], alone$events[same])
})

test_that("an interrupt in a hook is passed on to Python as such", {
  skip_without_keras()
  interrupt <- structure(class = c("interrupt", "condition"), list(message = "", call = NULL))
  Stops <- R6::R6Class("Stops",
    inherit = KerasCallback,
    public = list(
      set_context = function(params = NULL, model = NULL) stop(interrupt),
      on_epoch_end = function(epoch, logs = NULL) stop(interrupt)
    )
  )
  python <- reticulate::r_to_py(Stops$new())
  caught <- function(code) {
    tryCatch(code, interrupt = function(i) "KeyboardInterrupt", error = conditionMessage)
  }
  expect_match(caught(python$on_epoch_end(0L)), "KeyboardInterrupt")
  expect_match(caught(python$set_params(list(epochs = 1L))), "KeyboardInterrupt")
})
