"""Autoregressive models: the chain rule, one conditional an entry."""
