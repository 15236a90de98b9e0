"""Leaf helpers: errors, files, logging, optional imports, environment report."""
