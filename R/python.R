the <- new.env(parent = emptyenv())

.onLoad <- function(libname, pkgname) {
  declare_python_needs()
  refuse_generators()
}

# reticulate from 1.41 on sets up a Python environment from what packages declare.
declare_python_needs <- function() {
  if ("py_require" %in% getNamespaceExports("reticulate")) {
    py_require <- getExportedValue("reticulate", "py_require")
    py_require(c("keras>=3.7", "tensorflow"))
  }
}

# The Python module behind the R functions, loaded on first use.
bridge <- function() {
  if (is.null(the$bridge)) {
    the$bridge <- load_bridge(system.file("python", package = "kguard"))
    the$process <- Sys.getpid()
  }
  if (the$process != Sys.getpid()) {
    stop_kguard(
      "kguard_python_error",
      "kguard cannot be used in a fork of the process in which Python was started, as ",
      "parallel::mclapply() makes. Use processes of their own, e.g. parallel::makePSOCKcluster()."
    )
  }
  the$bridge
}

load_bridge <- function(path) {
  if (!file.exists(file.path(path, "pykguard", "__init__.py"))) {
    stop_kguard(
      "kguard_installation_error",
      "kguard was installed without its Python part, which should be in ",
      sQuote(file.path(path, "pykguard"), FALSE), ". Please install it again."
    )
  }
  if (!reticulate::py_available(initialize = TRUE)) {
    stop_kguard(
      "kguard_python_error",
      "kguard needs Python, and reticulate found none. ",
      "Set the environment variable RETICULATE_PYTHON to a Python that has Keras 3."
    )
  }
  require_modules(Sys.getenv("KERAS_BACKEND"))
  bridge <- reticulate::import_from_path("pykguard.r_bridge", path = path)
  bridge$warn_through(warn_kguard)
  bridge
}

# Keras, and the backend that it was told to use or else one of those it may use.
require_modules <- function(backend) {
  backends <- if (nzchar(backend)) backend else c("tensorflow", "jax", "torch")
  there <- vapply(c("keras", backends), reticulate::py_module_available, NA)
  if (!there[[1]]) stop_missing_module("keras")
  if (!any(there[-1])) stop_missing_module(backends[[1]])
}

# The guards' warnings, as conditions of class "kguard_warning".
warn_kguard <- function(message) {
  warning(structure(
    class = c("kguard_warning", "warning", "condition"),
    list(message = message, call = NULL)
  ))
}

stop_missing_module <- function(module) {
  python <- reticulate::py_config()$python
  stop_kguard(
    "kguard_python_error",
    "kguard needs the Python module ", sQuote(module, FALSE), ", which is not in ", python,
    ". To install it, run\n  ", shQuote(python), " -m pip install keras ",
    if (module == "keras") "tensorflow" else module
  )
}
