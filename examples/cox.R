# Cox regression by a loss that Keras lacks: the partial likelihood, with its gradient, in R.
# A linear model finds the coefficients of coxph() on survival's lung and veteran; then a small
# network is set beside coxph() on survival's flchain.
#   Rscript examples/cox.R [picture.png [parts]]
# flchain is parted into five; as many of them as `parts` says (all) are held out in turn.
library(kguard)
library(survival)
keras <- reticulate::import("keras")
layers <- keras$layers

# ---------------------------------------------------------------- the loss
# Row i was seen until the time t_i, where it had its event (d_i = 1) or was lost from sight (0).
# The model gives it the linear predictor eta_i. The log partial likelihood, with Breslow's way with
# events at the same time, is
#   l(eta) = sum of eta_i - log R(t_i) over i with d_i = 1,  R(t) = sum of exp(eta_j) over t_j >= t
# and its derivative
#   dl/deta_i = d_i - exp(eta_i) H(t_i),  H(t) = sum of 1 / R(t_k) over k with d_k = 1 and t_k <= t
# where H is Breslow's estimate of the cumulative baseline hazard. The loss is -l divided by the
# number of events, so that one learning rate does for batches of any size. It is the loss of a
# batch, not of rows: R(t) sums over the batch, which has to be all rows or a good part of them.
#   D. R. Cox (1972), Regression models and life-tables, JRSS B 34, 187-220
#   N. E. Breslow (1974), Covariance analysis of censored survival data, Biometrics 30, 89-99
partial_likelihood <- function(y_true, y_pred) {
  rows <- order(y_true[, 1])
  time <- y_true[rows, 1]
  event <- y_true[rows, 2]
  eta <- y_pred[rows, 1] - max(y_pred) # changes nothing but keeps exp() within its range
  risk <- exp(eta)
  at_risk <- rev(cumsum(rev(risk)))[match(time, time)]
  hazard <- cumsum(event / at_risk)[findInterval(time, time)]
  events <- max(sum(event), 1)
  gradient <- y_pred
  gradient[rows, 1] <- (risk * hazard - event) / events
  list(loss = sum(event * (log(at_risk) - eta)) / events, gradient = gradient)
}

# ---------------------------------------------------------------- linear: coxph's coefficients
# Fits a linear model to all rows at once; gives its weights, in the units of `x`.
coefficients_by_keras <- function(x, y, epochs = 120L) {
  keras$utils$set_random_seed(1L)
  model <- keras$Sequential(list(
    layers$Input(list(ncol(x))), layers$Dense(1L, use_bias = FALSE)
  ))
  optimizer <- keras$optimizers$SGD(0.5, momentum = 0.8)
  model$compile(optimizer, loss = external_loss(partial_likelihood))
  scaled <- scale(x)
  model$fit(scaled, y, batch_size = nrow(x), epochs = epochs, verbose = 0L)
  as.vector(model$get_weights()[[1]]) / attr(scaled, "scaled:scale")
}

log_likelihood <- function(x, y, beta) -partial_likelihood(y, x %*% beta)$loss * sum(y[, 2])

# Prints both fits, and gives their coefficients in standard errors.
compare <- function(name, formula, data) {
  cox <- coxph(formula, data, ties = "breslow", x = TRUE)
  y <- unclass(cox$y)
  beta <- coefficients_by_keras(cox$x, y)
  cat(sprintf("\n%s: %d complete rows, %d deaths\n\n", name, cox$n, cox$nevent))
  table <- rbind(
    cbind(keras = beta, coxph = coef(cox)),
    "log likelihood" = c(log_likelihood(cox$x, y, beta), cox$loglik[2])
  )
  difference <- sprintf("%.1e", table[, 1] - table[, 2])
  print(data.frame(format(round(table, 6), nsmall = 6), difference))
  se <- sqrt(diag(vcov(cox)))
  data.frame(name = name, ours = beta / se, theirs = coef(cox) / se)
}

# ---------------------------------------------------------------- a network
# Age, sex, the free light chains, creatinine and MGUS of all rows. Creatinine is missing in 1,350 of
# 7,874 rows. They get the median, and a further column that says so lets a model judge them by
# themselves.
flchain_columns <- function() {
  with(flchain, cbind(
    age, sex == "M", log(kappa), log(lambda),
    log(ifelse(is.na(creatinine), median(creatinine, na.rm = TRUE), creatinine)),
    is.na(creatinine), mgus
  ))
}

# Trains on batches of 512 rows. The guard goes back to the best epoch, at half the rate.
train_network <- function(x, y, watched) {
  keras$utils$set_random_seed(1L)
  model <- keras$Sequential(list(
    layers$Input(list(ncol(x))), layers$Dense(32L, activation = "tanh"),
    layers$Dense(1L, use_bias = FALSE)
  ))
  model$compile(keras$optimizers$Adam(0.01), loss = external_loss(partial_likelihood))
  guard <- callback_revert_to_best_on_increase("val_loss",
    patience = 2, lr_factor = 0.5, max_reverts = 5
  )
  model$fit(x, y,
    batch_size = 512L, epochs = 60L, # or until the guard has gone back five times
    verbose = 0L, callbacks = list(guard),
    validation_data = watched, validation_batch_size = nrow(watched[[1]]) # as one batch
  )
  list(model = model, guard = guard)
}

