"""The guards: each turns Keras' hooks into a rule's `step`, and its decision into deeds."""
