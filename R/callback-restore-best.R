#' Leave the best weights in the model when training ends
#'
#' `callback_restore_best()` makes a callback for `fit()` that lets training run, keeps the state that
#' the best epoch ended with, and puts it back at the end of `fit()`, also where another callback ends
#' it early. After an interrupt or an error the method `restore()` puts it back by hand.
#'
#' Minimising, an epoch is the best so far if `value < best - min_delta`, and the mirror image of it
#' when maximising; a value or weights that are not finite are never the best. If no epoch could be the
#' best, a warning says why; if the weights are not finite then, the initial state is put back. An
#' epoch that a guard in front of it in the list took back is not judged, so put it behind them.
#'
#' What the object knows, its place beside other callbacks and its errors are described at
#' [callback_revert_on_loss_increase()].
#'
#' @inheritParams callback_revert_on_loss_increase
#' @param min_delta How much better than the best a value must be, in units of the quantity; at
#'   least 0.
#' @param start_from_epoch Number of epochs at the start that are never the best.
#' @return An R6 object of class `RestoreBest`, to be put in the list `callbacks` of `fit()`.
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.1), "mse")
#' x <- matrix(seq(-2, 2, length.out = 64))
#' keep <- callback_restore_best("val_loss")
#' history <- model$fit(x, 3 * x,
#'   validation_split = 0.25, epochs = 5L, verbose = 0L, callbacks = list(keep)
#' )
#' keep$best_epoch
#' @export
callback_restore_best <- function(monitor = "val_loss", mode = "auto", min_delta = 0,
                                  restore_optimizer = FALSE, restore_random_state = FALSE,
                                  start_from_epoch = 0, probe = NULL, verbose = 0) {
  do.call(RestoreBest$new, as.list(environment()))
}

#' @rdname callback_restore_best
#' @format `RestoreBest` is an R6 class generator; `$new()` takes the same arguments.
#' @export
RestoreBest <- R6Class("RestoreBest",
  inherit = Guard,
  public = list(
    initialize = function(monitor = "val_loss", mode = "auto", min_delta = 0,
                          restore_optimizer = FALSE, restore_random_state = FALSE,
                          start_from_epoch = 0, probe = NULL, verbose = 0) {
      super$initialize("RestoreBest", as.list(environment()))
    },
    restore = function() {
      private$.kguard_python()$restore()
      invisible(self)
    }
  )
)
