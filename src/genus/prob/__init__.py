"""Mathematics without networks: randomness, densities, divergences."""
