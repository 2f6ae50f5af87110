"""Adversarial models: two networks play a game, and nobody writes down a density.

A generator turns noise into data, a discriminator tells the data from the generator's. The
discriminator's best answer is D(x) = p_data(x) / (p_data(x) + p_generator(x)); against it, the
value of the game is -ln 4 + 2 JSD(p_data, p_generator), least where the two distributions are one.

Neither loss measures quality: a player's loss falls when the other one gets worse. So there is
no criterion for the best checkpoint, and samples must be looked at and scored.

What the family can promise: samples, in one pass of a network.
"""
