"""Where things happen: one plain function for each act of a person, a robot or an operator.

An act calls the stages, opens one transaction, and writes state and events together. Every transport calls these
functions and nothing below them. What-if questions (explain, list) write no event.
"""
