# Two generative adversarial networks, each with its two optimizers in one guarded loop: a ring of eight
# Gaussians, and scikit-learn's digits of 8 x 8 pixels. Then a batch with NaN rows, which the guard
# takes back in both networks. Needs Python's scikit-learn.
#   Rscript examples/gan.R [picture.png [epochs]]
library(kguard)

steps <- 250L # in an epoch
rows <- 256L # in a batch

Sys.setenv(KERAS_BACKEND = "tensorflow") # whose tape takes the gradients
keras <- reticulate::import("keras")
tf <- reticulate::import("tensorflow")
tf$get_logger()$setLevel("ERROR") # it would warn of steps that are compiled anew

# ---------------------------------------------------------------- losses
# The generator G makes a sample of noise z, the discriminator D gives the logit of its being real.
# With softplus(u) = log(1 + exp(u)), which is -log(sigmoid(-u)), the losses are
#   D   mean(softplus(-D(x))) + mean(softplus(D(G(z)))) + r1 / 2 mean(|dD(x)/dx|^2)
#   G   mean(softplus(-D(G(z))))
# They take logits: log(sigmoid(u)) is -Inf, and its gradient NaN, as soon as D is sure of itself.
# G's loss is the one that does not saturate there. The last term of D's, R1, keeps D flat where the
# data are; without it the two may circle around the solution for ever.
#   I. Goodfellow et al. (2014), Generative adversarial nets, NIPS
#   L. Mescheder, A. Geiger and S. Nowozin (2018), Which training methods for GANs do actually
#   converge?, ICML
cost <- function(logits) tf$reduce_mean(tf$nn$softplus(logits))

losses_of <- function(generator, discriminator, real, noise, r1) {
  of_fake <- discriminator(generator(noise))
  slope <- tf$GradientTape()
  with(slope, {
    slope$watch(real)
    of_real <- discriminator(real)
  })
  steepness <- tf$reduce_sum(tf$square(slope$gradient(of_real, real)), axis = 1L)
  penalty <- tf$multiply(r1 / 2, tf$reduce_mean(steepness))
  list(
    generator = cost(tf$negative(of_fake)),
    discriminator = tf$add_n(list(cost(tf$negative(of_real)), cost(of_fake), penalty))
  )
}

network <- function(inputs, width, activation, outputs, output = NULL) {
  layers <- keras$layers
  keras$Sequential(list(
    layers$Input(list(inputs)), layers$Dense(width, activation), layers$Dense(width, activation),
    layers$Dense(outputs, output)
  ))
}

# Two networks, their optimizers, and the step that trains both. The step is compiled: R is asked
# only when TensorFlow traces it. The generator ends as a moving average of what it was on the way.
new_gan <- function(epochs, size, noise, width, rate, r1, output = NULL) {
  keras$utils$set_random_seed(1L)
  generator <- network(noise, width, "relu", size, output)
  models <- list(generator = generator, discriminator = network(size, width, "leaky_relu", 1L))
  decay <- function() keras$optimizers$schedules$CosineDecay(rate, epochs * steps)
  optimizers <- list(
    generator = keras$optimizers$Adam(decay(), 0.5, 0.99, use_ema = TRUE, ema_momentum = 0.999),
    discriminator = keras$optimizers$Adam(decay(), 0.5, 0.99)
  )
  step <- function(real, noise) {
    tape <- tf$GradientTape(persistent = TRUE)
    with(tape, losses <- losses_of(models$generator, models$discriminator, real, noise, r1))
    for (name in names(models)) {
      variables <- models[[name]]$trainable_variables
      optimizers[[name]]$apply(tape$gradient(losses[[name]], variables), variables)
    }
    losses
  }
  kinds <- list(tf$TensorSpec(list(NULL, size)), tf$TensorSpec(list(NULL, noise)))
  list(
    models = models, optimizers = optimizers, noise = noise,
    step = tf$`function`(step, input_signature = kinds, autograph = FALSE)
  )
}

