# Run in Python: calls a hook `n` times, or counts the objects of a class by its name.
in_python <- function() {
  reticulate::py_run_string(paste(c(
    "def make():",
    "    import gc",
    "    def call(callback, n):",
    "        logs = {'loss': 1.0}",
    "        for index in range(n): callback.on_train_batch_end(index, logs)",
    "    def count(name):",
    "        gc.collect()",
    "        return sum(type(each).__name__ == name for each in gc.get_objects())",
    "    return {'call': call, 'count': count}"
  ), collapse = "\n"), local = TRUE)$make()
}

resident_bytes <- function() {
  fields <- strsplit(readLines("/proc/self/statm"), " ", fixed = TRUE)[[1]]
  as.numeric(fields[[2]]) * 4096
}

test_that("a hundred thousand batch hooks do not grow memory", {
  skip_without_keras()
  skip_if_not(file.exists("/proc/self/statm"), "memory is read from /proc")
  Mine <- R6::R6Class("Mine",
    inherit = KerasCallback,
    public = list(
      n = 0,
      on_batch_end = function(batch, logs = NULL) {
        self$n <- self$n + 1
        list(extra = self$n)
      }
    )
  )
  mine <- Mine$new()
  callback <- reticulate::r_to_py(mine)
  python <- in_python()
  # R's heap may grow once; what is kept for each hook grows in every span.
  growth <- vapply(1:5, function(span) {
    before <- resident_bytes()
    python$call(callback, 20000L)
    invisible(gc())
    resident_bytes() - before
  }, 0)
  expect_identical(mine$n, 100000)
  expect_lt(min(growth), 1e6) # 50 bytes a hook
})

test_that("nothing of a callback stays in Python after fit()", {
  skip_without_keras()
  Short <- R6::R6Class("ShortLived",
    inherit = KerasCallback,
    public = list(on_epoch_end = function(epoch, logs = NULL) NULL)
  )
  Derived <- R6::R6Class("ShortLivedGuard",
    inherit = RevertOnLossIncrease,
    public = list(on_epoch_begin = function(epoch, logs = NULL) super$on_epoch_begin(epoch, logs))
  )
  python <- in_python()
  model <- small_model()
  short <- Short$new()
  derived <- Derived$new()
  for (i in 1:5) fit_quietly(model, list(short, derived), epochs = 1L)
  rm(short, derived)
  for (i in 1:3) invisible(gc()) # R frees what Python held, which frees what R held
  reticulate::py_run_string("pass") # where reticulate lets go of what R has freed
  expect_lte(python$count("ShortLived"), 1L)
  expect_lte(python$count("ShortLivedGuard"), 1L)
})

test_that("an interrupt stops training, and what there was is there", {
  skip_without_keras()
  skip_on_os("windows")
  output <- in_fresh_r(c(
    "library(kguard)",
    "keras <- reticulate::import('keras')",
    "set.seed(1)",
    "x <- matrix(rnorm(3000), 1000)",
    "y <- x %*% c(1, -2, 3)",
    "model <- keras$Sequential(list(keras$layers$Dense(1L)))",
    "model$compile('sgd', 'mse')",
    "Interrupts <- R6::R6Class('Interrupts', inherit = KerasCallback, public = list(",
    "  at_once = TRUE,",
    "  on_epoch_end = function(epoch, logs = NULL) {",
    "    if (epoch != 3) return()",
    "    wait <- if (self$at_once) 0 else 0.3",
    "    system(sprintf('(sleep %s; kill -INT %d) &', wait, Sys.getpid()))",
    "    if (self$at_once) Sys.sleep(5)",
    "  }))",
    "for (at_once in c(TRUE, FALSE)) {",
    "  keep <- callback_restore_best('loss')",
    "  losses <- callback_loss_history()",
    "  stops <- Interrupts$new()",
    "  stops$at_once <- at_once",
    "  how <- tryCatch(",
    "    model$fit(x, y, epochs = 100000L, batch_size = 100L, verbose = 0L,",
    "      callbacks = list(keep, losses, stops)),",
    "    interrupt = function(condition) 'interrupt',",
    "    error = function(error) {", # so does an old reticulate call it
    "      sub('.*KeyboardInterrupt.*', 'interrupt', paste(conditionMessage(error), collapse = ' '))",
    "    })",
    "  keep$restore()",
    "  n <- nrow(losses$epochs)",
    "  finite <- all(is.finite(as.numeric(model$predict(x, verbose = 0L))))",
    "  model$fit(x, y, epochs = 1L, verbose = 0L, callbacks = list(keep, losses))",
    "  cat('\\nfound:', how, n >= 3, finite, nrow(losses$epochs), '\\n')",
    "}"
  ))
  found <- grep("^found:", output, value = TRUE)
  expect_identical(found, rep("found: interrupt TRUE TRUE 1 ", 2L), label = paste(output, collapse = "\n"))
})
