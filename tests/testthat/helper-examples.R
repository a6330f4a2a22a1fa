# The functions of a script in examples/, which the package does not hold: tools/check.R and
# tools/coverage.R say where it is.
example_script <- function(name) {
  skip_without_keras()
  files <- file.path(c(Sys.getenv("KGUARD_EXAMPLES"), test_path("..", "..", "examples")), name)
  file <- files[file.exists(files)]
  if (length(file) == 0L) {
    if (identical(Sys.getenv("KGUARD_TEST_KERAS"), "required")) {
      stop("KGUARD_EXAMPLES names no folder that holds ", name)
    }
    skip("examples/ is not there")
  }
  script <- new.env(parent = globalenv())
  sys.source(file[[1]], script)
  script
}
