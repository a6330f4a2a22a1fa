# Builds the package with its vignettes and checks the tarball as CRAN does. Stops unless there are no
# errors, no warnings, and no note but that the submission is new.
Sys.setenv(
  KGUARD_EXAMPLES = normalizePath("examples"), # which the package does not hold, for its tests
  TZ = Sys.getenv("TZ", "UTC"),
  "_R_CHECK_CRAN_INCOMING_REMOTE_" = "false", # no network is needed
  "_R_CHECK_EXAMPLE_TIMING_THRESHOLD_" = "20", # the first example has to start TensorFlow
  "_R_CHECK_SYSTEM_CLOCK_" = "false",
  # TensorFlow leaves these behind where a process ends without Python's own end, as some tests' do.
  "_R_CHECK_THINGS_IN_TEMP_DIR_EXCLUDE_" = "^__autograph_generated_file"
)
if (!l10n_info()[["UTF-8"]]) Sys.setenv(LC_ALL = "C.UTF-8") # a bare container has no locale
stopifnot(system2("tools/build.sh") == 0L)
tarball <- list.files("build", "^kguard_.*[.]tar[.]gz$", full.names = TRUE)
r_command <- file.path(R.home("bin"), "R")
# The vignettes were run when the tarball was built.
system2(r_command, c("CMD", "check", "--as-cran", "--no-manual", "--no-vignettes", "--output=build", tarball))

log <- readLines("build/kguard.Rcheck/00check.log")
status <- sub("^Status: ", "", grep("^Status: ", log, value = TRUE))
new_submission <- any(grepl("^\\* checking CRAN incoming feasibility .* NOTE", log)) &&
  any(grepl("^New submission", log))
if (!identical(status, "OK") && !(identical(status, "1 NOTE") && new_submission)) {
  stop("R CMD check is not clean: ", status, call. = FALSE)
}
cat("R CMD check: no errors, no warnings, no note but the new submission\n")
