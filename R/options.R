# Turns options given in R into what the Python guards take. Python judges them; what R cannot pass
# on without changing its meaning becomes an empty list, which no option accepts.

whole_options <- c(
  "patience", "max_reverts", "start_from_epoch", "verbose", "every", "epochs", "initial_epoch", "steps",
  "n_draws", "seed", "window", "warmup", "interval", "max_rollbacks"
)

option_to_python <- function(name, value) {
  if (name %in% c("probe", "data")) {
    return(probe_to_python(value))
  }
  if (name == "learning_rate") {
    return(rates_to_python(value))
  }
  if (name == "epoch") {
    return(epochs_to_python(value))
  }
  if (is.null(value) || inherits(value, "python.builtin.object") || is.function(value)) {
    return(value)
  }
  if (is.character(value)) value <- as.vector(value)
  if (name %in% c("path", "log_dir") && is.character(value)) value <- path.expand(value)
  if (!is.atomic(value) || is.object(value) || is_missing(value)) {
    return(list())
  }
  if (name %in% whole_options) as_whole(value) else value
}

# NA has no counterpart in Python: a logical NA would arrive as True. NaN does have one.
is_missing <- function(value) {
  length(value) == 1L && is.na(value) && !is.nan(value)
}

# R users write 2 where Python wants an integer; 2.5 is left for Python to refuse.
as_whole <- function(value) {
  is_whole <- is.double(value) && length(value) == 1L && is.finite(value) &&
    value == round(value) && abs(value) <= .Machine$integer.max
  if (is_whole) as.integer(value) else value
}

# Data frames, matrices, arrays and vectors become arrays; a named list of them a dictionary.
probe_to_python <- function(value) {
  if (is.null(value) || inherits(value, "python.builtin.object")) {
    return(value)
  }
  if (!is.list(value) || is.data.frame(value)) {
    return(list())
  }
  if (!is.null(names(value))) {
    if (!setequal(names(value), probe_names[seq_along(value)])) {
      return(list())
    }
    value <- value[probe_names[seq_along(value)]]
  }
  unname(lapply(value, probe_part))
}

probe_names <- c("x", "y", "sample_weight")

probe_part <- function(part) {
  if (is.null(part) || inherits(part, "python.builtin.object")) {
    return(part)
  }
  if (is.data.frame(part)) {
    kinds <- vapply(part, function(column) is.numeric(column) || is.logical(column), NA)
    return(if (all(kinds)) data.matrix(part) else list())
  }
  if (is.list(part)) {
    return(lapply(part, probe_part))
  }
  if (is.factor(part) || !(is.numeric(part) || is.logical(part) || is.character(part))) {
    return(list())
  }
  if (is.null(dim(part))) array(part, length(part)) else part
}

# Makes the Python guard `class`, or says in R's words which option it refuses.
new_core <- function(class, options) {
  given <- Map(option_to_python, names(options), options)
  result <- bridge()$construct(class, given)
  stop_if_refused(result, options)
  result$made
}
