# Regression with a range: a network learns the joint angles by which a robot's arm reaches a point,
# and the joints have limits. Why clipping the angles in the loss does not train, and a penalty that
# does. The loss is the arm's own geometry, in R, as it would be a simulator's.
#   Rscript examples/range_regression.R [picture.png [epochs]]
library(kguard)

given <- commandArgs(TRUE)
picture <- c(given, "examples/range_regression.png")[1]
epochs <- as.integer(c(given[-1], 40)[1])

# The planar arm of the textbooks: two links of 1 m, and targets that it can reach, drawn by angles
# within the limits. The network is not told those angles; it is taught by where the tip goes, as in
#   M. I. Jordan, D. E. Rumelhart (1992), Forward models: supervised learning with a distal teacher,
#   Cognitive Science 16, 307-354
radians <- pi / 180
low <- c(0, 30) * radians # of the shoulder and of the elbow
high <- c(120, 150) * radians
weight <- 10 # of the penalty, in square metres a square radian
start <- c(160, -80) * radians # all networks begin near it, with the elbow bent the other way

# Where the arm's tip is, in metres; a row for each row of angles.
tips <- function(angles) {
  upper <- angles[, 1]
  lower <- upper + angles[, 2]
  cbind(cos(upper) + cos(lower), sin(upper) + sin(lower))
}

# ---------------------------------------------------------------- three losses
# With the tip at f(p) for the angles p, the target at y and J the derivative of f:
#   no range   |f(p) - y|^2,                              gradient 2 J'(f(p) - y)
#   clipped    |f(clip(p)) - y|^2,                        the same at clip(p), but 0 outside
#   penalty    |f(p) - y|^2 + w (max(low - p, 0)^2 + max(p - high, 0)^2), summed over the joints
# Each returns one loss a row, and its gradient by the row's angles.
no_range <- function(target, angles) {
  error <- tips(angles) - target
  upper <- angles[, 1]
  lower <- upper + angles[, 2]
  by_elbow <- error[, 2] * cos(lower) - error[, 1] * sin(lower)
  by_shoulder <- by_elbow + error[, 2] * cos(upper) - error[, 1] * sin(upper)
  list(loss = rowSums(error^2), gradient = 2 * cbind(by_shoulder, by_elbow))
}

each_row <- function(limits, angles) matrix(limits, nrow(angles), ncol(angles), byrow = TRUE)
clip <- function(angles) pmin(pmax(angles, each_row(low, angles)), each_row(high, angles))
beyond <- function(angles) angles - clip(angles) # above the range > 0, below < 0, within 0

# Outside of the range the clipped angle stays where it is, whatever the network says. So the
# gradient is 0: the row moves no weight, and a network that is outside for all rows stays there.
clipped <- function(target, angles) {
  found <- no_range(target, clip(angles))
  list(loss = found$loss, gradient = found$gradient * (beyond(angles) == 0))
}

# The squared hinge grows with the distance from the range, and so does its gradient, which leads
# back. Within the range it is 0 and leaves the fit alone.
penalty <- function(target, angles) {
  found <- no_range(target, angles)
  outside <- beyond(angles)
  list(
    loss = found$loss + weight * rowSums(outside^2),
    gradient = found$gradient + 2 * weight * outside
  )
}

# ---------------------------------------------------------------- training
keras <- reticulate::import("keras")
new_targets <- function(rows) tips(cbind(runif(rows, low[1], high[1]), runif(rows, low[2], high[2])))
set.seed(1)
targets <- new_targets(2000)
held_back <- new_targets(500)
new <- new_targets(1000)

train <- function(name, loss) {
  keras$utils$set_random_seed(1L)
  layers <- keras$layers
  model <- keras$Sequential(list(
    layers$Input(list(2L)),
    layers$Dense(64L, activation = "tanh"), layers$Dense(64L, activation = "tanh"),
    layers$Dense(2L)
  ))
  model$layers[[3]]$bias$assign(start)
  model$compile(keras$optimizers$Adam(0.01), loss = external_loss(loss))
  guard <- callback_revert_to_best_on_increase("val_loss", tolerance = 1e-3, lr_factor = 0.5)
  losses <- callback_loss_history()
  model$fit(targets, targets,
    batch_size = 50L, epochs = epochs, verbose = 0L,
    validation_data = list(held_back, held_back), callbacks = list(guard, losses)
  )
  angles <- model$predict(new, batch_size = 500L, verbose = 0L)
  outside <- apply(abs(beyond(angles)), 1, max) / radians
  # The stops hold the arm within the range, whatever it is told.
  miss <- 100 * sqrt(rowSums((tips(clip(angles)) - new)^2))
  list(
    row = data.frame(
      loss = name, outside = 100 * mean(outside > 0), worst = max(outside), miss = median(miss),
      reverts = guard$n_reverts
    ),
    losses = losses$epochs$loss,
    angles = data.frame(shoulder = angles[, 1], elbow = angles[, 2]) / radians
  )
}

runs <- Map(train, c("no range", "clipped", "penalty"), list(no_range, clipped, penalty))
table <- do.call(rbind, unname(lapply(runs, `[[`, "row")))
table[2:4] <- lapply(table[2:4], formatC, format = "f", digits = 1)
names(table) <- c("loss", "outside (%)", "worst (degrees)", "miss (cm, median)", "reverts")
print(table, row.names = FALSE, right = FALSE)

# ---------------------------------------------------------------- picture
colours <- c("no range" = "#d1701f", clipped = "#7a7a7a", penalty = "#1b6ca8")
grDevices::png(picture, width = 1210, height = 528, res = 110)
par(mfrow = c(1, 2), mar = c(4, 4.5, 2, 1), las = 1, bty = "l", mgp = c(2.8, 0.7, 0))
plot(c(1, epochs), range(sapply(runs, `[[`, "losses")),
  type = "n", log = "y", xlab = "epoch", ylab = "loss", yaxt = "n"
)
axis(2, 10^(-3:0), c("0.001", "0.01", "0.1", "1"))
title("Clipping gives no gradient outside the range", adj = 0, font.main = 1, cex.main = 1)
for (name in names(runs)) lines(runs[[name]]$losses, col = colours[name], lwd = 2.5)
legend("bottomleft", names(runs), col = colours[names(runs)], lwd = 2.5, bty = "n")

angles <- lapply(runs, `[[`, "angles")
plot(do.call(rbind, angles),
  type = "n", xlab = "shoulder (degrees)", ylab = "elbow (degrees)", ylim = range(angles, 180)
)
title("Angles for 1,000 targets that were not trained on", adj = 0, font.main = 1, cex.main = 1)
rect(low[1] / radians, low[2] / radians, high[1] / radians, high[2] / radians,
  col = "grey92", border = NA
)
text(low[1] / radians, high[2] / radians + 12, "within the limits", adj = 0, col = "grey35")
for (name in names(runs)) points(angles[[name]], pch = 16, cex = 0.4, col = colours[name])
legend("bottomleft", names(runs), col = colours[names(runs)], pch = 16, bty = "n")
invisible(grDevices::dev.off())
cat("\nwrote ", picture, "\n", sep = "")
