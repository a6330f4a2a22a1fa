# What callbacks written in R cost for each batch, in microseconds: without one, with keras3's
# `Callback()` and with `KerasCallback`, each with an epoch hook and with a batch hook, and with each
# built-in guard. One model, one process, in random order; a number is the median over the rounds of
# (seconds of an epoch without its hooks at the ends) / (batches), and a ratio the median of the ratios to
# the same round's run without a callback. Without keras3 its two rows are left out, and the model is
# trained through reticulate.
#
# Usage: Rscript benchmarks/hooks.R [rounds, 15] [batches in an epoch, 1000]
library(kguard)
options(digits = 4)
arguments <- as.integer(commandArgs(TRUE))
rounds <- if (length(arguments) >= 1L) arguments[[1]] else 15L
batches <- if (length(arguments) >= 2L) arguments[[2]] else 1000L
has_keras3 <- requireNamespace("keras3", quietly = TRUE)

keras <- reticulate::import("keras")
keras$utils$set_random_seed(1L)
model <- keras$Sequential(list(
  keras$layers$Input(list(3L)), keras$layers$Dense(4L, activation = "relu"), keras$layers$Dense(1L)
))
model$compile("adam", "mse")
set.seed(1)
x <- matrix(rnorm(6 * batches), ncol = 3)
y <- x %*% c(1, -2, 3)

# A second epoch is timed, from Python, in which nothing is set up any more.
timer_class <- reticulate::py_run_string(paste(c(
  "def make():",
  "    import time, keras",
  "    class Timer(keras.callbacks.Callback):",
  "        def on_epoch_begin(self, epoch, logs=None):",
  "            self.start = time.perf_counter()",
  "        def on_epoch_end(self, epoch, logs=None):",
  "            self.seconds = time.perf_counter() - self.start",
  "    return Timer"
), collapse = "\n"), local = TRUE)$make()

EpochHook <- R6::R6Class("EpochHook",
  inherit = KerasCallback,
  public = list(seen = NULL, on_epoch_end = function(epoch, logs = NULL) self$seen <- logs[["loss"]])
)
BatchHook <- R6::R6Class("BatchHook",
  inherit = KerasCallback,
  public = list(seen = NULL, on_train_batch_end = function(batch, logs = NULL) self$seen <- logs[["loss"]])
)
methods <- list(
  "no callback" = function() NULL,
  "KerasCallback, epoch hook" = function() EpochHook$new(),
  "KerasCallback, batch hook" = function() BatchHook$new(),
  "callback_revert_on_loss_increase()" = function() callback_revert_on_loss_increase(),
  "callback_revert_to_best_on_increase()" = function() callback_revert_to_best_on_increase(),
  "callback_restore_best()" = function() callback_restore_best("loss"),
  "callback_loss_history()" = function() callback_loss_history()
)
if (has_keras3) {
  new_callback <- getExportedValue("keras3", "Callback")
  seen <- NULL
  note <- function(index, logs = NULL) seen <<- logs[["loss"]]
  keras3_epoch <- new_callback("WithEpochHook", on_epoch_end = note)
  keras3_batch <- new_callback("WithBatchHook", on_train_batch_end = note)
  methods <- append(methods, after = 1L, list(
    "keras3 Callback(), epoch hook" = function() keras3_epoch(),
    "keras3 Callback(), batch hook" = function() keras3_batch()
  ))
}

seconds <- function(make) {
  timer <- timer_class()
  callback <- make()
  callbacks <- if (is.null(callback)) list(timer) else list(timer, callback)
  model$fit(x, y, epochs = 2L, batch_size = 2L, shuffle = FALSE, verbose = 0L, callbacks = callbacks)
  timer$seconds
}

invisible(model$fit(x, y, epochs = 1L, batch_size = 2L, verbose = 0L))
times <- matrix(NA_real_, rounds, length(methods), dimnames = list(NULL, names(methods)))
for (round in seq_len(rounds)) {
  for (name in sample(names(methods))) times[round, name] <- seconds(methods[[name]])
}
per_batch <- 1e6 * times / batches
table <- data.frame(
  callback = names(methods),
  microseconds = apply(per_batch, 2, median),
  beyond_none = apply(per_batch - per_batch[, 1], 2, median),
  ratio = apply(per_batch / per_batch[, 1], 2, median)
)
cat(sprintf(
  "Keras %s, reticulate %s%s, %d batches of 2 rows an epoch, medians of %d rounds\n",
  keras$`__version__`, packageVersion("reticulate"),
  if (has_keras3) paste(", keras3", packageVersion("keras3")) else "", batches, rounds
))
cat("| callback | µs a batch | beyond no callback | ratio |\n|---|---|---|---|\n")
cat(with(table, sprintf("| %s | %.0f | %+.0f | %.3f |\n", callback, microseconds, beyond_none, ratio)), sep = "")
