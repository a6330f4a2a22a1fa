# Writes NAMESPACE and man/ from the comments in R/. With --check, only says whether they are up to date.
check <- "--check" %in% commandArgs(TRUE)
root <- if (check) {
  copy <- file.path(tempdir(), "kguard")
  dir.create(copy)
  file.copy(c("DESCRIPTION", "NAMESPACE", "R", "man", "LICENSE"), copy, recursive = TRUE)
  copy
} else {
  getwd()
}
description <- readLines("DESCRIPTION")
roxygen2::roxygenise(root, load_code = "source")
writeLines(description, file.path(root, "DESCRIPTION"))

if (check) {
  files <- function(where) {
    found <- c("NAMESPACE", list.files(file.path(where, "man"), full.names = FALSE))
    paths <- file.path(where, ifelse(found == "NAMESPACE", found, file.path("man", found)))
    setNames(lapply(paths, readLines), found)
  }
  was <- files(".")
  is <- files(root)
  differ <- Filter(function(f) !identical(was[[f]], is[[f]]), union(names(was), names(is)))
  if (length(differ)) {
    stop("not up to date, run `make document`: ", paste(differ, collapse = ", "), call. = FALSE)
  }
  cat("documentation is up to date\n")
}
