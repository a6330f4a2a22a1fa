# keras3 comes from CRAN only, so its functions are looked up when it is there.
keras3 <- function(name) getExportedValue("keras3", name)

keras3_model <- function() {
  keras3("set_random_seed")(1L)
  model <- keras3("keras_model_sequential")(input_shape = 3L)
  model <- keras3("layer_dense")(model, 4L, activation = "relu")
  model <- keras3("layer_dense")(model, 1L)
  keras3("compile")(model, optimizer = "adam", loss = "mse")
  model
}