sample_of <- function(gan, noise) gan$models$generator(noise)$numpy()

# ---------------------------------------------------------------- a ring of eight Gaussians
# Radius 2 and standard deviation 0.02, as in L. Metz et al. (2017), Unrolled generative adversarial
# networks, ICLR. A sample is good within 3 standard deviations of a centre, as in A. Srivastava et
# al. (2017), VEEGAN, NIPS; a centre is covered with at least 1 % of the samples, all of them good.
sd <- 0.02
angles <- 2 * pi * (0:7) / 8
centres <- 2 * cbind(cos(angles), sin(angles))

normal <- function(n, columns = 2L) matrix(rnorm(n * columns), n)
ring <- function(n) centres[sample(8L, n, replace = TRUE), ] + sd * normal(n)
ring_gan <- function(epochs) new_gan(epochs, 2L, 2L, width = 128L, rate = 2e-3, r1 = 0.1)
tensor <- function(matrix) tf$constant(matrix, tf$float32)

score <- function(samples) {
  distances <- sqrt(outer(samples[, 1], centres[, 1], "-")^2 + outer(samples[, 2], centres[, 2], "-")^2)
  nearest <- max.col(-distances)
  good <- distances[cbind(seq_along(nearest), nearest)] <= 3 * sd
  c(covered = sum(tabulate(nearest[good], 8L) >= 0.01 * nrow(samples)), good = mean(good))
}

# ---------------------------------------------------------------- training
# The losses of two networks that work against each other rise and fall: neither is a measure. So the
# guard goes back only from what is not finite.
new_guard <- function() callback_revert_on_loss_increase("loss", tolerance = 1e6)

# Trains on what `draw(n)` gives; `poisoned` is the epoch in the middle of which three rows of a batch
# are NaN, if any. `look(done)` is called before each epoch, with the number of those that are done;
# what it gives is returned as `seen`, by that number.
train <- function(gan, draw, epochs, callbacks, look = function(done) NULL, poisoned = 0L) {
  seen <- list()
  loop <- guarded_loop(
    unname(gan$models), unname(gan$optimizers), callbacks, epochs,
    steps = steps, verbose = 0
  )
  next_real <- function() {
    real <- draw(rows)
    if (loop$epoch == poisoned && loop$batch == steps %/% 2L) real[1:3, ] <- NaN
    tensor(real)
  }
  with(loop, {
    while (loop$next_epoch()) {
      done <- loop$epoch - 1L
      seen[[as.character(done)]] <- look(done)
      while (!is.null(real <- loop$next_batch(next_real))) {
        losses <- gan$step(real, tensor(normal(rows, gan$noise)))
        loop$report(losses$generator, size = rows, d_loss = losses$discriminator)
      }
    }
  })
  list(history = loop$history, seen = seen)
}

# Samples before some of the epochs and at the end, by epoch.
train_ring <- function(epochs) {
  set.seed(1)
  gan <- ring_gan(epochs)
  noise <- tensor(normal(2500))
  shown <- c(0L, 1L, 2L, epochs %/% 4L, epochs %/% 2L)
  run <- train(gan, ring, epochs, list(new_guard()), function(done) {
    if (done %in% shown) sample_of(gan, noise)
  })
  samples <- run$seen
  samples[[as.character(epochs)]] <- sample_of(gan, noise)
  samples
}

# The images, a row each with pixels from -1 to 1.
digits <- function() reticulate::import("sklearn.datasets")$load_digits()$data / 8 - 1

train_digits <- function(epochs) {
  set.seed(1)
  images <- digits()
  draw <- function(n) images[sample(nrow(images), n, replace = TRUE), ]
  gan <- new_gan(epochs, 64L, 32L, width = 256L, rate = 1e-3, r1 = 1, output = "tanh")
  train(gan, draw, epochs, list(new_guard()))
  sample_of(gan, tensor(normal(72, gan$noise)))
}

