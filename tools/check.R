# Builds the package with its vignettes and checks the tarball as CRAN does. Stops unless there are no
# errors, no warnings, and no note but that the submission is new.
Sys.setenv(
  TZ = Sys.getenv("TZ", "UTC"),
  "_R_CHECK_CRAN_INCOMING_REMOTE_" = "false", # no network is needed
  "_R_CHECK_SYSTEM_CLOCK_" = "false"
)
stopifnot(system2("tools/build.sh") == 0L)
tarball <- list.files("build", "^kguard_.*[.]tar[.]gz$", full.names = TRUE)
result <- rcmdcheck::rcmdcheck(
  tarball,
  args = c("--as-cran", "--no-manual"), error_on = "never", check_dir = "build"
)
expected <- grepl("New submission", result$notes) & !grepl("\n.*\n.*\n.*\n", trimws(result$notes))
unexpected <- c(result$errors, result$warnings, result$notes[!expected])
if (length(unexpected)) {
  stop("R CMD check is not clean:\n", paste(unexpected, collapse = "\n\n"), call. = FALSE)
}
cat("R CMD check: no errors, no warnings, no note but the new submission\n")
