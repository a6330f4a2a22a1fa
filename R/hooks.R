hook_names <- c(
  "on_epoch_begin", "on_epoch_end",
  "on_train_batch_begin", "on_train_batch_end",
  "on_train_begin", "on_train_end",
  "on_test_batch_begin", "on_test_batch_end",
  "on_test_begin", "on_test_end",
  "on_predict_batch_begin", "on_predict_batch_end",
  "on_predict_begin", "on_predict_end"
)

# The older names of two hooks.
hook_aliases <- c(
  on_train_batch_begin = "on_batch_begin",
  on_train_batch_end = "on_batch_end"
)

# The hooks whose function differs from that of the class it was derived from.
overridden_hooks <- function(callback, base) {
  is_overridden <- function(hook) !identical(body(callback[[hook]]), body(base[[hook]]))
  aliased <- function(hook) hook %in% names(hook_aliases) && is_overridden(hook_aliases[[hook]])
  Filter(function(hook) is_overridden(hook) || aliased(hook), hook_names)
}

# A Python callback that calls `callback`'s R functions for these hooks.
hooks_to_python <- function(callback, hooks, core) {
  functions <- lapply(stats::setNames(hooks, hooks), function(hook) hook_function(callback, hook))
  tell <- function(what, value) {
    callback[[what]] <- value
    NULL
  }
  if (length(functions) == 0L) functions <- reticulate::dict()
  bridge()$r_callback(class(callback)[1L], functions, tell, core)
}

hook_function <- function(callback, hook) {
  run <- function(...) {
    returned <- tryCatch(
      callback[[hook]](...),
      error = function(parent) stop_in_hook(callback, hook, parent)
    )
    if (is_plain_named_list(returned)) returned
  }
  if (is_indexed(hook)) function(index, logs) run(index, logs) else function(logs) run(logs)
}

is_indexed <- function(hook) grepl("_(epoch|batch)_", hook)

is_plain_named_list <- function(value) {
  is.list(value) && !is.object(value) && length(value) > 0L && !is.null(names(value))
}

stop_in_hook <- function(callback, hook, parent) {
  stop_kguard(
    "kguard_hook_error",
    class(callback)[1L], "$", hook, "() failed: ", conditionMessage(parent),
    fields = list(parent = parent)
  )
}

#' @export
r_to_py.KerasCallback <- function(x, convert = FALSE) {
  to_python <- x$.__enclos_env__$private$.kguard_to_python
  # The package keras has a class of this name too.
  if (is.null(to_python)) NextMethod() else to_python()
}
