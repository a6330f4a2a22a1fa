"""Pure decisions: frozen options, a state, and `step(options, state, seen)`. No Keras here."""
