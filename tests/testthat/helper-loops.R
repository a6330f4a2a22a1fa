# Loops as users write them, with TensorFlow's tape. Also used in processes of their own, so without
# testthat.
tensorflow <- function() reticulate::import("tensorflow")

# Batches of 25, 25 and 10 rows, as fit() makes them of these data.
loop_batches <- function(data = regression_data()) {
  rows <- split(seq_along(data$y), rep(1:3, c(25, 25, 10)))
  lapply(rows, function(i) list(x = data$x[i, , drop = FALSE], y = data$y[i, , drop = FALSE]))
}

# One step on a batch; returns its loss.
tape_step <- function(model, optimizer, batch) {
  variables <- model$trainable_variables
  tape <- tensorflow()$GradientTape()
  with(tape, {
    squares <- tensorflow()$square(tensorflow()$subtract(model(batch$x, training = TRUE), batch$y))
    loss <- tensorflow()$reduce_mean(squares)
  })
  pairs <- Map(list, tape$gradient(loss, variables), variables)
  optimizer$apply_gradients(unname(pairs))
  loss
}

# Trains on all batches; `spoil(epoch, i, batch)` makes each.
train_in_loop <- function(loop, model, optimizer, batches = loop_batches(),
                          spoil = function(epoch, i, batch) batch) {
  with(loop, while (loop$next_epoch()) {
    while (!is.null(batch <- loop$next_batch(batches))) {
      batch <- spoil(loop$epoch, loop$batch, batch)
      loop$report(tape_step(model, optimizer, batch), size = nrow(batch$x))
    }
  })
  loop
}

nan_in <- function(at_epoch, at_batch) {
  function(epoch, i, batch) {
    if (epoch == at_epoch && i == at_batch) batch$x[] <- NaN
    batch
  }
}

# The bits of all that models and optimizers hold.
bits_of <- function(...) {
  held <- unlist(lapply(list(...), function(holder) {
    variables <- holder$variables
    if (is.function(variables)) variables <- variables() # in tf_keras, where it may be a list as well
    if (is.function(variables)) variables <- reticulate::import_builtins()$list(variables)
    lapply(variables, function(v) v$numpy())
  }), recursive = FALSE)
  lapply(held, function(values) serialize(as.vector(values), NULL))
}
