# What the function of an external loss returned, as Python takes it: a loss, or a list of a loss and a
# gradient. One loss a row goes as an array, one of the batch as a number.
returned_loss <- function(returned, what, y_pred, with_gradient) {
  if (!with_gradient) {
    return(as_losses(returned, what, y_pred))
  }
  pair <- as_pair(returned, what)
  list(as_losses(pair$loss, what, y_pred), as_gradient(pair$gradient, what, y_pred))
}

as_pair <- function(returned, what) {
  names <- names(returned)
  is_pair <- is_plain_list(returned) && length(returned) == 2L &&
    (is.null(names) || setequal(names, c("loss", "gradient")))
  if (!is_pair) {
    got <- if (!is_plain_list(returned)) {
      spell(returned)
    } else if (is.null(names) || length(returned) != 2L) {
      paste("a list of", length(returned))
    } else {
      paste("a list with the names", toString(dQuote(names, FALSE)))
    }
    stop_returned(what, "list(loss = , gradient = )", got)
  }
  if (is.null(names)) stats::setNames(returned, c("loss", "gradient")) else returned
}

as_losses <- function(loss, what, y_pred) {
  rows <- NROW(y_pred)
  requirement <- sprintf("a finite loss, one number or one a row (%d of them)", rows)
  check_finite(loss, what, requirement)
  is_column <- is.null(dim(loss)) || length(loss) == dim(loss)[1L]
  if (length(loss) == rows && is_column) {
    return(array(as.double(loss), rows))
  }
  if (length(loss) != 1L) stop_returned(what, requirement, spell_sizes(loss))
  as.double(loss)
}

as_gradient <- function(gradient, what, y_pred) {
  shape <- dim(y_pred)
  requirement <- paste("a finite gradient of the predictions' dimensions", paste(shape, collapse = " x "))
  check_finite(gradient, what, requirement)
  is_vector <- is.null(dim(gradient)) || length(dim(gradient)) == 1L
  is_column <- is_vector && length(gradient) == shape[1L] && prod(shape[-1L]) == 1
  if (!is_column && !identical(dim(gradient), shape)) stop_returned(what, requirement, spell_sizes(gradient))
  array(as.double(gradient), shape)
}

check_finite <- function(numbers, what, requirement) {
  if (!is_plain_number(numbers)) stop_returned(what, requirement, spell(numbers))
  bad <- numbers[!is.finite(numbers)]
  if (length(bad)) {
    among <- if (length(numbers) > 1L) paste(" among", length(numbers), "numbers")
    stop_returned(what, requirement, paste0(format(bad[1L]), among))
  }
}

spell_sizes <- function(numbers) {
  if (is.null(dim(numbers))) paste(length(numbers), "numbers") else spell(numbers)
}

stop_returned <- function(what, requirement, got) {
  stop_kguard("kguard_external_loss_error", what, " must return ", requirement, ", got ", got)
}
