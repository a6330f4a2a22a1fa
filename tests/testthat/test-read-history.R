recorded <- function(suffix) {
  path <- tempfile(fileext = suffix)
  data <- regression_data()
  histories <- lapply(2:3, function(epochs) {
    losses <- callback_loss_history(path, data = unname(data))
    guard <- callback_revert_on_loss_increase()
    fit_quietly(small_model(), list(Breaker$new(2), guard, losses), epochs = epochs)
    losses
  })
  list(path = path, histories = histories)
}

test_that("what was written is read back, run by run", {
  skip_without_keras()
  for (suffix in c(".csv", ".sqlite")) {
    written <- recorded(suffix)
    runs <- read_history(written$path)
    expect_identical(length(runs), 2L)
    for (i in 1:2) {
      was <- written$histories[[i]]
      is <- runs[[i]]
      expect_identical(is$losses, was$losses)
      expect_identical(is$batches, was$batches)
      expect_identical(is$epochs, was$epochs)
      expect_identical(is$events, was$events)
      expect_identical(is$events$epoch, 2L)
      expect_identical(is$batches_per_epoch, 3L)
      expect_identical(is$explain(), was$explain())
      expect_identical(summary(is), summary(was))
      expect_identical(as.data.frame(is), was$batches)
    }
    unlink(written$path)
  }
})

test_that("a run that was read prints, plots and cannot be assigned to", {
  skip_without_keras()
  written <- recorded(".csv")
  on.exit(unlink(written$path))
  run <- read_history(written$path)[[2]]
  title <- paste0("<run 2 of ", basename(written$path), ">")
  expect_output(print(run), paste(title, "of 9 batches in 3 epochs, 1 event\n"))
  expect_equal(kguard:::history_picture(run, NULL), kguard:::history_picture(written$histories[[2]], NULL))
  expect_identical(kguard:::history_picture(run, NULL)$reverts$time, 2)
  for (field in c("losses", "batches", "epochs", "events", "batches_per_epoch")) {
    expect_error(run[[field]] <- 1, "cannot be assigned", class = "kguard_state_error")
  }
})

test_that("a file is read while it is being written", {
  skip_without_keras()
  path <- tempfile(fileext = ".csv")
  on.exit(unlink(path))
  seen <- NULL
  Reads <- R6::R6Class("Reads",
    inherit = KerasCallback,
    public = list(
      on_batch_end = function(batch, logs = NULL) {
        seen <<- c(seen, length(read_history(path)[[1]]$losses))
        Sys.sleep(0.06) # quicker batches are written together
      }
    )
  )
  fit_quietly(small_model(), list(callback_loss_history(path), Reads$new()), epochs = 2L)
  expect_identical(seen, 1:6)
})

test_that("a file without a run is an empty list, and ~ is the home folder", {
  skip_without_keras()
  home <- tempfile()
  dir.create(home)
  old <- Sys.getenv("HOME")
  Sys.setenv(HOME = home)
  on.exit({
    Sys.setenv(HOME = old)
    unlink(home, recursive = TRUE)
  })
  writeLines("run,epoch,batch,name,value,exact", file.path(home, "losses.csv"))
  expect_identical(read_history("~/losses.csv"), list())
})

test_that("a run of a saved workspace says so", {
  skip_without_keras()
  written <- recorded(".csv")
  file <- tempfile()
  on.exit(unlink(c(written$path, file)))
  run <- read_history(written$path)[[1]]
  saveRDS(list(run, run$explain()), file)
  loaded <- readRDS(file)
  expect_error(loaded[[1]]$losses, "Read the file again", class = "kguard_state_error")
  expect_identical(loaded[[2]], run$explain())
})
