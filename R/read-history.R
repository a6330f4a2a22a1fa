#' Read a loss history from its file
#'
#' Reads a file that [callback_loss_history()] wrote, also while it is still being written, and in
#' either language: the files of R and of Python are the same.
#'
#' @param path Name of the `.csv` or `.sqlite` file.
#' @return A list of the runs in the file, one for each `fit()`, oldest first. Each is an object with
#'   the fields `losses`, `batches`, `epochs`, `events` and `batches_per_epoch`, with the method
#'   `explain()`, and with the methods `plot()`, `summary()` and `as.data.frame()`, all as the
#'   [LossHistory][callback_loss_history] had them. A file without a run gives an empty list.
#' @section Errors:
#' Where there is no such file, or it holds something else, a condition of class `kguard_option_error`
#' names `path`.
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.1), "mse")
#' x <- matrix(seq(-2, 2, length.out = 64))
#' path <- tempfile(fileext = ".csv")
#' for (epochs in 1:2) {
#'   losses <- callback_loss_history(path)
#'   history <- model$fit(x, 3 * x, epochs = epochs, verbose = 0L, callbacks = list(losses))
#' }
#' runs <- read_history(path)
#' runs
#' all.equal(runs[[2]]$losses, losses$losses)
#' unlink(path)
#' @export
read_history <- function(path) {
  result <- bridge()$read(option_to_python("path", path))
  stop_if_refused(result, list(path = path))
  lapply(seq_along(result$runs), function(i) HistoryRun$new(result$runs[[i]], i, basename(path)))
}

# As a LossHistory, but no callback.
ReadHistory <- R6Class("kguard_history", public = history_methods, active = history_fields)

HistoryRun <- R6Class("kguard_run",
  inherit = ReadHistory,
  public = list(
    initialize = function(record, number, file) {
      private$.kguard_record <- record
      private$.kguard_name <- sprintf("run %d of %s", number, file)
    }
  ),
  private = list(
    .kguard_record = NULL,
    .kguard_name = NULL,
    .kguard_title = function() private$.kguard_name,
    .kguard_python = function() {
      if (!is_alive(private$.kguard_record)) {
        stop_kguard(
          "kguard_state_error",
          private$.kguard_name, " was read in another session of R, and ended with that. Read the file again."
        )
      }
      private$.kguard_record
    }
  )
)
