# The loss of examples/cox.R, which lives outside Keras, with survival's coxph() as the truth.
lung_formula <- survival::Surv(time, status) ~ age + sex + ph.ecog + ph.karno + pat.karno + meal.cal +
  wt.loss
veteran_formula <- survival::Surv(time, status) ~ trt + celltype + karno + diagtime + age + prior

test_that("the partial likelihood's gradient is its slope", {
  skip_if_not_installed("survival")
  partial_likelihood <- example_script("cox.R")$partial_likelihood
  y <- cbind(rep(c(3, 1, 4, 1, 5, 9, 2, 6), 3), rep(c(1, 0, 1, 1, 0, 1), 4))
  eta <- matrix(with_seed(1, rnorm(24)))
  loss <- function(eta) partial_likelihood(y, eta)$loss
  slope <- vapply(1:24, function(i) {
    step <- replace(0 * eta, i, 1e-5)
    (loss(eta + step) - loss(eta - step)) / 2e-5
  }, 0)
  expect_equal(as.vector(partial_likelihood(y, eta)$gradient), slope, tolerance = 1e-7)
})

test_that("loss and gradient are coxph()'s log likelihood and martingale residuals", {
  skip_if_not_installed("survival")
  partial_likelihood <- example_script("cox.R")$partial_likelihood
  for (beta in list(rep(0, 8), c(0.3, -1, 2, 0.5, -0.03, 0.1, -0.02, 0.05))) {
    cox <- survival::coxph(veteran_formula, survival::veteran,
      ties = "breslow", x = TRUE, init = beta, control = survival::coxph.control(iter.max = 0)
    )
    y <- unclass(cox$y)
    found <- partial_likelihood(y, cox$x %*% beta)
    expect_equal(-found$loss * cox$nevent, cox$loglik[1])
    expect_equal(
      -as.vector(found$gradient) * cox$nevent, unname(residuals(cox, "martingale")),
      tolerance = 1e-10
    )
  }
})

test_that("a linear model reaches the coefficients of coxph()", {
  skip_without_keras()
  skip_if_not_installed("survival")
  partial_likelihood <- example_script("cox.R")$partial_likelihood
  layers <- keras()$layers
  for (case in list(
    list(lung_formula, survival::lung), list(veteran_formula, survival::veteran)
  )) {
    cox <- survival::coxph(case[[1]], case[[2]], ties = "breslow", x = TRUE)
    y <- unclass(cox$y)
    x <- scale(cox$x)
    keras()$utils$set_random_seed(1L)
    model <- keras()$Sequential(list(
      layers$Input(list(ncol(x))), layers$Dense(1L, use_bias = FALSE)
    ))
    model$compile(
      keras()$optimizers$SGD(0.5, momentum = 0.8),
      loss = external_loss(partial_likelihood)
    )
    history <- model$fit(x, y, batch_size = nrow(x), epochs = 120L, verbose = 0L)
    beta <- as.vector(model$get_weights()[[1]]) / attr(x, "scaled:scale")
    expect_lt(max(abs(beta - coef(cox))), 1e-3)
    likelihood <- -partial_likelihood(y, cox$x %*% beta)$loss * cox$nevent
    expect_lt(abs(likelihood - cox$loglik[2]), 1e-4)
    expect_equal(
      tail(unlist(history$history$loss), 1), -cox$loglik[2] / cox$nevent,
      tolerance = 1e-5
    )
  }
})
