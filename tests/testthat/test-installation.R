test_that("the installed package holds the real Python core", {
  file <- system.file("python", "pykguard", "__init__.py", package = "kguard")
  expect_true(nzchar(file))
  expect_gt(length(readLines(file)), 10L)
  folder <- dirname(file)
  expect_true(all(nzchar(Sys.readlink(folder)) == FALSE))
  version <- grep("__version__ = ", readLines(file), value = TRUE)
  expect_match(version, as.character(utils::packageVersion("kguard")), fixed = TRUE)
})

test_that("the core in use is the one inside the package", {
  skip_without_keras()
  file <- reticulate::py_get_attr(kguard:::bridge(), "__file__")
  expect_identical(
    normalizePath(dirname(dirname(reticulate::py_to_r(file)))),
    normalizePath(system.file("python", package = "kguard"))
  )
})

test_that("a missing Python part is named", {
  expect_error(kguard:::load_bridge(tempfile()), class = "kguard_installation_error")
})

test_that("in a fresh process Python starts with the first guard, not with library()", {
  skip_without_keras()
  output <- in_fresh_r(c(
    "library(kguard)",
    "cat('before:', reticulate::py_available(), '\\n')",
    "guard <- callback_revert_on_loss_increase(patience = 3)",
    "cat('after:', reticulate::py_available(), '\\n')",
    "print(guard)"
  ))
  expect_true("before: FALSE " %in% output, label = paste(output, collapse = "\n"))
  expect_true("after: TRUE " %in% output, label = paste(output, collapse = "\n"))
  expect_true("<RevertOnLossIncrease> on loss" %in% output)
})

test_that("a missing Python module is a clear message with the line to run", {
  skip_without_keras()
  folder <- tempfile()
  on.exit(unlink(folder, recursive = TRUE))
  python <- reticulate::py_config()$python
  status <- system2(python, c("-m", "venv", "--without-pip", folder))
  expect_identical(status, 0L)
  empty <- file.path(folder, "bin", "python")
  output <- in_fresh_r(
    c(
      "library(kguard)",
      "condition <- tryCatch(callback_restore_best(), error = identity)",
      "cat(class(condition)[1], '\\n')",
      "cat(conditionMessage(condition), '\\n')"
    ),
    env = paste0("RETICULATE_PYTHON=", empty)
  )
  text <- paste(output, collapse = "\n")
  expect_match(text, "kguard_python_error")
  expect_match(text, "kguard needs the Python module 'keras'", fixed = TRUE)
  expect_match(text, "-m pip install keras tensorflow", fixed = TRUE)
  expect_false(grepl("Traceback", text))
})

test_that("what is done when the package is loaded can be done again", {
  skip_without_keras()
  expect_no_error <- function(code) expect_error(code, NA)
  expect_no_error(kguard:::.onLoad(dirname(system.file(package = "kguard")), "kguard"))
  Mine <- R6::R6Class("Mine", inherit = KerasCallback)
  Other <- R6::R6Class("Other", public = list(x = 1))
  kguard:::refuse_ours()
  expect_error(reticulate::r_to_py(Mine), "Mine.*\\$new\\(\\)", class = "kguard_hook_error")
  expect_false(inherits(tryCatch(reticulate::r_to_py(Other), error = identity), "kguard_hook_error"))
})

test_that("a missing module is named with the line that installs it", {
  skip_without_keras()
  refused <- function(code, pattern) expect_error(code, pattern, class = "kguard_python_error")
  refused(kguard:::stop_missing_module("keras"), "-m pip install keras tensorflow")
  refused(kguard:::stop_missing_module("jax"), "-m pip install keras jax")
  refused(kguard:::require_modules("no_such_backend"), "'no_such_backend'")
})

test_that("a process that is not the one in which Python was started is told so", {
  skip_without_keras()
  callback_restore_best()
  the <- kguard:::the
  process <- the$process
  on.exit(the$process <- process)
  the$process <- process + 1L
  expect_error(callback_restore_best(), "fork of the process", class = "kguard_python_error")
})

test_that("it is seen which package calls", {
  expect_true(kguard:::is_called_by("testthat"))
  expect_false(kguard:::is_called_by("no.such.package"))
})
