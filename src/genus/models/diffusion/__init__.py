"""Diffusion models: noise undone, one step at a time.

A fixed process turns data into noise, x_0 -> x_t -> x_1, in steps so small that each can be
undone by a simple distribution: a normal one, or hops between levels. A network learns to undo them, all at
once: shown a noisy datum and the time, it says what the clean one was (or, which is the same,
which noise is in it). Samples start from noise and walk back.

Time t runs from 0 (data) to 1 (noise) in the whole family. A model is a choice of four parts, each
blind to how the others are made:

    process    how data become noise             `_process.py`, and of integers `_categorical.py`
    denoiser   what the network is asked for     `_denoiser.py`
    sampler    how to walk back                  `_samplers.py`
    loss       which errors count how much       the model file; `_bound.py`, `_weighting.py`

The walk is a deep latent-variable model whose encoder is fixed, so -log p(x_0) <= L_0 + sum_t L_{t-1} + L_T, a sum
of divergences (`_bound.py`); in continuous time it is a flow, whose density can be followed (`_ode.py`).

What the family can promise: samples, a bound on or an estimate of log p(x), latents, completion, labels.
"""
