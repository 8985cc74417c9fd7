"""Emulators that run an image over a stream of samples."""
