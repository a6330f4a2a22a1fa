#' Let a training loop of your own drive guards, history and progress bar
#'
#' `guarded_loop()` makes an object that a hand-written loop asks for its epochs and batches, and that
#' runs the callbacks as `fit()` does: guards revert, [callback_loss_history()] records, the progress bar
#' shows and a history comes out. The callbacks are given all models and optimizers of the loop as one,
#' so that a guard which goes back puts all of them back. Where there are several models, Keras'
#' callbacks that set a learning rate set that of the first optimizer, which is also the one that is
#' recorded; a guard's `lr_factor` cuts all.
#'
#' ```r
#' loop <- guarded_loop(model, optimizer, callbacks = list(guard), epochs = 20)
#' with(loop, {
#'   while (loop$next_epoch()) {
#'     while (!is.null(batch <- loop$next_batch(batches))) {
#'       # a step of your own
#'       loop$report(loss, size = nrow(batch$x))
#'     }
#'   }
#' })
#' loop$history
#' ```
#'
#' @section Methods:
#' \describe{
#'   \item{`next_epoch()`}{Ends the epoch that is open, begins the next and returns `TRUE`; `FALSE` after
#'     the last one, and where a callback stopped the training.}
#'   \item{`next_batch(data)`}{Begins a batch and returns it; `NULL` at the end of the data, after `steps`
#'     batches, and where a callback stopped the training. `data` is a list of batches; a function that
#'     returns the next one, or `NULL` at the end; anything of Python's that gives batches, as a
#'     `tf.data.Dataset`; or a number `n` for `1`, `2`, ..., `n`. As in a `for` loop it is looked at once in
#'     an epoch: `next_batch(shuffle(x))` shuffles for the first batch, not for each.}
#'   \item{`epochs()`, `batches(data)`}{The same as iterators, functions that the `for` of the package coro
#'     goes through: `coro::loop(for (batch in loop$batches(data)) ...)`. R's own `for` runs over what is
#'     there beforehand, sees no callback stop the training and no report missing, and refuses them.}
#'   \item{`report(loss, size = 1, ..., state = NULL)`}{Says what a batch came to, once in each, after its
#'     update: its loss, how many samples it had, and more numbers by the names under which they are
#'     logged. Each is a number or a tensor without dimensions; `NaN` is for the callbacks to act on. What
#'     is logged is Keras' mean since the epoch began, `sum(size * value) / sum(size)`.}
#'   \item{`report_validation(...)`}{Says what a validation came to, for the logs of the epoch: numbers by
#'     name, or what `evaluate()` returned. `val_` is put before names that lack it.}
#'   \item{`state()`}{On JAX, the arrays to compute a batch with, read anew in each: a list of
#'     `trainable_variables`, `non_trainable_variables` and `optimizer_variables`, or a list of such
#'     lists where there are several models. `report(state = )` takes the new ones back. Where a step
#'     assigns the variables, it is not needed.}
#' }
#'
#' @section Fields:
#' \describe{
#'   \item{`epoch`, `batch`}{The numbers of the epoch and of the batch that were begun last, from 1; 0
#'     before.}
#'   \item{`stopped`}{Whether a callback wants the training to stop.}
#'   \item{`history`}{What `fit()` returns: an object of class `keras_training_history` with `params` and
#'     `metrics`, for `print()`, `plot()` and `as.data.frame()`; a metric that an epoch did not report is
#'     `NaN` there.}
#' }
#' They cannot be assigned.
#'
#' @section How a loop ends:
#' Its epochs run within `with(loop, ...)`, which evaluates its second argument where it was called: R
#' tells an object of nothing that leaves a loop, so without it a `break` could not end the training.
#'
#' - At the end of the epochs, and when a callback stops training, all is as in `fit()`.
#' - After `break` or `return()` the callbacks are told of the end of the training too; an epoch that was
#'   left is not judged. Where a batch was not reported, that counts as an error, with a warning.
#' - After an error or an interrupt they are not, as in `fit()`; a [callback_loss_history()] closes its
#'   file. The condition goes on as it is.
#'
#' With `restore_on_error`, models and optimizers are then as they were before the batch that was not
#' reported yet, whether its gradients were applied or not. That takes a copy of the state at each batch;
#' without it they stay as they are. A batch that was reported stays.
#'
#' @section Errors:
#' An argument that cannot be used is refused with a condition of class `kguard_option_error` that names
#' it, what it must be and what it was: a model that is not built, an optimizer that was built for
#' other variables, a loss that is `NULL` or of length 2. A loop that is not run as it must be, such as
#' without a report, ends with one of class `kguard_loop_error`.
#'
#' @param models A Keras model that is built, or a list of them: of keras3, of keras 2.16, or made in
#'   Python.
#' @param optimizers The optimizer of the model, or a list: the one at a position trains the model at that
#'   position. One that was not built is built for its model's trainable variables.
#' @param callbacks `NULL`, a callback or a list of them, as `fit()` takes. Epochs and batches that hooks in
#'   R are given count from 1.
#' @param epochs The number of the last epoch.
#' @param initial_epoch The number of the first epoch, counted from 1.
#' @param steps How many batches an epoch has, for the progress bar, and to cut longer data short; `NULL`
#'   means as many as there are.
#' @param verbose 0 is silent, 1 shows a progress bar, 2 prints a line an epoch.
#' @param restore_on_error Whether an error within a batch undoes that batch.
#' @return An R6 object of class `GuardedLoop`. It runs once.
#' @seealso [callback_revert_on_loss_increase()], [callback_loss_history()], [KerasCallback]
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' tf <- reticulate::import("tensorflow")
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Input(list(1L)), keras$layers$Dense(1L)))
#' optimizer <- keras$optimizers$SGD(0.1)
#' squared <- keras$losses$MeanSquaredError()
#' x <- matrix(seq(-2, 2, length.out = 64))
#' batches <- lapply(split(x, rep(1:4, 16)), as.matrix)
#' losses <- callback_loss_history()
#' loop <- guarded_loop(model, optimizer, list(losses), epochs = 3, verbose = 0)
#' with(loop, while (loop$next_epoch()) {
#'   while (!is.null(x <- loop$next_batch(batches))) {
#'     tape <- tf$GradientTape()
#'     with(tape, loss <- squared(3 * x, model(x)))
#'     variables <- model$trainable_variables
#'     optimizer$apply(tape$gradient(loss, variables), variables)
#'     loop$report(loss, size = nrow(x))
#'   }
#' })
#' loop$history
#' losses$losses
#' @export
guarded_loop <- function(models, optimizers, callbacks = NULL, epochs = 1, initial_epoch = 1, steps = NULL,
                         verbose = 1, restore_on_error = TRUE) {
  GuardedLoop$new(
    models, optimizers, callbacks, epochs, initial_epoch, steps, verbose, restore_on_error
  )
}

