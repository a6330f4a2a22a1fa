#' Take back an epoch that made the model worse, to the best state so far
#'
#' `callback_revert_to_best_on_increase()` judges epochs by the rule of
#' [callback_revert_on_loss_increase()], and puts back the state that the best epoch ended with. The
#' two do the same unless `tolerance`, `relative_tolerance` or `reference = "previous"` lets an epoch
#' be accepted that is not the best. Before there is a best epoch it is the last accepted state.
#'
#' What is restored, how it works beside other callbacks, what the object knows and its errors are
#' described at [callback_revert_on_loss_increase()].
#'
#' @inheritParams callback_revert_on_loss_increase
#' @return An R6 object of class `RevertToBestOnIncrease`, to be put in the list `callbacks` of
#'   `fit()`.
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.5), "mse")
#' x <- matrix(seq(-2, 2, length.out = 64))
#' guard <- callback_revert_to_best_on_increase(tolerance = 0.1, lr_factor = 0.5)
#' history <- model$fit(x, 3 * x, epochs = 8L, verbose = 0L, callbacks = list(guard))
#' guard$best_epoch
#' @export
callback_revert_to_best_on_increase <- function(
    monitor = "loss", mode = "auto", tolerance = 0, relative_tolerance = 0, reference = "best",
    patience = 0, restore_optimizer = TRUE, restore_random_state = FALSE, lr_factor = 1,
    min_lr = 0, max_reverts = NULL, start_from_epoch = 0, probe = NULL, verbose = 0) {
  do.call(RevertToBestOnIncrease$new, as.list(environment()))
}

#' @rdname callback_revert_to_best_on_increase
#' @format `RevertToBestOnIncrease` is an R6 class generator; `$new()` takes the same arguments.
#' @export
RevertToBestOnIncrease <- R6Class("RevertToBestOnIncrease",
  inherit = Guard,
  public = list(
    initialize = function(monitor = "loss", mode = "auto", tolerance = 0, relative_tolerance = 0,
                          reference = "best", patience = 0, restore_optimizer = TRUE,
                          restore_random_state = FALSE, lr_factor = 1, min_lr = 0,
                          max_reverts = NULL, start_from_epoch = 0, probe = NULL,
                          verbose = 0) {
      super$initialize("RevertToBestOnIncrease", as.list(environment()))
    }
  )
)
