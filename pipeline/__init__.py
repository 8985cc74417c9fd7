"""The deployment pipeline: graph, numerics, ops, front ends, passes, stages, exporters."""
