#' Take back single batches that make training go bad, and find a rate that trains
#'
#' `callback_spike_guard()` makes a guard for `fit()` that watches each batch's own loss, not the running
#' mean that Keras logs, which hides spikes. It takes back a batch whose loss is not finite or far above
#' the ones before, tells bad data from a learning rate that is too high, and cuts the rate where that is
#' at fault.
#'
#' The loss `l` of a batch is measured at the weights `w` before its update. With `m` the median of the
#' last `window` accepted losses, `m_f` and `MAD_f` the median and the median absolute deviation of
#' `f(loss)`, `s_f = 1.4826 * MAD_f`, and `L0` the loss at the initial weights, a batch is bad unless
#'
#' `l <= max(2 * m, (m_cbrt + threshold * s_cbrt)^3, min(exp(m_log + threshold * s_log), H))`
#'
#' so `NaN` is bad, and if `w` are not finite. `H` is `L0 / 4`, and `10 * L0` where `s_log > 1`: where nearly
#' all rows are learnt by heart, the loss of those that are not may be higher than at the beginning. Of
#' losses of which `m <= 0` the limit is `m + max(threshold * s, abs(m))`. Before `warmup` were accepted,
#' the first ones and the loss at the initial weights, `L0`, are what a batch is judged by: before 8 were,
#' two in a row are bad above `3 * L0`, and before any trouble one alone above `10 * L0`.
#'
#' A good loss proves the weights that it was measured at. In calm up to eight batches are judged together
#' when the last of them is over, so that a callback that saves the model within an epoch may meet a bad one
#' first; with `interval = 1` each is judged at once. What follows on a bad one:
#' \itemize{
#'   \item The batch is undone: `w` is put back, the optimizer's state and the metrics too, and training
#'     goes on with the next batch. If that is good at `w`, it was the data, and the rate stays.
#'   \item Where bad batches in a row are more than bad data explain, older, proven weights are put back.
#'     If a batch is good there, the updates had broken the weights: the rate is at fault. So it is where
#'     many batches are bad early in training, and none at the initial weights.
#'   \item The rate at fault early: trials of 16 to 24 batches from the initial state, each at 0.3 times
#'     the last one's rate, as long as that helps; then the best trial's end and rate, of two alike the
#'     lower one's. A trial after which most units of a kernel learn no more is abandoned. Rates that bad
#'     data may have made look too high are tried once more in the end.
#'   \item The rate at fault later: back to the state with the best smoothed loss, and the rate times
#'     `lr_factor`. So with a slow rise.
#'   \item Once the rate was at fault, other ones are tried from time to time: as many batches as a trial
#'     has at the present rate, then as many from the same state at another one, and training goes on from
#'     the better end. While the loss falls the other rate is 3.3 times the present one, but not above
#'     where it began; where the loss hovers it is 0.3 times.
#'   \item Where the next losses are 30 times lower than the first one, a few batches are measured at the
#'     initial weights. If they are as low there, the first one was bad data, and training begins anew.
#'   \item The end of a run whose rate was at fault, or in which more than a tenth of the batches were bad
#'     data: the rate times 0.3 when 10 % of the batches are left, and again when 3 % are, since the
#'     highest rate that trains, and data with gaps, leave noisy weights. When training has ended the rate
#'     is as it was before.
#' }
#' When training ends, weights that are not finite or that the last batches found bad are replaced by the
#' newest proven ones. Where nothing helps, training stops with the best state in place.
#'
#' The logged loss is the mean of the accepted batches; of an epoch without any it is `NaN`. A
#' [callback_loss_history()] in the list records every batch. Put the guard first in the list.
#'
#' The object's fields are those of [callback_revert_on_loss_increase()], whose page describes its errors
#' too, and `bad_batches`: a data frame with the `epoch` and `batch`, counted from 1, of the places in an
#' epoch whose data were found bad, and how many `times`. `best` is the lowest smoothed loss, the
#' mean of 16 accepted ones without two at either end, `NA` before one is below the initial loss.
#'
#' @param window Number of accepted losses that say what is normal; at least 8.
#' @param threshold How many robust standard deviations above the median a good loss may be.
#' @param warmup Number of accepted losses before the median and its deviation are trusted; at most
#'   `window`.
#' @param interval A state is kept before every so many batches at most: at first before the batches 1, 2,
#'   5 and 17, in the last 12 batches before every eighth, in trouble and in the 64 batches after it
#'   before each. With 1 there always is one from right before a bad batch. `NULL` means 32.
#' @param lr_factor What the rate is multiplied by where it is at fault, above 0 and below 1.
#' @param max_rollbacks After that many roll-backs training stops with the best state in place; `NULL`
#'   means no limit.
#' @param verbose 0 is silent, 1 prints a line for each event.
#' @return An R6 object of class `SpikeGuard`, to be put in the list `callbacks` of `fit()`.
#' @references
#' Battiti, R. (1989). Accelerated backpropagation learning: two optimization methods. Complex Systems 3,
#' 331-342.
#'
#' Chowdhery, A. et al. (2022). PaLM: scaling language modeling with pathways. arXiv:2204.02311.
#'
#' Hampel, F. R. (1974). The influence curve and its role in robust estimation. Journal of the American
#' Statistical Association 69, 383-393.
#' @examplesIf reticulate::py_module_available("keras") && reticulate::py_module_available("tensorflow")
#' keras <- reticulate::import("keras")
#' model <- keras$Sequential(list(keras$layers$Dense(1L)))
#' model$compile(keras$optimizers$SGD(0.1), "mse")
#' x <- matrix(seq(-2, 2, length.out = 256))
#' y <- 3 * x
#' y[100] <- NaN
#' guard <- callback_spike_guard()
#' history <- model$fit(x, y, epochs = 5L, verbose = 0L, callbacks = list(guard))
#' guard$bad_batches
#' guard
#' @export
callback_spike_guard <- function(window = 128, threshold = 6, warmup = 32, interval = NULL,
                                 lr_factor = 0.5, max_rollbacks = NULL, verbose = 0) {
  do.call(SpikeGuard$new, as.list(environment()))
}

#' @rdname callback_spike_guard
#' @format `SpikeGuard` is an R6 class generator; `$new()` takes the same arguments.
#' @export
SpikeGuard <- R6Class("SpikeGuard",
  inherit = Guard,
  public = list(
    initialize = function(window = 128, threshold = 6, warmup = 32, interval = NULL, lr_factor = 0.5,
                          max_rollbacks = NULL, verbose = 0) {
      super$initialize("SpikeGuard", as.list(environment()))
    }
  ),
  active = list(
    bad_batches = function(value) {
      if (!missing(value)) stop_read_only("bad_batches")
      found <- bridge()$bad_batches(private$.kguard_python())
      as.data.frame(lapply(found, as.integer))
    }
  )
)
