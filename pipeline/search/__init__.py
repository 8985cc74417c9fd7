"""The search for a network that fits: what `tinsmith compress` does.

A trial is a configuration: the stages run with it as they do in `tinsmith run`, and what is scored
is the firmware. torch and optuna are imported only inside functions.
"""
