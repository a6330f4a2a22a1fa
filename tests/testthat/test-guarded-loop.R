adam <- function(rate = 0.01) keras()$optimizers$Adam(rate)

new_loop <- function(..., model = small_model(), optimizer = adam(), verbose = 0) {
  guarded_loop(model, optimizer, ..., verbose = verbose)
}

# A loop in which nothing is trained: `losses` are reported in each epoch, which the callbacks see.
idle <- function(loop, losses = 1) {
  suppressWarnings(with(loop, while (loop$next_epoch()) {
    while (!is.null(i <- loop$next_batch(length(losses)))) loop$report(losses[[i]])
  }), classes = "kguard_warning")
  loop
}

# ---- as by fit
fitted <- function(callbacks, epochs = 3L, optimizer = adam()) {
  data <- regression_data()
  model <- small_model(optimizer)
  model$run_eagerly <- TRUE
  history <- model$fit(data$x, data$y,
    epochs = epochs, batch_size = 25L, verbose = 0L, shuffle = FALSE, callbacks = callbacks
  )
  list(model = model, history = history)
}

test_that("weights, history and record are those of fit()", {
  skip_without_keras()
  by_fit <- callback_loss_history()
  by_loop <- callback_loss_history()
  theirs <- fitted(list(by_fit))
  model <- small_model()
  optimizer <- adam()
  loop <- guarded_loop(model, optimizer, list(by_loop), 3, steps = 3, verbose = 0)
  train_in_loop(loop, model, optimizer)
  expect_equal(weights_of(model), weights_of(theirs$model), tolerance = 1e-6)
  expect_equal(loop$history$metrics$loss, theirs$history$history$loss, tolerance = 1e-6)
  expect_identical(loop$history$params, theirs$history$params)
  expect_identical(loop$history$epoch, 1:3)
  columns <- c("epoch", "batch", "loss", "logged_loss", "learning_rate", "size", "exact")
  expect_identical(by_loop$batches$size, rep(c(25L, 25L, 10L), 3))
  expect_equal(by_loop$batches[columns], by_fit$batches[columns], tolerance = 1e-6)
  expect_equal(by_loop$epochs, by_fit$epochs, tolerance = 1e-6)
})

test_that("hooks in R are called as by fit(), counted from 1", {
  skip_without_keras()
  by_fit <- r_recorder()
  by_loop <- r_recorder()
  python <- python_recorder(keras()$callbacks)
  fitted(list(by_fit), epochs = 2L)
  model <- small_model()
  optimizer <- adam()
  train_in_loop(guarded_loop(model, optimizer, list(by_loop, python), 2, verbose = 0), model, optimizer)
  expect_length(seen_by(by_loop), 18L)
  expect_identical(seen_by(by_loop), seen_by(by_fit))
  expect_identical(seen_by(python), seen_by(by_fit))
})

test_that("training goes on at the initial epoch, counted from 1", {
  skip_without_keras()
  seen <- NULL
  loop <- new_loop(epochs = 4, initial_epoch = 3)
  expect_identical(c(loop$epoch, loop$batch), c(0L, 0L))
  suppressWarnings(with(loop, while (loop$next_epoch()) {
    while (!is.null(loop$next_batch(2))) {
      seen <- c(seen, loop$epoch, loop$batch)
      loop$report(1)
    }
  }))
  expect_identical(seen, c(3L, 1L, 3L, 2L, 4L, 1L, 4L, 2L))
  expect_identical(loop$history$epoch, 3:4)
  expect_identical(as.data.frame(loop$history)$epoch, 3:4)
})

