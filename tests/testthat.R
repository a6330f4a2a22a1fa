library(testthat)
library(kguard)

test_check("kguard")
