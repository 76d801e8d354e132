"""Processes, signals, resources and files of the operating system."""
