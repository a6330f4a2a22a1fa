# Rates are measured: one weight, which each step of plain SGD lowers by exactly the rate.
model_at <- function(rate, ...) {
  layers <- keras()$layers
  model <- keras()$Sequential(list(
    layers$Input(list(1L)), layers$Dense(1L, use_bias = FALSE, kernel_initializer = "zeros")
  ))
  model$compile(keras()$optimizers$SGD(rate), "mean_absolute_error", ...)
  model
}
weight_of <- function(model) as.vector(model$get_weights()[[1]])

StepSizes <- R6::R6Class("StepSizes",
  inherit = KerasCallback,
  public = list(
    sizes = NULL, before = NULL,
    on_train_batch_begin = function(batch, logs = NULL) self$before <- weight_of(self$model),
    on_train_batch_end = function(batch, logs = NULL) {
      self$sizes <- c(self$sizes, self$before - weight_of(self$model))
    }
  )
)
# The rates of the steps, a row an epoch of four steps.
rates_of <- function(model, ..., epochs = 1L, initial_epoch = 0L) {
  sizes <- StepSizes$new()
  model$fit(matrix(1, 4), matrix(-1000, 4),
    batch_size = 1L, epochs = as.integer(epochs), initial_epoch = as.integer(initial_epoch),
    verbose = 0L, callbacks = list(..., sizes)
  )
  matrix(sizes$sizes, ncol = 4, byrow = TRUE)
}
halving <- function(rate = 0.5) keras()$optimizers$schedules$ExponentialDecay(rate, 1L, 0.5)
expect_rates <- function(found, ..., label = NULL) {
  expect_equal(found, rbind(..., deparse.level = 0L), tolerance = 1e-5, label = label)
}
flat <- function(rate) rep(rate, 4)
restarted <- 0.5^(1:4)
went_on <- 0.5^(5:8)

constant <- function(rate) function() rate
old <- list(number = constant(0.125), schedule = function() halving(1), `function` = constant(constant(0.03)))
new <- list(number = constant(0.25), schedule = halving, `function` = constant(constant(0.06)))
old_rates <- list(number = flat(0.125), schedule = 0.5^(0:3), `function` = flat(0.03))
new_rates <- list(number = flat(0.25), schedule = restarted, `function` = flat(0.06))

for (from in names(old)) {
  for (to in names(new)) {
    direction <- paste("from", from, "to", to)

    test_that(paste("a rate is reset before fit(),", direction), {
      skip_without_keras()
      model <- model_at(old[[from]]())
      reset_learning_rate(model, new[[to]]())
      expect_rates(rates_of(model), new_rates[[to]])
    })

    test_that(paste("a rate is reset between calls of fit(),", direction), {
      skip_without_keras()
      model <- model_at(old[[from]]())
      expect_rates(rates_of(model), old_rates[[from]])
      reset_learning_rate(model, new[[to]]())
      expect_equal(current_learning_rate(model), new_rates[[to]][1], tolerance = 1e-6)
      expect_rates(rates_of(model), new_rates[[to]])
    })

    test_that(paste("a rate is reset by a hook within an epoch,", direction), {
      skip_without_keras()
      Resets <- R6::R6Class("Resets",
        inherit = KerasCallback,
        public = list(
          on_train_batch_end = function(batch, logs = NULL) {
            if (batch == 2) reset_learning_rate(self$model, new[[to]]())
          }
        )
      )
      expect_rates(
        rates_of(model_at(old[[from]]()), Resets$new()), c(old_rates[[from]][1:2], new_rates[[to]][1:2])
      )
    })
  }
}

test_that("without restart a schedule goes on from the optimizer's step", {
  skip_without_keras()
  model <- model_at(0.125)
  rates_of(model)
  reset_learning_rate(model, halving(), restart = FALSE)
  expect_equal(current_learning_rate(model), went_on[1])
  expect_rates(rates_of(model), went_on)
})