# Harrell's C: of the pairs whose order of death is known, the share that `risk` has right.
harrell <- function(y, risk) {
  concordance(Surv(y[, 1], y[, 2]) ~ risk, reverse = TRUE)$concordance
}

# Trains on three fifths of the rows, with the guard on another, and compares on the part.
hold_out <- function(x, y, part) {
  fifth <- (seq_len(nrow(x)) - 1 + part) %% 5
  train <- fifth > 1
  watched <- fifth == 1
  new <- fifth == 0
  x <- scale(x, colMeans(x[train, ]), apply(x[train, ], 2, sd))
  made <- train_network(x[train, ], y[train, ], list(x[watched, ], y[watched, ]))
  eta <- as.vector(keras$ops$convert_to_numpy(made$model(x)))
  cox <- coxph(Surv(y[!new, 1], y[!new, 2]) ~ x[!new, ], ties = "breslow")
  list(
    row = data.frame(
      rows = sum(new), deaths = sum(y[new, 2]), network = harrell(y[new, ], eta[new]),
      coxph = harrell(y[new, ], x[new, ] %*% coef(cox)), reverts = made$guard$n_reverts
    ),
    y = y[train, ], eta = eta[train], y_new = y[new, ], eta_new = eta[new]
  )
}

# The mean over new rows of exp(-H(t) exp(eta)), with H from the rows that were trained on.
predicted_survival <- function(y, eta, eta_new, times) {
  died <- sort(y[y[, 2] == 1, 1])
  rows <- order(y[, 1])
  at_risk <- rev(cumsum(rev(exp(eta[rows]))))[match(died, y[rows, 1])]
  hazard <- c(0, cumsum(1 / at_risk))[findInterval(times, died) + 1]
  rowMeans(exp(-outer(hazard, exp(eta_new))))
}

# ---------------------------------------------------------------- picture
draw_coefficients <- function(fits) {
  plot(fits$theirs, fits$ours,
    asp = 1, xlab = "coxph()", ylab = "linear Keras model", type = "n"
  )
  abline(0, 1, col = "grey60")
  is_lung <- fits$name == "lung"
  points(fits$theirs, fits$ours,
    pch = ifelse(is_lung, 16, 15), cex = 1.2, col = ifelse(is_lung, "#1b6ca8", "#d1701f")
  )
  legend("topleft", c("lung", "veteran"), pch = c(16, 15), col = c("#1b6ca8", "#d1701f"), bty = "n")
  title("Coefficients, in standard errors", adj = 0, font.main = 1, cex.main = 1)
}

draw_survival <- function(found) {
  fifths <- ceiling(5 * rank(found$eta_new, ties.method = "first") / length(found$eta_new))
  colours <- hcl.colors(6, "viridis", rev = TRUE)[-1]
  plot(c(0, 14), c(0, 1), type = "n", xlab = "years", ylab = "share alive")
  for (fifth in 1:5) {
    among <- fifths == fifth
    observed <- survfit(Surv(found$y_new[among, 1], found$y_new[among, 2]) ~ 1)
    lines(observed$time / 365.25, observed$surv, type = "s", col = colours[fifth], lwd = 1.5)
    days <- seq(0, max(observed$time[observed$n.event > 0]), length.out = 100)
    expected <- predicted_survival(found$y, found$eta, found$eta_new[among], days)
    lines(days / 365.25, expected, lty = "dotted", col = colours[fifth], lwd = 2.5)
  }
  legend("bottomleft", c("observed (Kaplan and Meier)", "predicted by the network"),
    lty = c("solid", "dotted"), lwd = c(1.5, 2.5), col = "grey40", bty = "n"
  )
  title("flchain held out, in fifths of the predicted risk", adj = 0, font.main = 1, cex.main = 1)
}

# ---------------------------------------------------------------- what came of it
main <- function(picture = "examples/cox.png", parts = "5") {
  fits <- rbind(
    compare("lung", Surv(time, status) ~ age + sex + ph.ecog + ph.karno + pat.karno + meal.cal +
      wt.loss, lung),
    compare("veteran", Surv(time, status) ~ trt + celltype + karno + diagtime + age + prior, veteran)
  )
  y <- cbind(flchain$futime, flchain$death)
  held_out <- lapply(seq_len(as.integer(parts)) - 1, hold_out, x = flchain_columns(), y = y)
  cat("\nflchain: concordance on rows held out\n\n")
  print(do.call(rbind, lapply(held_out, `[[`, "row")), digits = 4, row.names = FALSE)

  grDevices::png(picture, width = 1210, height = 528, res = 110)
  par(mfrow = c(1, 2), mar = c(4, 4, 2, 1), las = 1, bty = "l", mgp = c(2.5, 0.7, 0))
  draw_coefficients(fits)
  draw_survival(held_out[[1]])
  invisible(grDevices::dev.off())
  cat("\nwrote ", picture, "\n", sep = "")
}

if (sys.nframe() == 0L) do.call(main, as.list(commandArgs(TRUE)))