# ---- roll-backs
test_that("two models in turn are rolled back together, bit for bit", {
  skip_without_keras()
  train_two <- function(epochs, guard = NULL, spoil = function(epoch, i, batch) batch) {
    models <- list(small_model(), small_model())
    optimizers <- list(adam(), keras()$optimizers$SGD(0.01, momentum = 0.9))
    loop <- guarded_loop(models, optimizers, guard, epochs, verbose = 0)
    batches <- loop_batches()
    with(loop, while (loop$next_epoch()) {
      while (!is.null(batch <- loop$next_batch(batches))) {
        batch <- spoil(loop$epoch, loop$batch, batch)
        losses <- Map(tape_step, models, optimizers, list(batch, batch))
        loop$report(losses[[1]], size = nrow(batch$x), other = losses[[2]])
      }
    })
    list(bits = do.call(bits_of, c(models, optimizers)), history = loop$history)
  }
  guard <- callback_revert_on_loss_increase(tolerance = 1000)
  plain <- train_two(3)
  rescued <- train_two(4, guard, nan_in(3, 2))
  expect_identical(is.nan(rescued$history$metrics$other), c(FALSE, FALSE, TRUE, FALSE))
  expect_identical(guard$events$epoch, 3L)
  expect_identical(guard$events$restored_from, 2L)
  expect_gt(length(plain$bits), 20L)
  expect_identical(rescued$bits, plain$bits)
})

test_that("a guard in R sees the validation", {
  skip_without_keras()
  report <- list(
    function(loop, value) loop$report_validation(loss = value, mae = 0.5),
    function(loop, value) loop$report_validation(val_loss = value, val_mae = 0.5),
    function(loop, value) loop$report_validation(list(loss = value, mae = 0.5)),
    function(loop, value) loop$report_validation(c(loss = value, mae = 0.5))
  )
  for (each in report) {
    guard <- callback_revert_on_loss_increase("val_loss")
    loop <- new_loop(guard, epochs = 3)
    suppressWarnings(with(loop, while (loop$next_epoch()) {
      while (!is.null(loop$next_batch(1))) loop$report(1)
      each(loop, c(3, 4, 2)[[loop$epoch]])
    }))
    expect_identical(guard$events$value, 4)
    expect_equal(loop$history$metrics, list(loss = c(1, 1, 1), val_loss = c(3, 4, 2), val_mae = rep(0.5, 3)))
  }
})

# ---- data
given <- function(data, epochs = 2, ...) {
  seen <- list()
  loop <- new_loop(epochs = epochs, ...)
  suppressWarnings(with(loop, while (loop$next_epoch()) {
    while (!is.null(batch <- loop$next_batch(data))) {
      seen <- c(seen, list(batch))
      loop$report(1)
    }
  }))
  seen
}

test_that("batches come from lists, functions, numbers and Python", {
  skip_without_keras()
  expect_identical(given(list("a", 2, list(3))), rep(list("a", 2, list(3)), 2))
  expect_identical(given(3), as.list(rep(1:3, 2)))
  expect_identical(given(list("a", "b", "c"), steps = 2), list("a", "b", "a", "b"))
  expect_identical(given(reticulate::r_to_py(list("a", "b"), convert = TRUE)), list("a", "b", "a", "b"))
  dataset <- tensorflow()$data$Dataset$range(4L)$batch(3L)
  expect_equal(
    lapply(given(dataset), function(tensor) as.vector(tensor$numpy())), list(0:2, 3, 0:2, 3)
  )
  n <- 0
  counts <- function() {
    n <<- n + 1
    if (n %% 4 > 0) n
  }
  expect_identical(given(counts), list(1, 2, 3, 5, 6, 7))
  iterator <- reticulate::as_iterator(reticulate::r_to_py(as.list(1:9), convert = TRUE))
  expect_identical(given(iterator, steps = 2), as.list(1:4))
  generator <- function() as.symbol(".__exhausted__.") # as one of coro's is at its end
  expect_error(given(generator), "epoch 1 had no batch")
})

test_that("data are looked at once in an epoch, as by a for loop", {
  skip_without_keras()
  n <- 0
  make <- function() {
    n <<- n + 1
    list(n, n)
  }
  seen <- NULL
  loop <- new_loop(epochs = 2)
  suppressWarnings(with(loop, while (loop$next_epoch()) {
    while (!is.null(batch <- loop$next_batch(make()))) {
      seen <- c(seen, batch)
      loop$report(1)
    }
    if (loop$epoch == 1) next
    while (!is.null(batch <- loop$next_batch(make()))) {
      seen <- c(seen, batch)
      loop$report(1)
      break
    }
    while (!is.null(batch <- loop$next_batch(list("last")))) {
      seen <- c(seen, batch)
      loop$report(1)
    }
  }))
  expect_identical(seen, c("1", "1", "2", "2", "3", "last"))
})

