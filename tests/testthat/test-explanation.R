explained <- function(..., verbose = 2L) {
  data <- regression_data()
  losses <- callback_loss_history(data = unname(data))
  reticulate::py_capture_output(small_model()$fit(data$x, data$y,
    epochs = 3L, batch_size = 25L, shuffle = FALSE, verbose = verbose, callbacks = list(..., losses)
  ))
  losses
}

test_that("the parts of an explanation add up to the differences of its quantities", {
  skip_without_keras()
  explanation <- explained()$explain()
  expect_s3_class(explanation, "kguard_explanation")
  quantities <- explanation$quantities
  expect_identical(quantities$epoch, 1:3)
  parts <- explanation$parts
  expect_setequal(parts$of, c("console", "history")) # nothing is regularised
  sums <- stats::aggregate(amount ~ epoch + of + minus, parts, sum)
  total <- mapply(function(epoch, of, minus) {
    quantities[[of]][epoch] - quantities[[minus]][epoch]
  }, sums$epoch, sums$of, sums$minus)
  expect_equal(sums$amount, total)
  expect_gt(max(abs(total)), 0.1)
})

test_that("the quantities are those that R computes from the batches", {
  skip_without_keras()
  losses <- explained()
  of_third <- losses$batches[losses$batches$epoch == 3L, ]
  third <- losses$explain()$quantities[3L, ]
  expect_equal(third$plain_mean, mean(of_third$loss))
  expect_equal(third$weighted_mean, stats::weighted.mean(of_third$loss, of_third$size))
  expect_equal(third$last_batch, of_third$loss[3L])
  expect_equal(third$console, round(losses$epochs$loss[3L], 4L))
})

test_that("a metric that a callback changed is told as such", {
  skip_without_keras()
  Adds <- R6::R6Class("Adds",
    inherit = KerasCallback,
    public = list(on_epoch_end = function(epoch, logs = NULL) list(loss = logs$loss + 5))
  )
  parts <- explained(Adds$new())$explain()$parts
  changed <- parts$minus == "last_batch" & parts$cause == "logs changed by a callback"
  expect_equal(parts$amount[changed], rep(5, 3L), tolerance = 1e-6)
})

test_that("an explanation prints epoch by epoch, and some epochs alone", {
  skip_without_keras()
  explanation <- explained()$explain()
  lines <- format(explanation)
  expect_identical(grep("^Epoch", lines, value = TRUE), paste("Epoch", 1:3))
  expect_identical(capture.output(printed <- print(explanation)), lines)
  expect_identical(printed, explanation)
  last <- capture.output(print(explanation, epochs = 3))
  expect_identical(last, utils::tail(lines, length(last)))
  expect_identical(last[1L], "Epoch 3")
  expect_identical(format(explanation, c(3, 1))[1L], "Epoch 3")
  history <- explanation$quantities$history[3L]
  expect_match(last, sprintf("History holds +%.7g$", history), all = FALSE)
  for (bad in list(0, 4, "1", TRUE)) {
    condition <- tryCatch(format(explanation, bad), error = identity)
    expect_s3_class(condition, "kguard_option_error")
    expect_identical(condition$argument, "epochs")
  }
})

test_that("an explanation is a data frame of its parts or of its quantities", {
  skip_without_keras()
  explanation <- explained()$explain()
  expect_identical(as.data.frame(explanation), explanation$parts)
  expect_named(explanation$parts, c("epoch", "of", "minus", "cause", "amount"))
  expect_identical(as.data.frame(explanation, what = "quantities"), explanation$quantities)
  for (bad in list("causes", 1, c("parts", "quantities"), NULL)) {
    condition <- tryCatch(as.data.frame(explanation, what = bad), error = identity)
    expect_s3_class(condition, "kguard_option_error")
    expect_identical(condition$argument, "what")
  }
})

test_that("there is nothing to explain before a fit", {
  skip_without_keras()
  explanation <- callback_loss_history()$explain()
  expect_output(print(explanation), "^no epoch yet$")
  expect_identical(nrow(explanation$parts), 0L)
  expect_identical(nrow(explanation$quantities), 0L)
})
