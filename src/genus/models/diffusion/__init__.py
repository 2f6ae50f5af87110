"""Diffusion models: noise undone, one step at a time.

A fixed process turns data into noise, x_0 -> x_t -> x_T, in steps so small that each can be
undone by a normal law. A network learns these reverse steps, all of them at once: shown a
noisy datum and the time, it says what the clean one was (or, which is the same, which noise
is in it). Samples start from noise and walk back. The walk is a deep latent-variable model
whose encoder is fixed, so

    -log p(x_0) <= L_0 + sum_t L_{t-1} + L_T,

a sum of KL divergences between normals, each in closed form.

Time t runs from 0 (data) to 1 (noise) in the whole family. `_gaussian.py` holds the process,
the bound and the samplers, each blind to the others; a model file adds the network and the
kind of data.

What the family can promise: samples, a bound on log p(x), labels.
"""
