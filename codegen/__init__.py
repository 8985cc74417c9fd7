"""Lowering of an int8 graph to a program, and its emission as C."""
