"""Meshes, clouds of points, and made-up furniture."""
