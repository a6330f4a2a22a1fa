# Where the batches of a loop come from: a function that gives the next one, and `exhausted` at the end.

# What coro's iterators return at their end.
exhausted <- function() as.symbol(".__exhausted__.")

is_exhausted <- function(batch) identical(batch, exhausted())

# An iterator of coro's: once it has come to its end, it stays there.
staying_at_end <- function(take) {
  at <- new.env(parent = emptyenv())
  at$end <- FALSE
  function() {
    value <- if (at$end) exhausted() else take()
    at$end <- is_exhausted(value)
    value
  }
}

# The function that gives the batches of `data`.
batches_of <- function(data) {
  if (inherits(data, "python.builtin.object")) {
    return(python_batches(data))
  }
  if (is.function(data) && takes_nothing(data)) {
    return(function_batches(data))
  }
  if (is_plain_list(data) && !any(vapply(data, is.null, NA))) {
    return(listed_batches(length(data), function(i) data[[i]]))
  }
  if (is_one_number(data) && data >= 1 && data == round(data)) {
    return(listed_batches(data, identity))
  }
  stop_data(data)
}

listed_batches <- function(n, batch) {
  at <- new.env(parent = emptyenv())
  at$i <- 0L
  function() {
    at$i <- at$i + 1L
    if (at$i > n) exhausted() else batch(at$i)
  }
}

# R's way of an end is NULL, coro's is its symbol.
function_batches <- function(f) {
  function() {
    batch <- f()
    if (is.null(batch)) exhausted() else batch
  }
}

python_batches <- function(data) {
  if (!is_alive(data) || !any(vapply(c("__iter__", "__getitem__"), reticulate::py_has_attr, NA, x = data))) {
    stop_data(data)
  }
  iterator <- reticulate::as_iterator(data)
  function() {
    batch <- reticulate::iter_next(iterator, completed = exhausted())
    if (is.null(batch)) stop_option("data", "of batches that are not None", data)
    batch
  }
}

stop_data <- function(data) {
  stop_option("data", paste(
    "a list of batches none of which is NULL, a function without arguments that gives the next one or",
    "NULL, something of Python's that gives batches, or how many batches there are"
  ), data)
}
