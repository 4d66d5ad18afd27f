"""Ask the live API the questions that its documentation leaves open, and report the answers.

`asker` does all input and output, `plan` decides what to ask, and all other modules are pure
functions of the recorded exchanges.
"""
