# Spells every help page, vignette and text of the package; words of the field are in inst/WORDLIST.
found <- spelling::spell_check_package(".")
if (nrow(found)) {
  print(found)
  stop(nrow(found), " words that are misspelt, or that inst/WORDLIST lacks", call. = FALSE)
}
cat("no misspelt words\n")