# What coro::loop() does with `for (x in iterator)`.
go_through <- function(iterator, f) {
  repeat {
    x <- iterator()
    if (identical(x, as.symbol(".__exhausted__."))) break
    f(x)
  }
  expect_identical(iterator(), as.symbol(".__exhausted__."))
}

test_that("epochs and batches are iterators as coro has them", {
  skip_without_keras()
  seen <- NULL
  loop <- new_loop(epochs = 2)
  suppressWarnings(with(loop, go_through(loop$epochs(), function(epoch) {
    go_through(loop$batches(c(list("a"), list("b"))), function(batch) {
      seen <<- c(seen, epoch, batch)
      loop$report(1)
    })
  })))
  expect_identical(seen, c("1", "a", "1", "b", "2", "a", "2", "b"))
  expect_identical(loop$history$epoch, 1:2)
})

test_that("coro's for goes through them", {
  skip_without_keras()
  skip_if_not_installed("coro")
  through <- getExportedValue("coro", "loop")
  seen <- NULL
  loop <- new_loop(epochs = 2)
  suppressWarnings(with(loop, through(for (epoch in loop$epochs()) {
    through(for (batch in loop$batches(3)) {
      seen <- c(seen, epoch, batch)
      loop$report(1)
      if (batch == 2) break
    })
  })))
  expect_identical(seen, c(1L, 1L, 1L, 2L, 2L, 1L, 2L, 2L))
})

test_that("R's own for is refused", {
  skip_without_keras()
  loop <- new_loop()
  expect_error(for (epoch in loop$epochs()) NULL, "for\\(\\) loop sequence")
  expect_error(for (batch in loop$batches(2)) NULL, "for\\(\\) loop sequence")
})

test_that("data that give no batches are refused", {
  skip_without_keras()
  bad <- function(data, got) {
    condition <- tryCatch(given(data), error = identity)
    expect_s3_class(condition, "kguard_option_error")
    expect_match(conditionMessage(condition), "`data` must be a list of batches")
    expect_match(conditionMessage(condition), paste0(", got ", got), fixed = TRUE)
  }
  bad(0, "0")
  bad(2.5, "2.5")
  bad(1:3, "1:3")
  bad(NULL, "NULL")
  bad("rows", "\"rows\"")
  bad(list(1, NULL), "list(1, NULL)")
  bad(data.frame(x = 1), "an array of dimensions 1 x 1")
  bad(matrix(1:4, 2), "an array of dimensions 2 x 2")
  bad(function(i) i, "function (i)")
  bad(keras()$layers$Dense(1L), "<Dense")
  nones <- reticulate::r_to_py(list(1, NULL), convert = TRUE)
  expect_error(given(nones), "`data` must be of batches that are not NULL", class = "kguard_option_error")
})

# ---- how it ends
test_that("a callback that stops the training ends the batches and the epochs", {
  skip_without_keras()
  Stops <- R6::R6Class("Stops",
    inherit = KerasCallback,
    public = list(
      on_batch_end = function(batch, logs = NULL) if (logs$loss == 2) self$model$stop_training <- TRUE
    )
  )
  recorder <- r_recorder()
  loop <- idle(new_loop(list(Stops$new(), recorder), epochs = 5), c(2, 7, 7))
  expect_true(loop$stopped)
  expect_identical(loop$history$metrics$loss, 2)
  last <- c("on_train_batch_end 0 loss", "on_epoch_end 0 loss", "on_train_end  loss")
  expect_identical(utils::tail(seen_by(recorder), 3L), last)
  early <- keras()$callbacks$EarlyStopping("loss", patience = 1L)
  loop <- idle(new_loop(early, epochs = 9))
  expect_identical(loop$history$epoch, 1:2)
})