test_that("the model or its optimizer is returned, so that calls can be piped", {
  skip_without_keras()
  model <- model_at(0.125)
  expect_invisible(reset_learning_rate(model, 0.25))
  expect_identical(reset_learning_rate(model, 0.25), model)
  expect_identical(current_learning_rate(reset_learning_rate(model$optimizer, 0.5)), 0.5)
  expect_rates(rates_of(model), flat(0.5))
})

test_that("the present rate is that of the next step", {
  skip_without_keras()
  model <- model_at(halving())
  expect_identical(current_learning_rate(model), 0.5)
  rates_of(model)
  expect_identical(current_learning_rate(model$optimizer), went_on[1])
  optimizer <- model$optimizer
  optimizer$learning_rate <- halving(8) # which Keras' compiled step would not use
  expect_identical(current_learning_rate(model), 0.5)
  expect_rates(rates_of(model), 16 * went_on)
})

test_that("a rate that is a function is called when a step is compiled, or at each step", {
  skip_without_keras()
  n_called <- function(...) {
    count <- 0
    model <- model_at(0.125, ...)
    reset_learning_rate(model, function() {
      count <<- count + 1
      0.25
    })
    before <- count
    expect_rates(rates_of(model, epochs = 2), flat(0.25), flat(0.25))
    count - before
  }
  expect_lte(n_called(), 2)
  expect_gte(n_called(run_eagerly = TRUE), 8)
})

# ---- the callback
test_that("the callback counts epochs from 1", {
  skip_without_keras()
  reset <- callback_reset_learning_rate(0.25, epoch = 2)
  expect_rates(rates_of(model_at(0.125), reset, epochs = 3), flat(0.125), flat(0.25), flat(0.25))
  expect_identical(reset$events$epoch, 2L)
})

test_that("at several epochs a schedule starts over, or goes on", {
  skip_without_keras()
  reset <- callback_reset_learning_rate(halving(), c(1, 3))
  expect_rates(rates_of(model_at(0.125), reset, epochs = 3), restarted, went_on, restarted)
  goes_on <- callback_reset_learning_rate(halving(), 2, restart = FALSE)
  expect_rates(rates_of(model_at(0.125), goes_on, epochs = 2), flat(0.125), went_on)
})

test_that("a function of the epoch says when, and one says which rate", {
  skip_without_keras()
  asked <- list(when = NULL, which = NULL)
  when <- function(epoch) {
    asked$when <<- c(asked$when, epoch)
    epoch >= 2
  }
  which <- function(epoch) {
    asked$which <<- c(asked$which, epoch)
    if (epoch == 3) halving() else 1 / epoch
  }
  reset <- callback_reset_learning_rate(which, when)
  expect_rates(rates_of(model_at(0.125), reset, epochs = 3), flat(0.125), flat(0.5), restarted)
  expect_equal(asked, list(when = 1:3, which = 2:3))
})

test_that("a function without arguments is the rate, compiled or not", {
  skip_without_keras()
  for (eagerly in c(FALSE, TRUE)) {
    reset <- callback_reset_learning_rate(function() 0.25, 2)
    model <- model_at(0.125, run_eagerly = eagerly)
    expect_rates(rates_of(model, reset, epochs = 2), flat(0.125), flat(0.25))
  }
})

test_that("a function with a default is called without arguments", {
  skip_without_keras()
  reset <- callback_reset_learning_rate(function(epoch = 4) 1 / epoch, 2)
  expect_rates(rates_of(model_at(0.125), reset, epochs = 2), flat(0.125), flat(0.25))
})

test_that("a vector or a list has one rate for each epoch", {
  skip_without_keras()
  numbers <- callback_reset_learning_rate(c(0.25, 0.5), c(3, 2))
  expect_rates(rates_of(model_at(0.125), numbers, epochs = 3), flat(0.125), flat(0.5), flat(0.25))
  mixed <- callback_reset_learning_rate(list(halving(), 0.25, function() 0.75), 1:3)
  expect_rates(rates_of(model_at(0.125), mixed, epochs = 3), restarted, flat(0.25), flat(0.75))
  one <- callback_reset_learning_rate(list(halving()), 1)
  expect_rates(rates_of(model_at(0.125), one), restarted)
})