GuardedLoop <- R6Class("GuardedLoop",
  cloneable = FALSE,
  public = list(
    initialize = function(models, optimizers, callbacks, epochs, initial_epoch, steps, verbose,
                          restore_on_error) {
      options <- as.list(environment())
      result <- do.call(bridge()$make_loop, Map(loop_option, names(options), options))
      stop_if_refused(result, options)
      private$loop <- result$made
      private$n_models <- if (is_plain_list(models)) length(models) else 1L
      private$last_epoch <- epochs
    },
    next_epoch = function() {
      if (!private$is_within) {
        stop_kguard("kguard_loop_error", "the epochs of a guarded loop run within `with(loop, { ... })`")
      }
      private$source <- NULL
      epoch <- private$ask("next_epoch")
      if (is.null(epoch)) {
        return(FALSE)
      }
      private$at_epoch <- epoch
      private$at_batch <- 0L
      TRUE
    },
    next_batch = function(data) {
      wants <- private$ask("wants_batch", "next_batch()")
      if (wants && !identical(private$source, substitute(data))) {
        private$take <- batches_of(data)
        private$source <- substitute(data)
      }
      batch <- if (wants) private$take() else exhausted()
      private$begin(batch, if_ended = NULL)
    },
    epochs = function() {
      staying_at_end(function() if (self$next_epoch()) self$epoch else exhausted())
    },
    batches = function(data) {
      take <- batches_of(data)
      staying_at_end(function() {
        batch <- if (private$ask("wants_batch", "batches()")) take() else exhausted()
        private$begin(batch, if_ended = exhausted())
      })
    },
    report = function(loss, size = 1, ..., state = NULL) {
      options <- list(loss = loss, size = size, state = state, ...)
      private$ask(
        "end_batch", reported_number(loss), reported_size(size), reported_state(state),
        reported_metrics(...),
        options = options
      )
      invisible(self)
    },
    report_validation = function(...) {
      values <- reported_validation(...)
      private$ask("validated", values, options = list(...))
      invisible(self)
    },
    state = function() name_state(private$ask("state"), private$n_models),
    print = function(...) {
      cat(describe_loop(self, private), sep = "\n")
      invisible(self)
    }
  ),
  active = list(
    epoch = function(value) {
      if (!missing(value)) stop_read_only("epoch", "where the loop is")
      private$at_epoch
    },
    batch = function(value) {
      if (!missing(value)) stop_read_only("batch", "where the loop is")
      private$at_batch
    },
    stopped = function(value) {
      if (!missing(value)) stop_read_only("stopped", "what the callbacks decided")
      private$ask("is_stopped")
    },
    history = function(value) {
      if (!missing(value)) stop_read_only("history", "what was recorded")
      loop_history(private$ask("record"))
    }
  ),
  private = list(
    loop = NULL,
    n_models = NULL,
    last_epoch = NULL,
    at_epoch = 0L,
    at_batch = 0L,
    source = NULL, # what `data` was called when `take`, which gives its batches, was made
    take = NULL,
    is_within = FALSE,
    has_failed = FALSE,
    ended = NULL, # where it ended, if that was by an error
    ask = function(what, ..., options = list()) {
      if (!is_alive(private$loop)) {
        stop_kguard(
          "kguard_state_error", "this guarded loop was saved in another session of R, and ended with that"
        )
      }
      private$has_failed <- FALSE # an error that was there before was dealt with
      result <- bridge()$ask(private$loop, what, ...)
      stop_if_refused(result, options)
      if (!is.null(result$misuse)) stop_kguard("kguard_loop_error", result$misuse)
      result$value
    },
    begin = function(batch, if_ended) {
      if (is_exhausted(batch)) {
        private$source <- NULL
        return(if_ended)
      }
      private$at_batch <- private$ask("begin_batch")
      batch
    },
    enter = function() {
      if (private$is_within) stop_kguard("kguard_loop_error", "`with()` of this loop is called within itself")
      private$is_within <- TRUE
    },
    fail = function(condition) private$has_failed <- TRUE,
    leave = function() {
      has_failed <- private$has_failed
      private$is_within <- FALSE
      private$ended <- private$ask("leave", has_failed)
    }
  )
)

