# What `fit()` returns in keras3 and keras, with the numbers of the epochs.
loop_history <- function(record) {
  structure(
    list(
      params = record$params,
      metrics = lapply(record$metrics, as.numeric),
      epoch = as.integer(record$epoch)
    ),
    class = c("kguard_loop_history", "keras_training_history")
  )
}

#' @export
print.kguard_loop_history <- function(x, ...) {
  n <- length(x$epoch)
  cat("<history of a guarded loop> of", n, ngettext(n, "epoch", "epochs"), "\n")
  if (n) print(tail(data.frame(epoch = x$epoch, x$metrics, check.names = FALSE), 3L), row.names = FALSE)
  invisible(x)
}

# The columns are those of keras3's method.
#' @export
as.data.frame.kguard_loop_history <- function(x, row.names = NULL, optional = FALSE, ...) {
  names <- names(x$metrics)
  metric <- sub("^val_", "", names)
  is_validation <- rep(startsWith(names, "val_"), each = length(x$epoch))
  data.frame(
    epoch = rep(x$epoch, length(names)),
    value = unlist(x$metrics, use.names = FALSE) %||% numeric(),
    metric = factor(rep(metric, each = length(x$epoch)), unique(metric)),
    data = factor(is_validation, c(FALSE, TRUE), c("training", "validation"))
  )
}

#' @export
plot.kguard_loop_history <- function(x, ...) {
  rows <- as.data.frame(x)
  rows$what <- paste0(ifelse(rows$data == "validation", "val_", ""), rows$metric)
  plot_curves(with_gaps(rows), numeric(), "No epoch has ended with a number", invisible(x))
}
