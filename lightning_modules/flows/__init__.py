"""Normalising flows: bijections whose value and log-determinant travel together."""
