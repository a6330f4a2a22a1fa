# Why the console, the history and evaluate() differ, for three trainings: a regression, a
# classification that is stopped early, and classes of unequal size with class weights.
#   Rscript examples/loss_history.R
library(kguard)
keras <- reticulate::import("keras")
layers <- keras$layers
set.seed(1)

new_model <- function(inputs, units, loss, metrics = NULL) {
  keras$utils$set_random_seed(1L)
  model <- keras$Sequential(list(
    layers$Input(list(inputs)), layers$Dense(units, activation = "relu"),
    layers$Dense(1L, activation = if (loss == "binary_crossentropy") "sigmoid")
  ))
  model$compile(optimizer = "adam", loss = loss, metrics = metrics)
  model
}

cat("---------------- a regression\n")
x <- matrix(runif(100 * 10), 100)
y <- matrix(runif(100))
losses <- callback_loss_history(data = list(x, y))
model <- new_model(10L, 64L, "mse")
history <- model$fit(x, y, epochs = 2L, batch_size = 10L, verbose = 1L, callbacks = list(losses))
losses$explain()

cat("\n---------------- a classification that is stopped early\n")
x <- matrix(runif(500 * 20), 500)
y <- matrix(sample(0:1, 500, replace = TRUE))
first <- 1:400 # the rows that validation_split leaves
losses <- callback_loss_history(data = list(x[first, ], y[first, , drop = FALSE]))
stops <- keras$callbacks$EarlyStopping("val_loss", patience = 1L)
model <- new_model(20L, 128L, "binary_crossentropy", list("accuracy"))
history <- model$fit(x, y,
  epochs = 20L, validation_split = 0.2, verbose = 2L, callbacks = list(stops, losses)
)
losses$explain()

cat("\n---------------- classes of unequal size\n")
x <- matrix(runif(1000 * 30), 1000)
y <- matrix(rep(0:1, c(800, 200)))
weights <- as.vector(1000 / (2 * table(y)))
class_weight <- reticulate::py_dict(0:1, weights) # with whole numbers as keys, not names
losses <- callback_loss_history(data = list(x, y, weights[y + 1]))
model <- new_model(30L, 256L, "binary_crossentropy", list("accuracy"))
history <- model$fit(x, y,
  epochs = 2L, batch_size = 64L, class_weight = class_weight, verbose = 2L, callbacks = list(losses)
)
losses$explain()
