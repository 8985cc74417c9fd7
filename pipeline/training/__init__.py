"""Training, in small parts that can be replaced: loop, losses, augmentation, channel removal.

The only package that imports torch; nothing imports it but the `run` of the training stages.
"""
