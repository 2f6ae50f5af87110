"""Networks that families share."""