# Trains until the second epoch's second batch, and there does `how`, an expression.
ended <- function(how, callbacks = NULL, reported = FALSE, ...) {
  model <- small_model()
  optimizer <- adam()
  loop <- guarded_loop(model, optimizer, callbacks, 3, verbose = 0, ...)
  batches <- loop_batches()
  before <- NULL
  value <- tryCatch(
    with(loop, while (loop$next_epoch()) {
      while (!is.null(batch <- loop$next_batch(batches))) {
        before <- bits_of(model, optimizer)
        loss <- tape_step(model, optimizer, batch)
        is_here <- loop$epoch == 2L && loop$batch == 2L
        if (reported || !is_here) loop$report(loss)
        if (is_here && is.null(how)) break
        if (is_here) eval(how)
      }
      if (is.null(how) && loop$epoch == 2L) break
    }),
    error = identity, interrupt = identity
  )
  list(before = before, after = bits_of(model, optimizer), loop = loop, value = value)
}

test_that("an error undoes the batch, closes the files and goes on as it is", {
  skip_without_keras()
  path <- tempfile(fileext = ".csv")
  on.exit(unlink(path))
  losses <- callback_loss_history(path)
  recorder <- r_recorder()
  mine <- structure(class = c("mine", "error", "condition"), list(message = "no disk", call = NULL))
  found <- ended(bquote(stop(.(mine))), list(losses, recorder))
  expect_identical(found$value, mine)
  expect_identical(found$after, found$before)
  expect_false(any(grepl("on_train_end", seen_by(recorder))))
  expect_length(read_history(path)[[1]]$losses, 4L)
  where <- "ended by an error in epoch 2, batch 2; the weights are as before that batch"
  expect_output(print(found$loop), where)
})

test_that("after an error between batches the callbacks are told of no end", {
  skip_without_keras()
  condition <- structure(class = c("interrupt", "condition"), list(message = "", call = NULL))
  for (how in list(quote(stop("mine")), bquote(signalCondition(.(condition))))) {
    recorder <- r_recorder()
    found <- ended(how, recorder, reported = TRUE)
    expect_s3_class(found$value, "condition")
    expect_false(identical(found$after, found$before))
    expect_false(any(grepl("on_train_end", seen_by(recorder))))
    expect_output(print(found$loop), "ended by an error in epoch 2\n")
  }
})

test_that("without restoring, an error leaves what the batch did", {
  skip_without_keras()
  found <- ended(quote(stop("mine")), restore_on_error = FALSE)
  expect_false(identical(found$after, found$before))
})

test_that("an interrupt is an error", {
  skip_without_keras()
  recorder <- r_recorder()
  condition <- structure(class = c("interrupt", "condition"), list(message = "", call = NULL))
  found <- ended(bquote(signalCondition(.(condition))), recorder)
  expect_s3_class(found$value, "interrupt")
  expect_identical(found$after, found$before)
  expect_false(any(grepl("on_train_end", seen_by(recorder))))
})

test_that("after break and return() the callbacks are told of the end", {
  skip_without_keras()
  leave <- list(
    `break` = function(loop) {
      for (seed in 1:2) with(loop, while (loop$next_epoch()) {
        while (!is.null(i <- loop$next_batch(3))) {
          loop$report(i)
          if (i == 2L) break
        }
        break
      })
    },
    `break of an outer loop` = function(loop) {
      repeat with(loop, {
        loop$next_epoch()
        loop$next_batch(3)
        loop$report(1)
        break
      })
    },
    `return` = function(loop) {
      with(loop, {
        loop$next_epoch()
        loop$next_batch(3)
        loop$report(1)
        return("found")
      })
      "not returned"
    }
  )
  for (how in names(leave)) {
    recorder <- r_recorder()
    loop <- new_loop(recorder, epochs = 3)
    if (how == "break") {
      expect_error(leave[[how]](loop), "runs once", class = "kguard_loop_error")
    } else {
      value <- leave[[how]](loop)
      if (how == "return") expect_identical(value, "found")
    }
    seen <- seen_by(recorder)
    expect_identical(sum(grepl("on_train_end", seen)), 1L, label = how)
    expect_false(any(grepl("on_epoch_end", seen)), label = how)
    expect_length(loop$history$epoch, 0L)
  }
})

