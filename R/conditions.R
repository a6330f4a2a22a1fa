# All errors that kguard raises on purpose have the class "kguard_error".
stop_kguard <- function(class, ..., fields = list()) {
  condition <- structure(
    class = c(class, "kguard_error", "error", "condition"),
    c(list(message = paste0(...), call = NULL), fields)
  )
  stop(condition)
}

stop_option <- function(argument, requirement, value, spelt = spell(value)) {
  stop_kguard(
    "kguard_option_error",
    "`", argument, "` must be ", in_r_words(requirement), ", got ", spelt,
    fields = list(argument = argument, value = value)
  )
}

# Where Python has refused an option in `result`, says so in R's words.
stop_if_refused <- function(result, options) {
  if (!is.null(result$argument)) {
    value <- options[[result$argument]]
    spelt <- result$spelt %||% spell(if (is.null(result$gave)) value else result$gave)
    stop_option(result$argument, result$requirement, value, spelt)
  }
}

`%||%` <- function(x, y) if (is.null(x)) y else x

# What Python says of a requirement, as R says it.
in_r_words <- function(requirement) {
  words <- c(
    "True or False" = "TRUE or FALSE",
    "None" = "NULL",
    "a tuple (x, y) or (x, y, sample_weight)" = "list(x, y) or list(x, y, sample_weight)"
  )
  for (python in names(words)) {
    requirement <- gsub(python, words[[python]], requirement, fixed = TRUE)
  }
  requirement
}

# A value as the user may have typed it, at most 80 characters of it.
spell <- function(value) {
  if (inherits(value, "python.builtin.object")) {
    return(spell_python(value))
  }
  shape <- dim(value)
  if (!is.null(shape)) {
    return(paste0("an array of dimensions ", paste(shape, collapse = " x ")))
  }
  shorten(paste(deparse(value, width.cutoff = 80L, nlines = 2L), collapse = " "))
}

spell_python <- function(object) {
  if (is_alive(object)) shorten(reticulate::py_repr(object)) else "a Python object of another session of R"
}

shorten <- function(text) {
  if (nchar(text) > 80L) paste0(substr(text, 1L, 79L), "...") else text
}
