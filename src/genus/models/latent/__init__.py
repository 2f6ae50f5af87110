"""Latent-variable models: data explained by few hidden causes.

A code z is drawn from a simple prior p(z) and a decoder turns it into a distribution p(x|z), so
p(x) = integral p(x|z) p(z) dz. That integral is out of reach, but for any distribution q(z|x)

    log p(x) >= E_q[ log p(x|z) ] - KL( q(z|x) || p(z) ),

the evidence lower bound, with equality where q is the true posterior. An encoder gives q;
both networks climb the bound together. Averaging K importance weights p(x,z)/q(z|x) inside
the logarithm gives a bound that rises to log p(x) with K.

What the family can promise: a bound on log p(x), short codes that can be interpolated and
traversed, fast samples (one pass of the decoder). What it gives up: the exact number (but for
`ppca`, whose parts are all normal).
"""
