# What the R6 classes over a Python callback share. Their hooks are not called from Python, where the
# work is done; they are there for subclasses, whose `super$on_epoch_end(epoch, logs)` runs the core.
CoreCallback <- R6Class("kguard_core_callback",
  inherit = KerasCallback,
  public = list(
    initialize = function(class, options) {
      private$.kguard_core <- new_core(class, options)
    },
    on_epoch_begin = function(epoch, logs = NULL) private$.kguard_call("on_epoch_begin", epoch, logs),
    on_epoch_end = function(epoch, logs = NULL) private$.kguard_call("on_epoch_end", epoch, logs),
    on_train_batch_begin = function(batch, logs = NULL) {
      private$.kguard_call("on_train_batch_begin", batch, logs)
      self$on_batch_begin(batch, logs)
    },
    on_train_batch_end = function(batch, logs = NULL) {
      private$.kguard_call("on_train_batch_end", batch, logs)
      self$on_batch_end(batch, logs)
    },
    on_train_begin = function(logs = NULL) private$.kguard_call("on_train_begin", NULL, logs),
    on_train_end = function(logs = NULL) private$.kguard_call("on_train_end", NULL, logs)
  ),
  private = list(
    .kguard_core = NULL,
    .kguard_first = 1L, # the first index, as the front end counts
    .kguard_python = function() {
      if (is.null(private$.kguard_core)) {
        stop_kguard(
          "kguard_state_error",
          class(self)[1L], " has no Python guard. ",
          "Perhaps its `initialize()` does not call `super$initialize()`?"
        )
      }
      if (!is_alive(private$.kguard_core)) {
        stop_kguard(
          "kguard_state_error",
          class(self)[1L], " was saved in another session of R, and its Python guard ended with that. ",
          "Make a new one; keep what you need of the old as data frames."
        )
      }
      private$.kguard_core
    },
    .kguard_call = function(hook, index, logs) {
      logs <- if (is.null(logs)) NULL else do.call(reticulate::dict, as.list(logs))
      index <- if (!is.null(index)) as.integer(index)
      bridge()$call(private$.kguard_python(), hook, index, logs, private$.kguard_first)
      invisible()
    },
    .kguard_model = function() private$.kguard_python()$model,
    .kguard_params = function() private$.kguard_python()$params,
    .kguard_to_python = function(first) {
      core <- private$.kguard_python()
      hooks <- overridden_hooks(self, private$.kguard_base_methods())
      if (length(hooks) == 0L) {
        return(core)
      }
      private$.kguard_first <- first
      hooks_to_python(self, hooks, core, first, private$.kguard_memory())
    },
    .kguard_base_methods = function() {
      modifyList(KerasCallback$public_methods, CoreCallback$public_methods)
    }
  )
)

# The guards that judge epochs: what they did, and what they know.
Guard <- R6Class("kguard_guard",
  inherit = CoreCallback,
  public = list(
    get_config = function() private$.kguard_python()$get_config(),
    print = function(...) {
      core <- private$.kguard_python()
      lines <- vapply(bridge()$events(core), `[[`, "", "line")
      cat(describe_guard(self, bridge()$judged_by(core), lines), sep = "\n")
      invisible(self)
    }
  ),
  active = list(
    events = function(value) {
      if (!missing(value)) stop_read_only("events")
      events_frame(bridge()$events(private$.kguard_python()))
    },
    n_reverts = function(value) {
      if (!missing(value)) stop_read_only("n_reverts")
      private$.kguard_python()$n_reverts
    },
    best = function(value) {
      if (!missing(value)) stop_read_only("best")
      or_na(private$.kguard_python()$best, NA_real_)
    },
    best_epoch = function(value) {
      if (!missing(value)) stop_read_only("best_epoch")
      or_na(private$.kguard_python()$best_epoch, NA_integer_, shift = 1L)
    },
    monitor = function(value) {
      if (!missing(value)) stop_read_only("monitor")
      private$.kguard_python()$monitor
    }
  )
)

#' @rdname callback_revert_on_loss_increase
#' @param x A guard.
#' @param row.names,optional,... Not used; there for the generic.
#' @export
as.data.frame.kguard_guard <- function(x, row.names = NULL, optional = FALSE, ...) {
  x$events
}

stop_read_only <- function(field, is = "what the guard found") {
  stop_kguard("kguard_state_error", "`", field, "` is ", is, "; it cannot be assigned")
}

or_na <- function(value, na, shift = 0L) {
  if (is.null(value)) na else value + shift
}

# Events as a data frame, a row an event. NA where an event has no such value; NaN is a value.
events_frame <- function(events) {
  column <- function(name, na) {
    values <- lapply(events, function(event) if (is.null(event[[name]])) na else event[[name]])
    vapply(values, function(value) as_mode(value, na), na)
  }
  data.frame(
    epoch = column("epoch", NA_integer_),
    batch = column("batch", NA_integer_),
    action = column("action", NA_character_),
    monitor = column("monitor", NA_character_),
    value = column("value", NA_real_),
    reference = column("reference", NA_real_),
    restored_from = column("restored_from", NA_integer_),
    learning_rate = column("learning_rate", NA_real_),
    reason = column("reason", NA_character_)
  )
}

as_mode <- function(value, like) {
  storage.mode(value) <- storage.mode(like)
  value
}

describe_guard <- function(guard, judged_by, lines) {
  best <- best_in_words(guard$best, guard$best_epoch)
  c(
    sprintf("<%s> on %s", class(guard)[1L], judged_by),
    sprintf("  best: %s; events: %d", best, length(lines)),
    paste0("  ", lines)[seq_along(lines)]
  )
}
