# How callbacks reach Python: reticulate calls these for each element of a list of callbacks.

#' @export
r_to_py.kguard_callback <- function(x, convert = FALSE) {
  x$.__enclos_env__$private$.kguard_to_python(first = if (is_called_by("keras")) 0L else 1L)
}

class(KerasCallback) <- c("kguard_generator", class(KerasCallback))
class(RevertOnLossIncrease) <- class(KerasCallback)
class(RevertToBestOnIncrease) <- class(KerasCallback)
class(RestoreBest) <- class(KerasCallback)
class(SpikeGuard) <- class(KerasCallback)
class(LossHistory) <- class(KerasCallback)
class(ResetLearningRate) <- class(KerasCallback)

#' @export
r_to_py.kguard_generator <- function(x, convert = FALSE) {
  stop_kguard(
    "kguard_hook_error", "a class generator, ", generator_name(x), ", is in the place of a callback: ",
    "make an object of it with $new()"
  )
}

generator_name <- function(generator) {
  if (generator$classname == "kguard_callback") "KerasCallback" else generator$classname
}

# A class that users derive from ours is an R6 generator as any other. keras3 and keras make Python
# classes of those, once they are loaded, and where neither is there nobody knows what they are.
refuse_generators <- function() {
  others <- c("keras3", "keras")
  for (package in others) setHook(packageEvent(package, "onLoad"), function(...) refuse_ours())
  installed <- nzchar(vapply(others, function(package) system.file(package = package), ""))
  # Not before they are loaded: R would say that they overwrite what is ours.
  if (!any(installed) || any(others %in% loadedNamespaces())) refuse_ours()
}

refuse_ours <- function() {
  reticulate <- asNamespace("reticulate")
  theirs <- utils::getS3method("r_to_py", "R6ClassGenerator", optional = TRUE, envir = reticulate)
  if (is.null(theirs)) theirs <- utils::getS3method("r_to_py", "default", envir = reticulate)
  refuse <- function(x, convert = FALSE) {
    if (is_ours(x)) r_to_py.kguard_generator(x) else theirs(x, convert)
  }
  registerS3method("r_to_py", "R6ClassGenerator", refuse, envir = reticulate)
}

is_ours <- function(generator) {
  while (!is.null(generator) && !inherits(generator, "kguard_generator")) {
    generator <- generator$get_inherit()
  }
  !is.null(generator)
}

# Whether a function of that package, which need not be there, is waiting for this one.
is_called_by <- function(package) {
  of_package <- function(frame) {
    home <- environment(sys.function(frame))
    is.environment(home) && environmentName(topenv(home)) == package
  }
  package %in% loadedNamespaces() && any(vapply(seq_len(sys.nframe()), of_package, NA))
}

# Whether an object of Python's is there: it is not in a workspace that was saved and loaded.
is_alive <- function(object) {
  !is.null(object) && !reticulate::py_is_null_xptr(object)
}
