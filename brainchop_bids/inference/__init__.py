"""Inference: engines that run networks, memory planning, worker pool, and steps of a scan."""
