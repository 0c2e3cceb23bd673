"""Autoregressive models: each value given those before it; exact likelihoods, and samples drawn one value after the other."""