test_that("events are a data frame that names the old rate and the new", {
  skip_without_keras()
  reset <- callback_reset_learning_rate(c(0.25, 0.5), c(1, 3), verbose = 1)
  expect_identical(nrow(reset$events), 0L)
  expect_identical(nrow(summary(reset)), 0L)
  output <- reticulate::py_capture_output(rates_of(model_at(0.125), reset, epochs = 3))
  expect_match(output, "Epoch 1: learning rate 0.125 -> 0.25\n")
  expect_match(output, "Epoch 3: learning rate 0.25 -> 0.5\n")
  expect_identical(names(reset$events), names(callback_restore_best()$events))
  expect_identical(reset$events$action, rep("reset_learning_rate", 2))
  expect_identical(as.data.frame(reset), reset$events)
  expect_equal(summary(reset), data.frame(epoch = c(1L, 3L), old = c(0.125, 0.25), new = c(0.25, 0.5)))
  expect_error(reset$events <- 1, "`events` is what was reset", class = "kguard_state_error")
  reticulate::py_capture_output(rates_of(model_at(0.125), reset, epochs = 3))
  expect_identical(nrow(reset$events), 2L)
})

test_that("the record of losses has the events and the rates", {
  skip_without_keras()
  reset <- callback_reset_learning_rate(halving(), c(1, 2))
  losses <- callback_loss_history()
  rates <- rates_of(model_at(0.125), reset, losses, epochs = 2)
  expect_identical(losses$events, reset$events)
  expect_equal(losses$batches$learning_rate, as.vector(t(rates)), tolerance = 1e-5)
})

test_that("the callback can be printed, and made again from its options", {
  skip_without_keras()
  reset <- callback_reset_learning_rate(list(halving(), 0.25, function() 1), c(1, 2, 3), restart = FALSE)
  expect_output(
    print(reset),
    "<ResetLearningRate> at epoch 1, 2, 3\n +learning rate: ExponentialDecay, 0.25, a function\n +events: 0"
  )
  config <- reset$get_config()
  expect_identical(names(config), names(formals(callback_reset_learning_rate)))
  expect_identical(do.call(callback_reset_learning_rate, config)$get_config(), config)
  chosen <- callback_reset_learning_rate(0.25, function(epoch) epoch == 2)
  rates_of(model_at(0.125), chosen, epochs = 2)
  expect_output(print(chosen), "at epoch that a function chooses\n.*Epoch 2: learning rate 0.125 -> 0.25")
})

test_that("a subclass's hook can call the one it overrides", {
  skip_without_keras()
  Told <- R6::R6Class("Told",
    inherit = ResetLearningRate,
    public = list(
      rates = NULL,
      on_epoch_begin = function(epoch, logs = NULL) {
        super$on_epoch_begin(epoch, logs)
        self$rates <- c(self$rates, current_learning_rate(self$model))
      }
    )
  )
  told <- Told$new(0.25, 2)
  rates_of(model_at(0.125), told, epochs = 2)
  expect_identical(told$rates, c(0.125, 0.25))
  expect_identical(told$events$epoch, 2L)
  expect_output(print(told), "<Told> at epoch 2")
})

test_that("a guard scales what was set until it is set anew", {
  skip_without_keras()
  Bad <- R6::R6Class("Bad",
    inherit = KerasCallback,
    public = list(on_epoch_end = function(epoch, logs = NULL) list(loss = as.numeric(epoch == 2)))
  )
  guard <- callback_revert_on_loss_increase(lr_factor = 0.5)
  reset <- callback_reset_learning_rate(halving(), c(2, 4))
  rates <- rates_of(model_at(0.125), reset, Bad$new(), guard, epochs = 4)
  expect_identical(guard$events$epoch, 2L)
  expect_rates(rates[c(1, 2, 4), ], flat(0.125), restarted, restarted)
  expect_rates(rates[3, , drop = FALSE], 0.25 * flat(1) * 0.5^(0:3))
})

