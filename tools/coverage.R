# Runs the R tests on an instrumented copy and stops if less than 95 % of the lines in R/ were run.
# Works on the built package, in which the Python core is there as files.
stopifnot(system2("tools/build.sh", "--no-build-vignettes") == 0L)
folder <- tempfile("coverage")
Sys.setenv(KGUARD_EXAMPLES = normalizePath("examples")) # which the package does not hold
utils::untar(list.files("build", "^kguard_.*[.]tar[.]gz$", full.names = TRUE), exdir = folder)
coverage <- covr::package_coverage(file.path(folder, "kguard"), type = "tests")
print(coverage)
percent <- covr::percent_coverage(coverage)
if (percent < 95) {
  missed <- covr::zero_coverage(coverage)
  print(unique(missed[c("filename", "line")]))
  stop(sprintf("%.1f %% of the R lines are covered, not 95", percent), call. = FALSE)
}
