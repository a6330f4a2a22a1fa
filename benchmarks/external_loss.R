# What an external loss costs for each batch, in microseconds: the same mean squared error as Keras' own
# loss, as a NumPy function, as a NumPy function whose step runs apart, and as an R function, which
# always does. One process, in short fits that take turns in a drawn order, so that all meet the same
# machine at the same time. Given is the time of a batch, the median over the rounds, and by how much
# longer it takes than with the loss of Keras: the median and the range over the rounds of the ratios and
# of the differences.
#
# Usage: Rscript benchmarks/external_loss.R [rounds, 15] [batches, 300]
library(kguard)
arguments <- as.integer(commandArgs(TRUE))
rounds <- if (length(arguments) >= 1L) arguments[[1]] else 15L
batches <- if (length(arguments) >= 2L) arguments[[2]] else 300L
rows <- 32L
width <- 16L

keras <- reticulate::import("keras")
of_numpy <- reticulate::py_run_string(paste(c(
  "def mse(y_true, y_pred):",
  "    error = y_pred - y_true",
  "    return (error**2).mean(axis=-1), 2 * error / error.shape[-1]"
), collapse = "\n"), local = TRUE)$mse
of_r <- function(y_true, y_pred) {
  error <- y_pred - y_true
  list(loss = rowMeans(error^2), gradient = 2 * error / ncol(error))
}

set.seed(1)
x <- reticulate::np_array(matrix(rnorm(rows * batches * width), ncol = width), "float32")
y <- reticulate::np_array(matrix(rnorm(rows * batches), ncol = 1), "float32")
new_model <- function(units, loss) {
  keras$utils$set_random_seed(1L)
  dense <- keras$layers$Dense
  model <- keras$Sequential(list(
    keras$layers$Input(list(width)), dense(units, "relu"), dense(units, "relu"), dense(1L)
  ))
  model$compile(keras$optimizers$Adam(1e-4), loss)
  model$fit(x, y, batch_size = rows, steps_per_epoch = 4L, verbose = 0L)
  model
}
seconds <- function(model) {
  unname(system.time(model$fit(x, y, batch_size = rows, shuffle = FALSE, verbose = 0L))["elapsed"])
}
in_words <- function(values, form) {
  forms <- gsub("F", form, "%F (%F to %F)", fixed = TRUE)
  sprintf(forms, stats::median(values), min(values), max(values))
}

plain <- lapply(c(16L, 512L), function(units) {
  list(keras = new_model(units, "mse"), numpy = new_model(units, external_loss(of_numpy)))
})
for (i in 1:2) { # from the first loss of R's on, steps with external losses are made to run apart
  units <- c(16L, 512L)[[i]]
  loss <- external_loss(of_r)
  models <- list(
    '"mse" of Keras' = plain[[i]]$keras,
    "NumPy function" = plain[[i]]$numpy,
    "NumPy function, step apart" = new_model(units, external_loss(of_numpy)),
    "R function" = new_model(units, loss)
  )
  taken <- replicate(rounds, {
    times <- numeric(length(models))
    for (j in sample(length(models))) times[[j]] <- seconds(models[[j]]) / batches * 1e6
    times
  })
  cat(sprintf("\n%s, %d weights, %d rounds\n", keras$backend$backend(), models[[1]]$count_params(), rounds))
  cat(sprintf("%-28s%11s%24s%26s\n", "", "us a batch", "ratio", "more, in us"))
  for (j in seq_along(models)) {
    ratios <- in_words(taken[j, ] / taken[1, ], ".2f")
    more <- in_words(taken[j, ] - taken[1, ], ".0f")
    cat(sprintf("%-28s%11.0f%24s%26s\n", names(models)[[j]], stats::median(taken[j, ]), ratios, more))
  }
}