test_that("a break within a batch is warned of, and undoes it", {
  skip_without_keras()
  expect_warning(
    found <- ended(NULL),
    "left in epoch 2, batch 2; the weights are as before that batch; it was not reported",
    class = "kguard_warning"
  )
  expect_identical(found$after, found$before)
})

test_that("an error that the loop has dealt with is none", {
  skip_without_keras()
  recorder <- r_recorder()
  loop <- new_loop(recorder)
  # A handler outside of with() lets the body go on, by a restart inside.
  withCallingHandlers(
    suppressWarnings(with(loop, while (loop$next_epoch()) {
      while (!is.null(loop$next_batch(2))) {
        withRestarts(stop("passing"), go_on = function() NULL)
        loop$report(1)
      }
      break
    })),
    error = function(condition) invokeRestart("go_on")
  )
  expect_true(any(grepl("on_train_end", seen_by(recorder))))
})

test_that("with() gives the value, and evaluates where it was called", {
  skip_without_keras()
  loop <- new_loop()
  value <- with(loop, {
    here <- "mine"
    42
  })
  expect_identical(value, 42)
  expect_identical(here, "mine")
  expect_false(withVisible(with(loop, while (FALSE) 1))$visible)
})

# ---- loops that do not do it right
test_that("a loop is told what it lacks, in R's words", {
  skip_without_keras()
  lacks <- function(body, message) {
    body <- substitute(body)
    loop <- new_loop(epochs = 2)
    expect_error(suppressWarnings(with(loop, eval(body))), message, class = "kguard_loop_error", fixed = TRUE)
  }
  report_it <- "was not reported: call `loop$report(loss)` once in each batch"
  lacks(
    while (loop$next_epoch()) while (!is.null(loop$next_batch(2))) NULL,
    paste("batch 1 of epoch 1", report_it)
  )
  lacks(
    while (loop$next_epoch()) while (!is.null(i <- loop$next_batch(2))) if (i == 1) loop$report(1),
    paste("batch 2 of epoch 1", report_it)
  )
  lacks(while (loop$next_epoch()) loop$next_batch(2), paste("batch 1 of epoch 1", report_it))
  lacks({
    loop$next_epoch()
    take <- loop$batches(2)
    take()
    take()
  }, paste("batch 1 of epoch 1", report_it))
  lacks(while (loop$next_epoch()) NULL, "epoch 1 had no batch: go through `loop$next_batch(data)`")
  lacks({
    loop$next_epoch()
    loop$report(1)
  }, "`report()` is called once in each batch: no batch is open")
  lacks({
    loop$next_epoch()
    loop$next_batch(2)
    loop$report(1)$report(1)
  }, "this batch was reported before")
  lacks(loop$next_batch(2), "`next_batch()` was called outside of the epochs of the loop")
  lacks(loop$batches(2)(), "`batches()` was called outside of the epochs of the loop")
  lacks(loop$report_validation(loss = 1), "`report_validation()` was called outside of the epochs")
  lacks({
    loop$next_epoch()
    loop$next_batch(2)
    loop$report_validation(loss = 1)
  }, paste("batch 1 of epoch 1", report_it))
  lacks(with(loop, 1), "`with()` of this loop is called within itself")
})

test_that("a loop runs within with(), and once", {
  skip_without_keras()
  loop <- new_loop()
  expect_error(loop$next_epoch(), "within `with(loop, { ... })`", class = "kguard_loop_error", fixed = TRUE)
  expect_error(loop$epochs()(), "within `with(loop, { ... })`", class = "kguard_loop_error", fixed = TRUE)
  idle(loop)
  expect_error(idle(loop), "a guarded loop runs once", class = "kguard_loop_error")
})

refused_by <- function(code, argument, must, got) {
  condition <- tryCatch(code, error = identity)
  expect_s3_class(condition, "kguard_option_error")
  expect_identical(condition$argument, argument)
  expect_match(conditionMessage(condition), paste0("`", argument, "` must be ", must))
  expect_match(conditionMessage(condition), paste0(", got ", got), fixed = TRUE)
}

