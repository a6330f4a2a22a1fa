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

# A Python callback that calls `callback`'s R functions for these hooks, with indices from `first`.
hooks_to_python <- function(callback, hooks, core, first, newest) {
  functions <- lapply(stats::setNames(hooks, hooks), function(hook) hook_function(callback, hook))
  tell <- function(params, model) {
    returned <- as_hook(callback, "set_context", function() callback$set_context(params, model))
    if (identical(returned, interrupted)) returned
  }
  if (length(functions) == 0L) functions <- reticulate::dict()
  bridge()$r_callback(class_of(callback), functions, tell, newest, first, core)
}

hook_function <- function(callback, hook) {
  check_arguments(callback, hook)
  run <- function(...) {
    returned <- as_hook(callback, hook, function() callback[[hook]](...))
    if (is_plain_named_list(returned) || identical(returned, interrupted)) returned
  }
  if (is_indexed(hook)) function(index, logs) run(index, logs) else function(logs) run(logs)
}

as_hook <- function(callback, hook, run) {
  tryCatch(
    run(),
    error = function(parent) stop_in_hook(callback, hook, parent),
    interrupt = function(condition) interrupted
  )
}

# Tells Python to interrupt the training: R must not jump over Python's frames to do so.
interrupted <- "interrupted by the user"

# A hook is called with its arguments in order, whatever it calls them.
check_arguments <- function(callback, hook) {
  takes <- as.list(formals(args(callback[[hook]])))
  given <- if (is_indexed(hook)) c(sub("^on_.*(epoch|batch)_.*$", "\\1", hook), "logs") else "logs"
  required <- is_required(callback[[hook]])
  enough <- "..." %in% names(takes) || length(takes) >= length(given)
  if (!enough || any(utils::tail(required, -length(given)))) {
    stop_kguard(
      "kguard_hook_error", class_of(callback), "$", hook, "() must take (",
      paste(given, collapse = ", "), "), it takes (", paste(names(takes), collapse = ", "), ")"
    )
  }
}

# Which of a function's arguments must be given.
is_required <- function(f) {
  takes <- as.list(formals(args(f)))
  has_no_default <- function(i) identical(unname(takes[i]), alist(, )[1])
  vapply(seq_along(takes), has_no_default, NA) & names(takes) != "..."
}

is_indexed <- function(hook) grepl("_(epoch|batch)_", hook)

is_plain_named_list <- function(value) {
  is.list(value) && !is.object(value) && length(value) > 0L && !is.null(names(value))
}

stop_in_hook <- function(callback, hook, parent) {
  stop_kguard(
    "kguard_hook_error",
    class_of(callback), "$", hook, "() failed: ", conditionMessage(parent),
    fields = list(parent = parent)
  )
}

# The name of an R6 object's class, as its user calls it.
class_of <- function(callback) {
  name <- class(callback)[1L]
  if (name == "kguard_callback") "KerasCallback" else name
}
