# Carries the S3 class that the methods belong to: users may call classes of their own
# ResetLearningRate.
RateReset <- R6Class("kguard_rate_reset",
  inherit = CoreCallback,
  public = list(
    initialize = function(class, options) {
      private$.kguard_options <- options
      super$initialize(class, options)
    },
    get_config = function() private$.kguard_options,
    print = function(...) {
      options <- private$.kguard_options
      lines <- vapply(bridge()$events(private$.kguard_python()), `[[`, "", "line")
      cat(
        sprintf("<%s> at epoch %s", class_of(self), describe_epochs(options$epoch)),
        sprintf("  learning rate: %s", describe_rates(options$learning_rate)),
        sprintf("  events: %d", length(lines)),
        paste0("  ", lines)[seq_along(lines)],
        sep = "\n"
      )
      invisible(self)
    }
  ),
  active = list(
    events = function(value) {
      if (!missing(value)) stop_read_only("events", "what was reset")
      events_frame(bridge()$events(private$.kguard_python()))
    }
  ),
  private = list(.kguard_options = NULL)
)

describe_epochs <- function(epoch) {
  if (is.function(epoch)) "that a function chooses" else shorten(toString(epoch))
}

# Schedules by their class: their representation in Python is an address.
describe_rates <- function(rate) {
  describe <- function(one) {
    if (is_plain_number(one)) {
      toString(one)
    } else if (inherits(one, "python.builtin.object")) {
      sub(".*[.]", "", class(one)[1L])
    } else {
      "a function"
    }
  }
  shorten(toString(vapply(if (is_plain_list(rate)) rate else list(rate), describe, "")))
}

#' @rdname callback_reset_learning_rate
#' @param x,object A `ResetLearningRate`.
#' @param row.names,optional,... Not used; there for the generic.
#' @export
as.data.frame.kguard_rate_reset <- function(x, row.names = NULL, optional = FALSE, ...) {
  x$events
}

#' @rdname callback_reset_learning_rate
#' @export
summary.kguard_rate_reset <- function(object, ...) {
  events <- object$events
  data.frame(epoch = events$epoch, old = events$value, new = events$learning_rate)
}