test_that("what is reported must be a number, and the weights stay", {
  skip_without_keras()
  tf <- tensorflow()
  bad <- function(.argument, .got, ..., must = "a number or a tensor without dimensions") {
    model <- small_model()
    optimizer <- adam()
    before <- NULL
    loop <- guarded_loop(model, optimizer, verbose = 0)
    before <- bits_of(model, optimizer)
    refused_by(with(loop, while (loop$next_epoch()) {
      while (!is.null(batch <- loop$next_batch(loop_batches()))) {
        tape_step(model, optimizer, batch)
        loop$report(...)
      }
    }), .argument, must, .got)
    expect_identical(bits_of(model, optimizer), before)
  }
  bad("loss", "NULL", NULL)
  bad("loss", "c(1, 2)", c(1, 2))
  bad("loss", "an array of dimensions 1", array(1, 1))
  bad("loss", "c(1, 2)", tf$constant(c(1, 2)))
  bad("loss", "NA_real_", NA_real_)
  bad("loss", "NA", NA)
  bad("loss", "TRUE", TRUE)
  bad("loss", "\"1\"", "1")
  bad("loss", "list(1)", list(1))
  bad("size", "0", 1, size = 0, must = "a whole number of at least 1")
  bad("size", "2.5", 1, size = 2.5, must = "a whole number of at least 1")
  bad("size", "NULL", 1, size = NULL, must = "a whole number of at least 1")
  bad("size", "NA_integer_", 1, size = NA_integer_, must = "a whole number of at least 1")
  bad("mae", "\"x\"", 1, mae = "x")
  bad("val_mae", "0.5", 1, val_mae = 0.5, must = "reported by `report_validation\\(\\)`")
  bad("...", "list(8)", 1, 10, 8, must = "numbers with different names")
  bad("...", "list(a = 1, a = 2)", 1, a = 1, a = 2, must = "numbers with different names")
})

test_that("a validation is of numbers with names", {
  skip_without_keras()
  bad <- function(.argument, .got, ..., must = "a number or a tensor without dimensions") {
    loop <- new_loop()
    refused_by(suppressWarnings(with(loop, while (loop$next_epoch()) {
      while (!is.null(loop$next_batch(1))) loop$report(1)
      loop$report_validation(...)
    })), .argument, must, .got)
  }
  bad("...", "list(1)", 1, must = "numbers with different names")
  bad("...", "list()", must = "numbers with different names")
  bad("loss", "NULL", loss = NULL)
  bad("loss", "c(1, 2)", loss = c(1, 2))
})

test_that("NaN and infinity are reported", {
  skip_without_keras()
  losses <- callback_loss_history()
  idle(new_loop(losses), c(NaN, Inf, -Inf, 3))
  expect_identical(losses$losses, c(NaN, Inf, -Inf, 3))
})

test_that("options that cannot be used are refused by name", {
  skip_without_keras()
  model <- small_model()
  bad <- function(argument, must, got, ...) refused_by(guarded_loop(...), argument, must, got)
  other <- adam()
  other$build(small_model()$trainable_variables)
  bad("optimizers", "built for variables of their models, but that of model 1 of 1", "<keras", model, other)
  bad("optimizers", "one for each of the 2 models", "<keras", list(model, small_model()), adam())
  bad("optimizers", "a Keras optimizer, or a list", "\"adam\"", model, "adam")
  bad("models", "a Keras model, or a list", "\"model\"", "model", adam())
  bad("models", "a Keras model, or a list", "list()", list(), list())
  unbuilt <- keras()$Sequential(list(keras()$layers$Dense(1L)))
  bad("models", "built, with trainable variables: call it on a batch first", "<Sequential", unbuilt, adam())
  bad("callbacks", "NULL, a callback or a list of them", "\"early\"", model, adam(), list("early"))
  foreign <- R6::R6Class("KerasCallback")$new()
  bad("callbacks", "NULL, a callback or a list of them", "<environment>", model, adam(), foreign)
  expect_error(guarded_loop(model, adam(), list(RestoreBest)), "\\$new\\(\\)")
  whole <- "a whole number of at least 1"
  bad("epochs", whole, "0", model, adam(), epochs = 0)
  bad("epochs", whole, "1.5", model, adam(), epochs = 1.5)
  bad("initial_epoch", whole, "0", model, adam(), epochs = 3, initial_epoch = 0)
  bad("initial_epoch", "at most 3, where the last of 3 `epochs` begins", "4", model, adam(), NULL, 3, 4)
  bad("steps", paste(whole, "or NULL"), "0", model, adam(), steps = 0)
  bad("verbose", "0, 1 or 2", "3", model, adam(), verbose = 3)
  bad("verbose", "a whole number", "TRUE", model, adam(), verbose = TRUE)
  bad("restore_on_error", "TRUE or FALSE", "NA", model, adam(), restore_on_error = NA)
  bad("restore_on_error", "TRUE or FALSE", "1", model, adam(), restore_on_error = 1)
})