# ---- bad use
refused_option <- function(code, argument, must, got) {
  condition <- tryCatch(code, error = identity)
  expect_s3_class(condition, "kguard_option_error")
  expect_identical(condition$argument, argument)
  expect_match(conditionMessage(condition), paste0("`", argument, "` must be .*", must))
  expect_match(conditionMessage(condition), paste0(", got ", got), fixed = TRUE)
  expect_false(grepl("None|True|False|model_or_optimizer", sub(", got .*", "", conditionMessage(condition))))
}

test_that("a rate that cannot be used is refused, and the old one stays", {
  skip_without_keras()
  model <- model_at(0.125)
  rates_of(model)
  bad <- function(rate, got, must = "number above 0") {
    refused_option(reset_learning_rate(model, rate), "learning_rate", must, got)
  }
  bad(0, "0")
  bad(-0.1, "-0.1")
  bad(NaN, "NaN")
  bad(Inf, "Inf")
  bad(NA, "NA")
  bad(NA_real_, "NA_real_")
  bad(TRUE, "TRUE")
  bad("fast", "\"fast\"")
  bad(c(0.1, 0.2), "c(0.1, 0.2)")
  bad(list(0.1), "list(0.1)")
  bad(numeric(), "numeric(0)")
  bad(NULL, "NULL")
  bad(matrix(0.1), "an array of dimensions 1 x 1")
  bad(Sys.Date(), "structure(")
  bad(keras()$layers$Dense, "<class 'keras")
  bad(function(a, b) 0.1, "function (a, b)")
  bad(function(epoch) 0.1, "function (epoch)")
  gives <- "gives a finite number of at least 0"
  bad(function() NaN, "NaN", gives)
  bad(function() NA, "NA", gives)
  bad(function() -1, "-1", gives)
  bad(function() c(0.1, 0.2), "c(0.1, 0.2)", gives)
  bad(function() "fast", "\"fast\"", gives)
  bad(function() NULL, "NULL", gives)
  bad(function() stop("no rate today"), "the error: no rate today", gives)
  bad(keras()$optimizers$schedules$ExponentialDecay(NaN, 1L, 0.5), "NaN", gives)
  refused_option(reset_learning_rate(model, 0.1, NA), "restart", "TRUE or FALSE", "NA")
  refused_option(reset_learning_rate(model, 0.1, 1), "restart", "TRUE or FALSE", "1")
  expect_identical(current_learning_rate(model), 0.125)
  expect_rates(rates_of(model), flat(0.125))
})

test_that("what has no learning rate is refused", {
  skip_without_keras()
  bare <- keras()$Sequential(list(keras()$layers$Dense(1L)))
  for (f in list(function(object) reset_learning_rate(object, 0.1), current_learning_rate)) {
    refused_option(f(bare), "object", "compiled with an optimizer", "<Sequential")
    refused_option(f("adam"), "object", "a Keras model or optimizer", "\"adam\"")
    refused_option(f(NULL), "object", "a Keras model or optimizer", "NULL")
    refused_option(f(keras()$layers$Dense(1L)), "object", "a Keras model or optimizer", "<Dense")
    refused_option(f(callback_restore_best()), "object", "a Keras model or optimizer", "<environment>")
  }
})

test_that("an object of another session is refused", {
  skip_without_keras()
  saved <- unserialize(serialize(halving(), NULL))
  gone <- "a Python object of another session of R"
  refused_option(reset_learning_rate(model_at(0.1), saved), "learning_rate", "schedule", gone)
  refused_option(current_learning_rate(saved), "object", "a Keras model", gone)
})

