# A learning rate that is too high, four ways. Predicts the price of ggplot2's 53,940 diamonds, in
# dollars as it is, from their other columns. All four runs begin with the same weights.
#   Rscript examples/rescue.R [picture.png]
library(kguard)
library(ggplot2)

too_high <- 1e-2 # the default of Keras' SGD
well_chosen <- 1e-6
epochs <- 20L
batch_size <- 512L
picture <- c(commandArgs(TRUE), "examples/rescue.png")[1]

# ---------------------------------------------------------------- data
x <- model.matrix(price ~ carat + cut + color + clarity + depth + table + x + y + z,
  data = diamonds, contrasts.arg = lapply(diamonds[c("cut", "color", "clarity")], contrasts, FALSE)
)[, -1]
set.seed(1)
held_out <- sample(nrow(x), 10000)
x <- scale(x, center = colMeans(x[-held_out, ]), scale = apply(x[-held_out, ], 2, sd))
y <- as.matrix(diamonds$price)
train <- list(x = x[-held_out, ], y = y[-held_out, , drop = FALSE])
test <- list(x = x[held_out, ], y = y[held_out, , drop = FALSE])

# ---------------------------------------------------------------- keras3 if it is there, else Python
keras <- reticulate::import("keras")
has_keras3 <- requireNamespace("keras3", quietly = TRUE)
fit_model <- function(model, ...) {
  if (has_keras3) getExportedValue("keras3", "fit")(model, ...) else model$fit(...)
}

new_model <- function(learning_rate) {
  keras$utils$set_random_seed(1L)
  layers <- keras$layers
  model <- keras$Sequential(list(
    layers$Input(list(ncol(x))),
    layers$Dense(64L, activation = "leaky_relu"), layers$Dense(64L, activation = "leaky_relu"),
    layers$Dense(1L)
  ))
  model$compile(keras$optimizers$SGD(learning_rate, momentum = 0.9), loss = "mse")
  model
}

# The lines that people copy: keep the weights, put them back when the loss has risen.
Recipe <- R6::R6Class("Recipe",
  inherit = KerasCallback,
  public = list(
    best = Inf, weights = NULL,
    on_epoch_begin = function(epoch, logs = NULL) self$weights <- self$model$get_weights(),
    on_epoch_end = function(epoch, logs = NULL) {
      if (isTRUE(logs$loss > self$best)) {
        self$model$set_weights(self$weights)
      } else {
        self$best <- logs$loss
      }
    }
  )
)

# ---------------------------------------------------------------- four runs
run <- function(name, learning_rate, callbacks = list()) {
  model <- new_model(learning_rate)
  losses <- callback_loss_history(every = 1000)
  seconds <- system.time(
    fit_model(model, train$x, train$y,
      epochs = epochs, batch_size = batch_size, verbose = 0L,
      validation_data = unname(test), callbacks = c(callbacks, losses)
    )
  )[["elapsed"]]
  rmse <- sqrt(model$evaluate(test$x, test$y, batch_size = 1000L, verbose = 0L))
  message("done: ", name)
  list(
    row = data.frame(
      run = name, rate = learning_rate, rmse = rmse, finite = is.finite(rmse),
      reverts = if (length(callbacks)) sum(callbacks[[1]]$n_reverts) else 0L,
      seconds = round(seconds, 1)
    ),
    curve = data.frame(run = name, epoch = losses$epochs$epoch, rmse = sqrt(losses$epochs$val_loss))
  )
}

guard <- callback_revert_on_loss_increase("val_loss", lr_factor = 0.1)
runs <- list(
  run("unguarded", too_high),
  run("copied recipe", too_high, list(Recipe$new())),
  run("guarded", too_high, list(guard)),
  run("well-chosen rate", well_chosen)
)

# ---------------------------------------------------------------- what came of it
table <- do.call(rbind, lapply(runs, `[[`, "row"))
table$rmse <- ifelse(table$finite, formatC(table$rmse, format = "f", digits = 0, big.mark = ","), "NaN")
names(table) <- c("run", "learning rate", "final RMSE ($)", "finite", "reverts", "seconds")
cat("\nPrice of 53,940 diamonds; RMSE of the final model on 10,000 that it did not see\n\n")
print(table, row.names = FALSE, right = FALSE)
cat("\nWhat the guard did\n\n")
print(guard)

# ---------------------------------------------------------------- picture
curves <- do.call(rbind, lapply(runs, `[[`, "curve"))
curves$run <- factor(curves$run, vapply(runs, function(one) one$row$run, ""))
colours <- c(
  "unguarded" = "#7a7a7a", "copied recipe" = "#d1701f", "guarded" = "#1b6ca8",
  "well-chosen rate" = "#3c8d40"
)
finite <- curves[is.finite(curves$rmse), ]
top <- max(finite$rmse)
# Runs that are not finite stand in a row each, in a band above the curves.
step <- (top / min(finite$rmse))^0.12
band_row <- function(run) top * step^(5 - as.integer(run))
broken <- curves[!is.finite(curves$rmse), ]
broken$rmse <- band_row(broken$run)
reverted <- guard$events$epoch[guard$events$action == "revert"]
taken_back <- curves[curves$run == "guarded" & curves$epoch %in% reverted, ]
in_band <- !is.finite(taken_back$rmse)
taken_back$rmse[in_band] <- band_row(taken_back$run[in_band])

dollars <- c(500, 600, 700, 800, 900, 1000, 2000, 4000)
dollars <- dollars[dollars < top * step]
band <- range(band_row(1:3)) * c(1 / sqrt(step), sqrt(step))
figure <- ggplot(finite, aes(epoch, rmse, colour = run)) +
  annotate("rect", xmin = -Inf, xmax = Inf, ymin = band[1], ymax = band[2], fill = "#f3e3e1") +
  geom_line(linewidth = 0.8) +
  geom_point(size = 1.6) +
  geom_point(data = broken, shape = 4, size = 2, stroke = 0.9, show.legend = FALSE) +
  geom_point(data = taken_back, shape = 1, size = 4.5, stroke = 0.9, colour = "#b3261e") +
  scale_y_log10(
    breaks = c(dollars, sqrt(prod(band))),
    labels = c(format(dollars, big.mark = ",", trim = TRUE), "not finite")
  ) +
  scale_x_continuous(breaks = seq(0, epochs, 2)) +
  scale_colour_manual(values = colours, drop = FALSE, name = NULL) +
  labs(
    title = "A learning rate that is too high, four ways",
    subtitle = "Held-out error after each epoch; circles: epochs that the guard took back",
    x = "epoch", y = "RMSE of the price in dollars"
  ) +
  theme_minimal(base_size = 12) +
  theme(
    legend.position = "bottom", panel.grid.minor = element_blank(),
    plot.background = element_rect(fill = "white", colour = NA)
  )
ggsave(picture, figure, width = 8, height = 5, dpi = 110)
cat("\nwrote ", picture, "\n", sep = "")
