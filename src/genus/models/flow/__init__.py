"""Invertible maps between data and noise."""