test_that("options of the callback that cannot be used are refused", {
  skip_without_keras()
  bad <- function(argument, got, must, ...) {
    refused_option(callback_reset_learning_rate(...), argument, must, got)
  }
  bad_rate <- function(rate, got, must = "number above 0", epoch = 1) {
    bad("learning_rate", got, must, rate, epoch)
  }
  bad_rate(0, "0")
  bad_rate(NA, "NA")
  bad_rate(NULL, "NULL")
  bad_rate("fast", "\"fast\"")
  bad_rate(function(a, b) 1, "function (a, b)", "or of the epoch")
  bad_rate(c(0.1, 0.2), "c(0.1, 0.2)", "one for each epoch")
  bad_rate(c(0.1, 0.2), "c(0.1, 0.2)", "one for each epoch", epoch = 1:3)
  bad_rate(c(0.1, 0.2), "c(0.1, 0.2)", "one for each epoch", epoch = function(epoch) TRUE)
  bad_rate(list(), "list()", "one for each epoch")
  bad_rate(c(0.1, -0.2), "-0.2", epoch = 1:2)
  bad_rate(list(0.1, "b"), "\"b\"", epoch = 1:2)
  bad_rate(list(0.1, function(epoch) 1), "function (epoch)", epoch = 1:2)
  bad_epoch <- function(epoch, got, must = "a whole number of at least 1") bad("epoch", got, must, 0.1, epoch)
  bad_epoch(0, "0")
  bad_epoch(-1, "-1")
  bad_epoch(1.5, "1.5")
  bad_epoch(NA, "NA")
  bad_epoch(NULL, "NULL")
  bad_epoch(TRUE, "TRUE")
  bad_epoch("all", "\"all\"")
  bad_epoch(list(1, 2), "list(1, 2)")
  bad_epoch(c(1, NA), "NA_real_")
  bad_epoch(c(2, 0), "c(2, 0)")
  bad_epoch(c(1, 1), "c(1, 1)", "several different ones")
  bad_epoch(integer(), "integer(0)", "several different ones")
  bad_epoch(function() TRUE, "function ()", "a function of the epoch")
  bad_epoch(function(a, b) TRUE, "function (a, b)", "a function of the epoch")
  bad("restart", "NA", "TRUE or FALSE", 0.1, 1, restart = NA)
  bad("verbose", "TRUE", "a whole number", 0.1, 1, verbose = TRUE)
  expect_error(callback_reset_learning_rate(0.1), "\"epoch\" is missing")
})

test_that("an epoch in the past is refused, one that does not come is warned of", {
  skip_without_keras()
  model <- model_at(0.125)
  expect_error(
    rates_of(model, callback_reset_learning_rate(0.5, c(2, 5)), initial_epoch = 3, epochs = 6),
    "`epoch` must be at least 4, where this `fit` begins"
  )
  expect_identical(weight_of(model), 0)
  expect_warning(
    rates <- rates_of(model, callback_reset_learning_rate(0.5, c(2, 4)), epochs = 3),
    "epoch 4, counted from 1, is beyond the 3 epochs", class = "kguard_warning"
  )
  expect_rates(rates, flat(0.125), flat(0.5), flat(0.5))
  expect_silent(rates_of(model, callback_reset_learning_rate(0.5, c(4, 6)), initial_epoch = 3, epochs = 6))
})

test_that("a function that gives no rate or no decision stops fit(), and the old rate stays", {
  skip_without_keras()
  model <- model_at(0.125)
  stops <- function(pattern, rate = 0.5, epoch = 1) {
    expect_error(rates_of(model, callback_reset_learning_rate(rate, epoch)), pattern)
    expect_identical(current_learning_rate(model), 0.125)
  }
  stops("`learning_rate` must be a number above 0.*got NA", function(epoch) NA)
  stops("`learning_rate` must be a number above 0.*got \"fast\"", function(epoch) "fast")
  stops("`learning_rate` must be a number above 0.*got the error: boom", function(epoch) stop("boom"))
  stops("`learning_rate` must be one that gives.*got NaN", function() NaN)
  stops("`epoch` must be a function that gives TRUE or FALSE, got NA", epoch = function(epoch) NA)
  stops("`epoch` must be a function that gives TRUE or FALSE, got 1", epoch = function(epoch) 1)
  stops("`epoch`, a function, failed: boom", epoch = function(epoch) stop("boom"))
})

