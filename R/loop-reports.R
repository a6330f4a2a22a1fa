# Turns what a loop reports into what Python takes; what it would misread is passed on as R spells it.

reported_number <- function(value) {
  if (inherits(value, "python.builtin.object")) {
    return(if (is_alive(value)) value else unusable(value))
  }
  is_number <- is_plain_number(value) && length(value) == 1L && is.null(dim(value)) && !is_missing(value)
  if (is_number) as.vector(value) else unusable(value)
}

reported_size <- function(size) {
  if (is_one_number(size)) as_whole(as.vector(size)) else unusable(size)
}

# The metrics of a batch: their names are what they are logged under.
reported_metrics <- function(...) {
  values <- list(...)
  if (length(values) == 0L) {
    return(NULL)
  }
  require_names(values)
  lapply(values, reported_number)
}

# The metrics of a validation, each by its name or all that `evaluate()` returned.
reported_validation <- function(...) {
  values <- list(...)
  given_names <- names(values) %||% character(length(values))
  is_whole <- given_names == "" & !vapply(values, is.null, NA) &
    vapply(values, function(value) is_plain_list(value) || is_plain_number(value), NA)
  parts <- lapply(seq_along(values), function(i) if (is_whole[[i]]) as.list(values[[i]]) else values[i])
  values <- do.call(c, parts) %||% list()
  require_names(values)
  lapply(values, reported_number)
}

require_names <- function(values) {
  if (is.null(names(values)) || any(names(values) == "") || anyDuplicated(names(values))) {
    stop_option("...", "numbers with different names, as `accuracy = 0.9`", values)
  }
}

# Lists of arrays of JAX: their names are for R only.
reported_state <- function(state) {
  if (is_plain_list(state)) lapply(unname(state), reported_state) else state
}

name_state <- function(state, n_models) {
  parts <- c("trainable_variables", "non_trainable_variables", "optimizer_variables")
  if (n_models == 1L) stats::setNames(state, parts) else lapply(state, stats::setNames, parts)
}
