"""Writes docs/configuration.md to standard output."""

import sys

from tinsmith.pipeline.config.page import configuration_markdown

sys.stdout.write(configuration_markdown())
