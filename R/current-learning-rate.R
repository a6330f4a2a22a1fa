#' The learning rate that the next step will use
#'
#' That is the number that the optimizer holds, or `s(t)` with its schedule `s` and its step `t`. A
#' compiled step goes on with the schedule that it was compiled with, whatever was assigned to
#' `optimizer$learning_rate` since, and does not show which one that was. Where it is not known to be
#' the same, it is therefore compiled anew at its next call, so that what is returned is true.
#'
#' @inheritParams reset_learning_rate
#' @section Errors:
#' An object that is neither, or a model that has no optimizer or several, is refused with a condition
#' of class `kguard_option_error`.
#' @return A number. A rate that is a function is called once for it.
#' @seealso [reset_learning_rate()]; [callback_loss_history()] records the rate of each step.
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' keras <- reticulate::import("keras")
#' schedules <- keras$optimizers$schedules
#' schedule <- schedules$CosineDecay(0.1, 100L, warmup_target = 0.2, warmup_steps = 5L)
#' current_learning_rate(keras$optimizers$Adam(schedule))
#' @export
current_learning_rate <- function(object) {
  result <- bridge()$current(target_to_python(object))
  stop_if_refused(result, list(object = object))
  result$rate
}
