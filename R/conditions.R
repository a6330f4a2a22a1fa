# All errors that kguard raises on purpose have the class "kguard_error".
stop_kguard <- function(class, ..., fields = list()) {
  condition <- structure(
    class = c(class, "kguard_error", "error", "condition"),
    c(list(message = paste0(...), call = NULL), fields)
  )
  stop(condition)
}

stop_option <- function(argument, requirement, value) {
  stop_kguard(
    "kguard_option_error",
    "`", argument, "` must be ", in_r_words(requirement), ", got ", spell(value),
    fields = list(argument = argument, value = value)
  )
}

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
  shape <- dim(value)
  if (!is.null(shape)) {
    return(paste0("an array of dimensions ", paste(shape, collapse = " x ")))
  }
  text <- paste(deparse(value, width.cutoff = 80L, nlines = 2L), collapse = " ")
  if (nchar(text) > 80L) paste0(substr(text, 1L, 79L), "...") else text
}
