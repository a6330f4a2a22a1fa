# Lints R code and stops if there is anything to say.
files <- c("R", "tests", "examples", "tools", "vignettes")
found <- do.call(c, lapply(Filter(dir.exists, files), lintr::lint_dir))
if (length(found)) {
  print(found)
  stop(length(found), " lints", call. = FALSE)
}
cat("no lints\n")