test_that("an optimizer that took no step is warned of", {
  skip_without_keras()
  loop <- new_loop()
  expect_warning(with(loop, while (loop$next_epoch()) {
    while (!is.null(loop$next_batch(1))) loop$report(1)
  }), "took no step in the first epoch", class = "kguard_warning")
})

test_that("a state is for JAX", {
  skip_without_keras()
  loop <- new_loop()
  expect_error(with(loop, loop$state()), "`state()` is for JAX", fixed = TRUE)
  loop <- new_loop()
  expect_error(with(loop, {
    loop$next_epoch()
    loop$next_batch(1)
    loop$report(1, state = list())
  }), "`state` is for JAX")
})

# ---- what there is to see
test_that("the history is as fit() returns it, with NaN where an epoch lacks a metric", {
  skip_without_keras()
  loop <- new_loop(epochs = 3)
  suppressWarnings(with(loop, while (loop$next_epoch()) {
    while (!is.null(loop$next_batch(1))) {
      if (loop$epoch == 2) loop$report(2, only = 5) else loop$report(loop$epoch)
    }
    loop$report_validation(loss = 7)
  }))
  history <- loop$history
  expect_s3_class(history, "keras_training_history")
  expect_identical(history$metrics, list(loss = c(1, 2, 3), val_loss = c(7, 7, 7), only = c(NaN, 5, NaN)))
  expect_identical(history$params, list(verbose = 0L, epochs = 3L, steps = NULL))
  expect_output(print(history), "of 3 epochs.*loss val_loss only.*3 +3 +7 +NaN")
  frame <- as.data.frame(history)
  expect_identical(frame$epoch, rep(1:3, 3))
  expect_identical(frame$value, c(1, 2, 3, 7, 7, 7, NaN, 5, NaN))
  expect_identical(as.character(frame$metric), rep(c("loss", "loss", "only"), each = 3))
  expect_identical(as.character(frame$data), rep(c("training", "validation", "training"), each = 3))
  expect_gt(drawn_bytes(print(plot(history))), 5000)
  expect_gt(drawn_bytes(with_function("has_ggplot2", function() FALSE, plot(history))), 2000)
  guard <- callback_revert_on_loss_increase()
  drawn <- new_loop(guard, epochs = 2)
  idle(drawn)
  expect_gt(drawn_bytes(print(plot(guard, drawn$history))), 3000)
})

test_that("a loop without epochs has an empty history", {
  skip_without_keras()
  loop <- new_loop()
  expect_identical(nrow(as.data.frame(loop$history)), 0L)
  expect_output(print(loop$history), "of 0 epochs")
  expect_error(plot(loop$history), "nothing to plot", class = "kguard_state_error")
})

test_that("a loop says where it is", {
  skip_without_keras()
  loop <- new_loop(epochs = 2, model = list(small_model(), small_model()), optimizer = list(adam(), adam()))
  expect_output(print(loop), "<GuardedLoop> of 2 models, not begun; epochs: 2")
  suppressWarnings(with(loop, while (loop$next_epoch()) {
    while (!is.null(loop$next_batch(2))) {
      loop$report(0.25)
      if (loop$epoch == 2) expect_output(print(loop), "at epoch 2 of 2, batch 1\n  last epoch: loss 0.25")
      if (loop$epoch == 2) break
    }
  }))
  expect_output(print(loop), "of 2 models, ended epoch 2 of 2, batch 1")
  for (field in c("epoch", "batch", "stopped", "history")) {
    expect_error(loop[[field]] <- 1, field, class = "kguard_state_error")
  }
  gone <- unserialize(serialize(loop, NULL))
  expect_error(gone$history, "saved in another session", class = "kguard_state_error")
})