# ---------------------------------------------------------------- a poisoned batch
# What each network and its optimizer hold before each of three epochs, the second of them poisoned.
train_poisoned <- function(callbacks) {
  set.seed(1)
  gan <- ring_gan(3L)
  values <- function(model, optimizer) {
    lapply(c(model$variables, optimizer$variables), function(variable) variable$numpy())
  }
  look <- function(done) Map(values, gan$models, gan$optimizers)
  train(gan, ring, 3L, callbacks, look, poisoned = 2L)
}

is_finite <- function(state) all(vapply(state, function(value) all(is.finite(value)), NA))

show_poisoned <- function() {
  cat("\nA batch with three NaN rows, in epoch 2 of 3\n\n")
  guard <- new_guard()
  for (callbacks in list(list(), list(guard))) {
    run <- train_poisoned(callbacks)
    cat(if (length(callbacks)) "guarded\n" else "without a guard\n")
    for (name in c("generator", "discriminator")) {
      before <- run$seen[["1"]][[name]]
      after <- run$seen[["2"]][[name]]
      cat(sprintf(
        "  after epoch 2, %s and optimizer: %s%s\n", name,
        if (is_finite(after)) "finite" else "not finite",
        if (identical(before, after)) ", the same as before it" else ""
      ))
    }
    cat(sprintf("  loss of epoch 3: %.3f\n", run$history$metrics$loss[3]))
  }
  print(guard)
}

# ---------------------------------------------------------------- picture
draw_ring <- function(samples) {
  par(mar = c(3, 1, 2, 1), mgp = c(1, 0, 0))
  for (epoch in names(samples)) {
    reached <- score(samples[[epoch]])
    plot(utils::head(samples[[epoch]], 1000),
      asp = 1, xlim = c(-3, 3), ylim = c(-3, 3), pch = 16, cex = 0.3, col = "#1b6ca880",
      xaxt = "n", yaxt = "n", bty = "n", ylab = "",
      xlab = sprintf("%d of 8, %.0f %% good", reached[["covered"]], 100 * reached[["good"]]),
      main = if (epoch == "0") "at first" else paste("epoch", epoch), font.main = 1
    )
    points(centres, cex = 2.5, col = "#b3261e")
  }
}

draw_digits <- function(images, name) {
  grid <- matrix(-1, 60, 120)
  for (i in 1:72) {
    below <- 10 * ((i - 1) %/% 12)
    right <- 10 * ((i - 1) %% 12)
    grid[below + 2:9, right + 2:9] <- matrix(images[i, ], 8, byrow = TRUE)
  }
  par(mar = c(1, 1, 2, 1))
  image(t(grid[60:1, ]), col = grey(seq(1, 0, length.out = 64)), zlim = c(-1, 1), axes = FALSE, asp = 0.5)
  title(name, font.main = 1)
}

draw_all <- function(picture, samples, images) {
  png(picture, width = 1210, height = 620, res = 110)
  on.exit(dev.off())
  count <- length(samples)
  layout(rbind(rep(seq_len(count), each = 2), rep(count + 1:2, each = count)), heights = 2:3)
  draw_ring(samples)
  draw_digits(digits(), "real")
  draw_digits(images, "generated")
}

main <- function(picture = "examples/gan.png", epochs = 20) {
  epochs <- as.integer(epochs)
  time <- system.time(samples <- train_ring(epochs))
  reached <- score(samples[[as.character(epochs)]])
  cat(sprintf(
    "The ring of eight Gaussians: %d of 8 centres covered, %.1f %% of 2,500 samples within 3 sd (%.0f s)\n",
    reached[["covered"]], 100 * reached[["good"]], time[["elapsed"]]
  ))
  show_poisoned()
  draw_all(picture, samples, train_digits(epochs))
  cat("\nwrote ", picture, "\n", sep = "")
}

if (sys.nframe() == 0L) do.call(main, as.list(commandArgs(TRUE)))
