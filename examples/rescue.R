# A learning rate that is too high, four ways. Predicts the price of ggplot2's 53,940 diamonds, in
# dollars as it is, from their other columns. All four runs begin with the same weights.
#   Rscript examples/rescue.R [picture.png]
library(kguard)
library(ggplot2)

too_high <- 1e-2
well_chosen <- 1e-3
epochs <- 20L
batch_size <- 256L
picture <- c(commandArgs(TRUE), "examples/rescue.png")[1]

# ---------------------------------------------------------------- data
x <- model.matrix(price ~ carat + cut + color + clarity + depth + table + x + y + z,
  data = diamonds, contrasts.arg = lapply(diamonds[c("cut", "color", "clarity")], contrasts, FALSE)
)[, -1]
set.seed(1)
held_out <- sample(nrow(x), 10000)
x <- scale(x, center = colMeans(x[-held_out, ]), scale = apply(x[-held_out, ], 2, sd))
y <- as.matrix(diamonds$price)
train <- list(x = x[-held_out, ], y = y[-held_out, , drop = FALSE])
test <- list(x = x[held_out, ], y = y[held_out, , drop = FALSE])

# ---------------------------------------------------------------- keras3 if it is there, else Python
keras <- reticulate::import("keras")
has_keras3 <- requireNamespace("keras3", quietly = TRUE)
fit_model <- function(model, ...) {
  if (has_keras3) getExportedValue("keras3", "fit")(model, ...) else model$fit(...)
}

new_model <- function(learning_rate) {
  keras$utils$set_random_seed(1L)
  layers <- keras$layers
  model <- keras$Sequential(list(
    layers$Input(list(ncol(x))),
    layers$Dense(64L, activation = "relu"), layers$Dense(64L, activation = "relu"),
    layers$Dense(1L)
  ))
  model$compile(keras$optimizers$SGD(learning_rate, momentum = 0.9), loss = "mse")
  model
}

# The lines that people copy: keep the weights, put them back when the loss has risen.
Recipe <- R6::R6Class("Recipe",
  inherit = KerasCallback,
  public = list(
    best = Inf, weights = NULL,
    on_epoch_begin = function(epoch, logs = NULL) self$weights <- self$model$get_weights(),
    on_epoch_end = function(epoch, logs = NULL) {
      if (isTRUE(logs$loss > self$best)) {
        self$model$set_weights(self$weights)
      } else {
        self$best <- logs$loss
      }
    }
  )
)

# ---------------------------------------------------------------- four runs
run <- function(name, learning_rate, callbacks = list()) {
  model <- new_model(learning_rate)
  losses <- callback_loss_history(every = 1000)
  seconds <- system.time(
    fit_model(model, train$x, train$y,
      epochs = epochs, batch_size = batch_size, verbose = 0L,
      validation_data = unname(test), callbacks = c(callbacks, losses)
    )
  )[["elapsed"]]
  rmse <- sqrt(model$evaluate(test$x, test$y, batch_size = 1000L, verbose = 0L))
  message("done: ", name)
  list(
    row = data.frame(
      run = name, rate = learning_rate, rmse = rmse, finite = is.finite(rmse),
      reverts = if (length(callbacks)) sum(callbacks[[1]]$n_reverts) else 0L,
      seconds = round(seconds, 1)
    ),
    curve = data.frame(run = name, epoch = losses$epochs$epoch, rmse = sqrt(losses$epochs$val_loss))
  )
}

guard <- callback_revert_on_loss_increase("val_loss", lr_factor = 0.3, relative_tolerance = 0.05)
runs <- list(
  run("unguarded", too_high),
  run("copied recipe", too_high, list(Recipe$new())),
  run("guarded", too_high, list(guard)),
  run("well-chosen rate", well_chosen)
)
