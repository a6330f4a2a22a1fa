# Turns learning rates given in R, and the epochs at which they are set, into what Python takes. What
# Python would misread is passed on as R spells it, and refused there.

rate_to_python <- function(rate, of_epoch = FALSE) {
  if (inherits(rate, "python.builtin.object")) {
    return(if (is_alive(rate)) rate else unusable(rate))
  }
  if (is.function(rate)) {
    return(rate_function(rate, of_epoch))
  }
  if (is_one_number(rate) && rate > 0) as.vector(rate) else unusable(rate)
}

# A rate, or a vector or list of one for each epoch.
rates_to_python <- function(rate) {
  if (length(rate) == 1L && is_plain_list(rate)) rate <- rate[[1L]]
  several <- length(rate) != 1L && is.null(dim(rate)) && (is_plain_list(rate) || is_plain_number(rate))
  if (several) unname(lapply(rate, rate_to_python)) else rate_to_python(rate, of_epoch = TRUE)
}

# Which epochs, or the function that tells; both count from 1.
epochs_to_python <- function(epoch) {
  if (inherits(epoch, "python.builtin.object")) {
    return(if (is_alive(epoch)) epoch else unusable(epoch))
  }
  if (is.function(epoch)) {
    return(epoch_function(epoch))
  }
  if (length(epoch) == 1L || !is_plain_number(epoch) || !is.null(dim(epoch))) {
    return(epoch_to_python(epoch))
  }
  unname(lapply(epoch, epoch_to_python))
}

epoch_to_python <- function(epoch) {
  whole <- if (is_one_number(epoch)) as_whole(as.vector(epoch))
  if (is.integer(whole)) whole else unusable(epoch)
}

# Functions of R do not tell Python their arguments, so they are told apart here.
rate_function <- function(f, of_epoch) {
  if (takes_nothing(f)) {
    return(bridge()$of_nothing(function() rate_given(f())))
  }
  if (of_epoch && takes_one(f)) {
    return(bridge()$of_epoch(function(epoch) rate_given(f(epoch), rate_to_python)))
  }
  unusable(f)
}

# What a function gave, or the error that it ended with, which is no rate.
rate_given <- function(call, as_python = rate_now) {
  tryCatch(as_python(call),
    error = function(condition) bridge()$Unusable(paste("the error:", conditionMessage(condition))),
    interrupt = function(condition) interrupted
  )
}

# What a function gives that is the rate itself: 0 is one, as a schedule may end with it.
rate_now <- function(rate) {
  if (inherits(rate, "python.builtin.object")) {
    return(rate)
  }
  if (is_one_number(rate) && rate >= 0) as.vector(rate, "double") else unusable(rate)
}

epoch_function <- function(f) {
  if (!takes_one(f)) {
    stop_option("epoch", "a whole number of at least 1, several of them or a function of the epoch", f)
  }
  is_due <- function(epoch) {
    due <- f(epoch)
    if (!isTRUE(due) && !isFALSE(due)) stop_option("epoch", "a function that gives TRUE or FALSE", due)
    due
  }
  bridge()$of_epoch(function(epoch) {
    tryCatch(is_due(epoch), error = stop_in_epoch, interrupt = function(condition) interrupted)
  })
}

stop_in_epoch <- function(parent) {
  if (inherits(parent, "kguard_option_error")) stop(parent)
  stop_kguard(
    "kguard_option_error", "`epoch`, a function, failed: ", conditionMessage(parent),
    fields = list(argument = "epoch", parent = parent)
  )
}

takes_nothing <- function(f) !any(is_required(f))

takes_one <- function(f) {
  required <- is_required(f)
  length(required) > 0L && !any(required[-1L])
}

unusable <- function(value) bridge()$Unusable(spell(value))

is_plain_list <- function(value) is.list(value) && !is.object(value)

is_plain_number <- function(value) is.numeric(value) && !is.object(value)

is_one_number <- function(value) {
  is_plain_number(value) && length(value) == 1L && is.null(dim(value)) && is.finite(value)
}