#' @rdname guarded_loop
#' @param data A loop.
#' @param expr What is evaluated: the loop over its epochs.
#' @param ... Not used; there for the generic.
#' @export
with.GuardedLoop <- function(data, expr, ...) {
  loop <- data$.__enclos_env__$private
  loop$enter()
  on.exit(loop$leave())
  value <- withCallingHandlers(withVisible(expr), error = loop$fail, interrupt = loop$fail)
  if (value$visible) value$value else invisible(value$value)
}

loop_option <- function(name, value) {
  switch(name,
    models = ,
    optimizers = targets_to_python(value),
    callbacks = callbacks_to_python(value),
    option_to_python(name, value)
  )
}

targets_to_python <- function(objects) {
  if (is_plain_list(objects)) unname(lapply(objects, target_to_python)) else target_to_python(objects)
}

callbacks_to_python <- function(callbacks) {
  if (!is_plain_list(callbacks)) {
    return(callback_to_python(callbacks))
  }
  unname(lapply(callbacks, callback_to_python))
}

# keras 2.16's own KerasCallback is for its fit() only.
callback_to_python <- function(callback) {
  ours <- c("kguard_callback", "python.builtin.object", "R6ClassGenerator")
  if (is.null(callback) || inherits(callback, ours)) callback else unusable(callback)
}

describe_loop <- function(loop, private) {
  models <- paste(private$n_models, ngettext(private$n_models, "model", "models"))
  where <- if (private$ask("has_ended")) "ended" else "at"
  at <- sprintf("%s epoch %d of %s, batch %d", where, loop$epoch, format(private$last_epoch), loop$batch)
  if (loop$epoch == 0L) at <- sprintf("not begun; epochs: %s", format(private$last_epoch))
  if (!is.null(private$ended)) at <- paste("ended by an error", private$ended)
  metrics <- vapply(loop$history$metrics, function(values) tail(values, 1L), 0)
  c(
    sprintf("<GuardedLoop> of %s, %s", models, at),
    if (length(metrics)) sprintf("  last epoch: %s", toString(paste(names(metrics), signif(metrics, 4L))))
  )
}
