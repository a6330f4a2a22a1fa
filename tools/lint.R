# Lints R code and stops if there is anything to say. `:::` is for tests only.
lint <- function(folder) {
  found <- lintr::lint_dir(folder)
  Filter(function(one) folder != "tests" || one$linter != "undesirable_operator_linter", found)
}
found <- do.call(c, lapply(Filter(dir.exists, c("R", "tests", "examples", "tools", "vignettes")), lint))
if (length(found)) {
  print(found)
  stop(length(found), " lints", call. = FALSE)
}
cat("no lints\n")
