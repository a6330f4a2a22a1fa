# What a LossHistory and a run that was read from a file share. Both keep a Python object with these
# fields, which `private$.kguard_python()` gives.
history_fields <- list(
  losses = function(value) {
    if (!missing(value)) stop_read_only("losses", "what was recorded")
    as.numeric(private$.kguard_python()$losses)
  },
  batches = function(value) {
    if (!missing(value)) stop_read_only("batches", "what was recorded")
    columns_frame(bridge()$columns(private$.kguard_python(), "batches"))
  },
  epochs = function(value) {
    if (!missing(value)) stop_read_only("epochs", "what was recorded")
    columns_frame(bridge()$columns(private$.kguard_python(), "epochs"))
  },
  events = function(value) {
    if (!missing(value)) stop_read_only("events", "what was recorded")
    events_frame(bridge()$events(private$.kguard_python()))
  },
  batches_per_epoch = function(value) {
    if (!missing(value)) stop_read_only("batches_per_epoch", "what was recorded")
    private$.kguard_python()$batches_per_epoch
  }
)

history_methods <- list(
  explain = function() {
    explanation(bridge()$explanation(private$.kguard_python()))
  },
  print = function(...) {
    epochs <- self$epochs
    count <- function(n, one, many) paste(n, ngettext(n, one, many))
    n_events <- nrow(self$events)
    cat(
      "<", private$.kguard_title(), "> of ", count(length(self$losses), "batch", "batches"),
      " in ", count(nrow(epochs), "epoch", "epochs"),
      if (n_events) c(", ", count(n_events, "event", "events")), "\n",
      sep = ""
    )
    if (nrow(epochs)) print(tail(epochs, 3L), row.names = FALSE)
    invisible(self)
  }
)

# Carries the S3 class that the methods belong to: users call classes of their own LossHistory.
RecordedHistory <- R6Class("kguard_history",
  inherit = CoreCallback,
  public = history_methods,
  active = history_fields,
  private = list(.kguard_title = function() class(self)[1L])
)

columns_frame <- function(columns) {
  frame <- as.data.frame(lapply(columns, as.vector), optional = TRUE)
  names(frame) <- names(columns)
  frame
}
