"""What each number means, in one sentence. Reports print these under their tables."""

MEANING: dict[str, str] = {
    "negative log-likelihood": (
        "How many bits (per dimension) or nats (per item) the model needs to write down data that it has not seen; "
        "for continuous data it is of a density, so only differences mean something."
    ),
    "held-out loss": (
        "What the model minimised, on data that it has not seen. Not a likelihood, and not comparable between models."
    ),
    "Fréchet distance": (
        "Distance between Gaussians fitted to features of real and of generated items; 0 if their means and "
        "covariances agree, and biased upwards with few items."
    ),
    "kernel distance": (
        "Squared distance between the two sets of features under a cubic kernel (MMD²); unbiased, so it may be "
        "slightly negative for perfect samples."
    ),
    "precision": "Share of the generated items that lie among the real ones: high if samples look real.",
    "recall": "Share of the real items that lie among the generated ones: high if no kind of datum is missed.",
    "density": "How deep the generated items lie among real ones; like precision, less fooled by outliers; may be > 1.",
    "coverage": (
        "Share of the real items that have a generated one close by; like recall, less fooled by outliers. What "
        "perfect samples would score stands under the table."
    ),
    "recognition": (
        "Mean probability that a classifier of real data gives to the class it sees in a sample; to be read beside "
        "that of real items. What is surely recognised need not look real."
    ),
    "class balance": (
        "Chi-square, divided by its degrees of freedom, between the classes seen in samples and in real items: about 1 "
        "if they are of one distribution, far above 1 if classes are missing or too frequent."
    ),
    "as asked": "Share of the samples in which the classifier sees the class that was asked for.",
    "nearest-train ratio": (
        "Median distance from samples to their nearest training item, divided by that of unseen real items: about 1 is "
        "healthy, near 0 is copying; blurred samples lie below 1 without being copies."
    ),
    "copied share": (
        "Share of the samples that are at most a third as far from their nearest training item as from the next: "
        "copies. What counts is the excess over the same share of unseen items."
    ),
    "authenticity": (
        "Share of the samples that are farther from their nearest training item than that item is from the nearest "
        "other one; to be read beside the value of unseen items; near 0 is copying or blur."
    ),
    "C_T": (
        "Rank test of the samples' distances to training items against those of unseen items, cell by cell, as a "
        "z-score: about 0 is healthy, far below 0 is copying or blur, far above 0 is poor samples. Grows with the "
        "number of samples."
    ),
    "MMD-CD": "Mean Chamfer distance from each real shape to the nearest generated one: are the shapes right?",
    "COV-CD": "Share of real shapes that are the nearest neighbour of a generated one (Chamfer): is there variety?",
    "1-NNA-CD": (
        "How well a nearest-neighbour test (Chamfer) tells generated shapes from real ones: 0.5 is perfect, 1 is "
        "easily told apart, below 0.5 suggests copies."
    ),
    "MMD-EMD": "As MMD-CD, with the earth mover's distance, which also sees uneven density.",
    "COV-EMD": "As COV-CD, with the earth mover's distance.",
    "1-NNA-EMD": "As 1-NNA-CD, with the earth mover's distance.",
    "JSD": "Divergence (0 to 1 bit) of where generated and real shapes put their points, all shapes heaped together.",
    "sampling speed": "Samples drawn in a second on the machine of the evaluation.",
    "parameters": "Numbers that training can change.",
    "peak memory": "Largest memory of the whole process up to the end of sampling.",
    "training time": "Seconds of training on the machine of the run.",
}