test_that("the progress bar shows", {
  skip_without_keras()
  output <- reticulate::py_capture_output(idle(new_loop(epochs = 2, steps = 3, verbose = 1), c(1, 2, 6)))
  expect_match(output, "Epoch 2/2")
  expect_match(output, "3/3")
})

# ---- other front ends
test_that("keras3's models, optimizers and callbacks are served", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  train <- function(epochs, spoil, callbacks = NULL) {
    model <- keras3_model()
    optimizer <- keras3("optimizer_adam")(0.01)
    loop <- guarded_loop(model, optimizer, callbacks, epochs, verbose = 0)
    list(loop = train_in_loop(loop, model, optimizer, spoil = spoil), bits = bits_of(model, optimizer))
  }
  guard <- callback_revert_on_loss_increase(tolerance = 1000)
  seen <- NULL
  theirs <- keras3("Callback")("Mine", on_epoch_end = function(epoch, logs = NULL) seen <<- c(seen, epoch))
  rescued <- train(3, nan_in(2, 3), list(guard, theirs()))
  plain <- train(2, function(epoch, i, batch) batch)
  expect_identical(rescued$bits, plain$bits)
  expect_identical(seen, 1:3)
  expect_identical(rescued$loop$history$metrics$loss[-2], plain$loop$history$metrics$loss)
  model <- keras3_model()
  data <- regression_data()
  found <- keras3("evaluate")(model, data$x, data$y, verbose = 0)
  loop <- new_loop(model = model)
  suppressWarnings(with(loop, while (loop$next_epoch()) {
    while (!is.null(loop$next_batch(1))) loop$report(1)
    loop$report_validation(found)
  }))
  expect_equal(loop$history$metrics$val_loss, found$loss)
})

test_that("keras 2.16's models and optimizers are served, with epochs from 1", {
  helper <- normalizePath(test_path("helper-loops.R"))
  output <- in_keras2(c(
    sprintf("source(%s)", deparse(helper)),
    "run <- function(epochs, spoil, callbacks = NULL, optimizer) {",
    "  tensorflow()$keras$utils$set_random_seed(1L)",
    "  model <- new_model()",
    "  loop <- guarded_loop(model, optimizer, callbacks, epochs, verbose = 0)",
    "  loop <- train_in_loop(loop, model, optimizer, loop_batches(list(x = x, y = y)), spoil)",
    "  list(bits = bits_of(model, optimizer), history = loop$history)",
    "}",
    "for (make in list(optimizer_adam, function() tensorflow()$keras$optimizers$legacy$Adam())) {",
    "  guard <- callback_revert_on_loss_increase(tolerance = 1000)",
    "  recorder <- r_recorder()",
    "  rescued <- run(3, nan_in(2, 3), list(guard, recorder), make())",
    "  plain <- run(2, function(epoch, i, batch) batch, NULL, make())",
    "  same <- identical(rescued$bits, plain$bits)",
    "  cat('\\nsame:', same, guard$events$epoch, length(plain$bits) > 8, '\\n')",
    "  cat('hooks:', length(seen_by(recorder)), rescued$history$epoch, '\\n')",
    "  cat('first:', grep('on_epoch_begin', seen_by(recorder), value = TRUE)[1], '\\n')",
    "}",
    "refused <- function(callback) tryCatch(guarded_loop(new_model(), optimizer_adam(), callback),",
    "  error = function(e) cat('refused:', conditionMessage(e), '\\n'))",
    "refused(keras::KerasCallback$new())"
  ))
  label <- paste(output, collapse = "\n")
  expect_identical(sum(output == "same: TRUE 2 TRUE "), 2L, label = label)
  expect_identical(sum(output == "hooks: 26 1 2 3 "), 2L, label = label)
  expect_identical(sum(output == "first: on_epoch_begin 0 "), 2L, label = label)
  expect_true(any(grepl("refused: `callbacks` must be NULL, a callback", output)), label = label)
})
