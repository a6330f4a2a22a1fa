# parsnip's functions are looked up when it is there, as keras3's are. Also used in processes of their
# own, so without testthat.
parsnip <- function(name) getExportedValue("parsnip", name)

# Fits a linear network that diverges at this learning rate, by itself and with callbacks, as a
# specification of parsnip's; `engine` is the name of a package as well.
diverge_in_parsnip <- function(engine, learning_rate = 100, epochs = 12L) {
  sgd <- getExportedValue(engine, "optimizer_sgd")
  set.seed(1)
  x <- data.frame(a = rnorm(60), b = rnorm(60))
  y <- data.frame(y = x$a - 2 * x$b)
  predicted_with <- function(...) {
    network <- parsnip("mlp")(
      mode = "regression", hidden_units = 4L, epochs = epochs, activation = "linear"
    )
    network <- parsnip("set_engine")(network, engine,
      optimizer = sgd(learning_rate), validation_split = 1 / 3, batch_size = 4, verbose = 0, ...
    )
    stats::predict(parsnip("fit_xy")(network, x, y), x)$.pred
  }
  Epochs <- R6::R6Class("Epochs",
    inherit = kguard::KerasCallback,
    public = list(
      seen = NULL,
      on_epoch_end = function(epoch, logs = NULL) self$seen <- c(self$seen, epoch)
    )
  )
  mine <- Epochs$new()
  guard <- kguard::callback_revert_on_loss_increase("val_loss", lr_factor = 0.1)
  n_made <- 0
  make <- function() {
    n_made <<- n_made + 1
    kguard::callback_loss_history()
  }
  alone <- predicted_with(callbacks = list(make()))
  guarded <- predicted_with(callbacks = list(mine, guard, make()))
  list(
    alone = alone, guarded = guarded, truth = y$y, seen = mine$seen, events = guard$events, n_made = n_made
  )
}