test_that("a function is refused where several devices call it from their threads", {
  skip_without_keras()
  output <- in_fresh_r(c(
    "library(kguard)",
    "tf <- reticulate::import('tensorflow')",
    "keras <- reticulate::import('keras')",
    "two <- list(tf$config$LogicalDeviceConfiguration(), tf$config$LogicalDeviceConfiguration())",
    "tf$config$set_logical_device_configuration(tf$config$list_physical_devices('CPU')[[1]], two)",
    "strategy <- tf$distribute$MirroredStrategy(list('CPU:0', 'CPU:1'))",
    "with(strategy$scope(), {",
    "  model <- keras$Sequential(list(keras$layers$Dense(1L)))",
    "  model$compile('sgd', 'mse')",
    "})",
    "train <- function() model$fit(matrix(1, 4), matrix(1, 4), batch_size = 2L, verbose = 0L)",
    "reset_learning_rate(model, function() 0.25)",
    "cat(tryCatch(train(), error = conditionMessage), '\\n')",
    "reset_learning_rate(model, 0.25)",
    "invisible(train())",
    "cat('still at', current_learning_rate(model), '\\n')"
  ))
  refused_then_trained <- "`learning_rate` must be a number or a schedule where .*still at 0.25"
  expect_match(paste(output, collapse = " "), refused_then_trained)
})

# ---- other front ends
test_that("keras3's models, schedules and fit() are served", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  model <- keras3_model()
  cosine <- keras3("learning_rate_schedule_cosine_decay")(0.1, decay_steps = 6)
  reset <- callback_reset_learning_rate(cosine, epoch = c(2, 4))
  losses <- callback_loss_history()
  data <- regression_data()
  keras3("fit")(model, data$x, data$y,
    epochs = 4, batch_size = 20, verbose = 0, callbacks = list(reset, losses)
  )
  decay <- function(steps) 0.05 * (1 + cos(pi * steps / 6))
  rates <- losses$batches$learning_rate
  expect_equal(rates, c(rep(0.001, 3), decay(0:5), decay(0:2)), tolerance = 1e-5)
  expect_identical(reset$events$epoch, c(2L, 4L))
  expect_identical(reset_learning_rate(model, 0.5), model)
  expect_identical(current_learning_rate(model), 0.5)
  optimizer <- keras3("optimizer_adam")(cosine)
  expect_equal(current_learning_rate(optimizer), 0.1, tolerance = 1e-6)
  expect_equal(current_learning_rate(reset_learning_rate(optimizer, function() 0.25)), 0.25)
})

test_that("keras 2.16's models, schedules and fit() are served, with epochs from 1", {
  output <- in_keras2(c(
    "schedule <- learning_rate_schedule_exponential_decay(0.5, 1, 0.5)",
    "reset <- callback_reset_learning_rate(list(schedule, function() 0.25), c(2, 3))",
    "losses <- callback_loss_history()",
    "invisible(train(list(reset, losses), epochs = 3))",
    "cat(reset$events$epoch, '\\n')",
    "cat(round(losses$batches$learning_rate, 5), '\\n')",
    "model <- new_model()",
    "cat(current_learning_rate(reset_learning_rate(model, 0.125)), '\\n')"
  ))
  expect_identical(
    trimws(utils::tail(output, 3)), c("2 3", "0.001 0.001 0.001 0.5 0.25 0.125 0.25 0.25 0.25", "0.125")
  )
})
