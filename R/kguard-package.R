#' Training guards for Keras
#'
#' Callbacks for `fit()` that watch a quantity and act when training goes bad:
#' [callback_revert_on_loss_increase()], [callback_revert_to_best_on_increase()],
#' [callback_restore_best()], and [callback_loss_history()], which records what
#' the loss really was, and explains why console, history and `evaluate()` differ;
#' [read_history()] reads its files. [KerasCallback] is the class from which R6 callbacks of
#' your own are derived.
#'
#' The guards run in Python, in the package pykguard that comes inside this one;
#' it is loaded on first use. Python needs Keras 3 and TensorFlow.
#'
#' @section Epochs and batches:
#' In R they are numbered from 1. Epoch 0 is the state before training. In keras 2.16 the hooks of your
#' own classes are given numbers from 0, as that package's own classes are.
#'
#' @keywords internal
#' @importFrom R6 R6Class
#' @importFrom reticulate r_to_py
#' @importFrom utils modifyList tail
"_PACKAGE"
