# Two callbacks that note each hook with its index, counted from 0, and the names of its logs: one in
# R, one of the same kind in Python. Also used in processes of their own, so without testthat.
r_recorder <- function(first = 1L) {
  note_for <- function(hook) {
    if (grepl("_(epoch|batch)_", hook)) {
      eval(bquote(function(index, logs = NULL) self$note(.(hook), index - .(first), logs)))
    } else {
      eval(bquote(function(logs = NULL) self$note(.(hook), "", logs)))
    }
  }
  hooks <- lapply(stats::setNames(kguard:::hook_names, kguard:::hook_names), note_for)
  note <- function(hook, index, logs) {
    self$seen <- c(self$seen, paste(hook, index, toString(sort(names(logs)))))
  }
  R6::R6Class("Recorder",
    inherit = kguard::KerasCallback,
    public = c(hooks, list(seen = character(), note = note))
  )$new()
}

python_recorder <- function(callbacks) {
  code <- paste(c(
    "def recorder(callbacks, with_index, without_index):",
    "    class Recorder(callbacks.Callback):",
    "        seen = []",
    "    def indexed(hook):",
    "        def note(self, index, logs=None):",
    "            self.seen.append(f\"{hook} {index} {', '.join(sorted(logs or ()))}\")",
    "        return note",
    "    def plain(hook):",
    "        def note(self, logs=None):",
    "            self.seen.append(f\"{hook}  {', '.join(sorted(logs or ()))}\")",
    "        return note",
    "    for hook in with_index: setattr(Recorder, hook, indexed(hook))",
    "    for hook in without_index: setattr(Recorder, hook, plain(hook))",
    "    return Recorder()"
  ), collapse = "\n")
  hooks <- kguard:::hook_names
  has_index <- grepl("_(epoch|batch)_", hooks)
  made <- reticulate::py_run_string(code, local = TRUE, convert = FALSE)
  made$recorder(callbacks, as.list(hooks[has_index]), as.list(hooks[!has_index]))
}

seen_by <- function(recorder) {
  seen <- if (is.environment(recorder) && !inherits(recorder, "python.builtin.object")) {
    recorder$seen
  } else {
    reticulate::py_to_r(recorder$seen)
  }
  sub(" +$", "", as.character(seen))
}
