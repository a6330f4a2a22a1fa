expect_guarded <- function(found, first) {
  expect_false(any(is.finite(found$alone)))
  expect_true(all(is.finite(found$guarded)))
  expect_gt(stats::cor(found$guarded, found$truth), 0.9)
  expect_equal(found$seen, first + 0:11)
  expect_true("revert" %in% found$events$action)
  expect_identical(found$events$epoch[1], 1L)
  expect_equal(found$events$learning_rate[1], 10, tolerance = 1e-6)
  expect_equal(found$n_made, 2)
}

test_that("callbacks work in parsnip's engine keras3", {
  skip_without_keras()
  skip_if_not_installed("keras3")
  skip_if_not_installed("parsnip", "1.6.0")
  expect_guarded(with_seed(1, diverge_in_parsnip("keras3")), first = 1)
})

test_that("callbacks work in parsnip's engine keras", {
  skip_if_not_installed("parsnip")
  file <- tempfile(fileext = ".rds")
  on.exit(unlink(file))
  output <- in_keras2(c(
    sprintf("source(%s)", deparse(normalizePath(test_path("helper-parsnip.R")))),
    sprintf("saveRDS(diverge_in_parsnip('keras'), %s)", deparse(file))
  ))
  expect_true(file.exists(file), label = paste(output, collapse = "\n"))
  expect_guarded(readRDS(file), first = 0)
})
