"""Models that read a condition of any kind: that they obey it, that they stay distributions, that they read it once."""

from collections.abc import Callable

import pytest
import torch
from safetensors import torch as safetensors
from torch import Tensor

from genus import registry
from genus.compress.archive import codable
from genus.contract import Batch, GenerativeModel, HasConditionals, HasLatents, HasLogProb, Likelihood
from genus.data import open_source
from genus.errors import CapabilityError
from genus.kinds import Domain, Grid, Label, Parts, Points, Pyramid, Tokens, Vectors, Waveform
from genus.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from genus.models.autoregressive.multiscale_pixelcnn import MultiscalePixelCNN
from genus.models.autoregressive.pixelcnn import PixelCNN
from genus.models.autoregressive.pixelcnn_pp import PixelCNNPP
from genus.models.autoregressive.pixelrnn import PixelRNN
from genus.models.autoregressive.wavenet import WaveNet
from genus.models.flow.glow import Glow
from genus.models.flow.maf import MAF
from genus.models.flow.nice import NICE
from genus.models.flow.realnvp import RealNVP
from genus.models.flow.spline_flow import SplineFlow
from genus.models.latent.autoencoder import Autoencoder
from genus.models.latent.iwae import IWAE
from genus.models.latent.vae import VAE
from genus.models.two_stage import TwoStage
from genus.nn.condition import CONDITIONS, ConditionEncoder
from genus.prob import gaussian, noise
from genus.prob.noise import stream
from genus.testing.checks._common import AlienDomain
from genus.testing.oracles import all_states
from genus.testing.subjects import toy_data

Builder = Callable[[Domain | None], GenerativeModel]

GIVEN: list[Domain] = [
    Label(("a", "b", "c")), Vectors(3), Tokens(5, 7), Waveform(4, 8000, 6), Grid(1, (4, 3), 9),
    Grid(2, (2, 2), 5, ordered=False), Grid(1, (6,), 4), Points(6, 3),
    Parts((("map", Grid(1, (4, 4), 4)), ("style", Vectors(2)), ("type", Label(("a", "b"))))),
]  # fmt: skip
PICTURE, COLOUR, ROWS = Grid(1, (2, 2), 2), Grid(3, (5, 7), 4), Vectors(3)
NOT_MEANT = AlienDomain()

STATES: dict[str, Builder] = {  # of so few states that all can be asked for
    "gated_pixelcnn": lambda c: GatedPixelCNN.tiny(PICTURE, c),
    "pixelcnn": lambda c: PixelCNN.tiny(PICTURE, c),
    "pixelrnn row": lambda c: PixelRNN(PICTURE, c, kind="row", features=8, layers=2, first=3),
    "pixelrnn diagonal": lambda c: PixelRNN.tiny(PICTURE, c),
    "pixelcnn_pp": lambda c: PixelCNNPP.tiny(PICTURE, c),
    "multiscale_pixelcnn": lambda c: MultiscalePixelCNN.tiny(Pyramid((2, 2), 2, 2), c),
    "wavenet": lambda c: WaveNet.tiny(Tokens(5, 3), c),
}
WALKS: dict[str, Builder] = {
    "gated_pixelcnn": lambda c: GatedPixelCNN.tiny(COLOUR, c),
    "pixelcnn": lambda c: PixelCNN.tiny(COLOUR, c),
    "pixelrnn row": lambda c: PixelRNN(COLOUR, c, kind="row", features=8, layers=2, first=3),
    "pixelrnn diagonal": lambda c: PixelRNN.tiny(COLOUR, c),
    "pixelcnn_pp": lambda c: PixelCNNPP.tiny(COLOUR, c),
    "multiscale_pixelcnn": lambda c: MultiscalePixelCNN.tiny(Pyramid((4, 6), 2, 4), c),
    "wavenet": lambda c: WaveNet.tiny(Waveform(9, 8000, 6), c),
}
FLOWS: dict[str, Builder] = {  # of rows, whose density is exact
    "maf": lambda c: MAF.tiny(ROWS, c),
    "nice": lambda c: NICE.tiny(ROWS, c),
    "realnvp": lambda c: RealNVP.tiny(ROWS, c),
    "spline_flow": lambda c: SplineFlow.tiny(ROWS, c),
    "spline_flow autoregressive": lambda c: SplineFlow(ROWS, c, layers=2, hidden=8, bins=4, autoregressive=True),
}
PICTURE_FLOWS: dict[str, Builder] = {
    "glow": lambda c: Glow.tiny(Grid(1, (4, 4), 9), c),
    "realnvp of pictures": lambda c: RealNVP.tiny(Grid(1, (4, 4), 9), c),
    "nice of pictures": lambda c: NICE.tiny(Grid(1, (4, 4), 9), c),
}
CONV = {"latent_features": 2, "network": "conv", "hidden": (8,), "channels": (4,)}
OTHERS: dict[str, Builder] = {
    "vae": lambda c: VAE.tiny(PICTURE, c),
    "vae conv": lambda c: VAE(Grid(1, (4, 4), 9), c, **CONV),
    "vae vamp": lambda c: VAE(ROWS, c, latent_features=2, hidden=(8,), prior="vamp", components=4),
    "iwae": lambda c: IWAE.tiny(Tokens(5, 3), c),
    "autoencoder": lambda c: Autoencoder.tiny(ROWS, c),
    "vae+realnvp": lambda c: TwoStage(VAE.tiny(PICTURE), RealNVP.tiny(Vectors(2), c)),
    "vae given the same+realnvp": lambda c: TwoStage(VAE.tiny(PICTURE, c), RealNVP.tiny(Vectors(2), c)),
}
MODELS = STATES | FLOWS | PICTURE_FLOWS | OTHERS


def data(domain: Domain, which: Tensor) -> Tensor:
    """One datum of the pattern ``which`` (0, 1 or 2) each."""
    if isinstance(domain, Label):
        return which % domain.count
    if isinstance(domain, Parts):
        return domain.join({name: data(part, which) for name, part in domain.parts})
    return toy_data(domain, which)


class Pairs:
    """Data and conditions of three patterns."""

    def __init__(self, model: GenerativeModel, count: int = 96):
        self.count, which = count, torch.arange(count) % 3
        self.x, self.condition = data(model.domain, which), data(model.condition, which)

    def __len__(self) -> int:
        return self.count

    def batch(self, index: Tensor, generator: torch.Generator | None = None) -> Batch:
        return Batch(self.x[index], self.condition[index], index)


def awake(build: Builder, condition: Domain, dtype: torch.dtype = torch.float32, shake: float = 0.1) -> GenerativeModel:
    """A model that has seen data, and none of whose weights is zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(condition).eval()
        parts = [model.first, model.second] if isinstance(model, TwoStage) else [model]
        for part in parts:
            if part.condition is not None:
                part.initialise(Pairs(part))
    with torch.no_grad():
        for k, parameter in enumerate(model.parameters()):
            parameter.add_(shake * noise.normal(tuple(parameter.shape), stream("shake", k)))
    return model.to(dtype)


def log_prob(model: GenerativeModel, x: Tensor, condition: Tensor) -> Tensor:
    with torch.no_grad():
        return model.log_prob(x, condition=condition, generator=stream("log_prob"))


@pytest.mark.parametrize("condition", GIVEN, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_obeys_a_condition_of_any_kind(name: str, condition: Domain) -> None:
    wild = [awake(MODELS[name], condition, shake=shake) for shake in (0.1, 0.4)]  # a small one may not move a pixel
    for model in wild:
        batch, other = Pairs(model).batch(torch.arange(48)), Pairs(model).batch(torch.arange(1, 49)).condition
        x = model.sample(48, condition=batch.condition, generator=stream("x"))
        model.domain.check(x)
        assert not x.requires_grad
        if not torch.equal(model.sample(48, condition=other, generator=stream("x")), x):
            break
    else:
        pytest.fail("another condition gives the same samples from the same noise")
    model = wild[0]
    if isinstance(model, HasLogProb) and model.likelihood is not Likelihood.NONE:
        one, two = (log_prob(model, batch.x, c) for c in (batch.condition, other))
        assert one.shape == (48,) and one.isfinite().all() and not torch.allclose(one, two, atol=1e-6)
    if isinstance(model, HasLatents):
        z = model.encode(batch.x, condition=batch.condition)
        assert model.decode(z, condition=batch.condition).shape == batch.x.shape
    for wrong in (None, batch.condition[:5], batch.condition[..., None]):
        with pytest.raises(ValueError, match=r"condition|shape"):
            model.sample(48, condition=wrong)


@pytest.mark.parametrize("condition", GIVEN, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_every_weight_learns_and_parts_of_a_batch_are_the_whole(name: str, condition: Domain) -> None:
    model = awake(MODELS[name], condition)
    batch = Pairs(model).batch(torch.arange(12))
    whole = model.losses(batch, stream("parts"))
    halves = []
    for number in range(2):
        with noise.part_of(number, 2):
            halves.append(model.losses(batch.part(number, 2), stream("parts")))
    for term, value in whole.items():
        torch.testing.assert_close(torch.cat([half[term] for half in halves]), value, rtol=1e-4, atol=1e-4)
    whole["loss"].sum().backward()
    model.losses(Pairs(model).batch(torch.arange(48)), stream("more"))["loss"].sum().backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not idle


@pytest.mark.parametrize("condition", GIVEN, ids=str)
@pytest.mark.parametrize("name", ["vae conv", "glow", "maf", "gated_pixelcnn", "wavenet"])
def test_what_is_saved_is_everything(name: str, condition: Domain) -> None:
    model, other = awake(MODELS[name], condition), MODELS[name](condition).eval()
    saved = {key: value.clone().contiguous() for key, value in model.state_dict().items()}
    other.load_state_dict(safetensors.load(safetensors.save(saved)))
    batch = Pairs(model).batch(torch.arange(9))
    assert torch.equal(*(log_prob(m, batch.x, batch.condition) for m in (model, other)))


@pytest.mark.parametrize("condition", GIVEN, ids=str)
@pytest.mark.parametrize("name", STATES)
def test_probabilities_of_all_states_sum_to_one_given_any_condition(name: str, condition: Domain) -> None:
    model = awake(STATES[name], condition, torch.float64)
    states, told = all_states(model.domain), data(condition, torch.arange(3))
    for one in told:
        total = log_prob(model, states, one.expand(len(states), *one.shape)).exp().sum()
        assert abs(total.item() - 1) < 1e-12


@pytest.mark.parametrize("condition", GIVEN, ids=str)
@pytest.mark.parametrize("name", FLOWS)
def test_density_and_jacobians_of_a_flow_given_any_condition(name: str, condition: Domain) -> None:
    """By autograd: log p(x) is the change of variables by encode, and decode has the inverse Jacobian."""
    model = awake(FLOWS[name], condition, torch.float64)
    x, told = data(ROWS, torch.arange(3)).double(), data(condition, torch.arange(3))
    z = model.encode(x, condition=told).detach()
    there, back = (
        torch.autograd.functional.jacobian(lambda v, f=f: f(v, condition=told).sum(0), at).movedim(1, 0)
        for f, at in ((model.encode, x), (model.decode, z))
    )
    expected = gaussian.log_prob(z, torch.zeros(()), torch.zeros(())).sum(1) + there.slogdet()[1]
    torch.testing.assert_close(log_prob(model, x, told), expected, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(there @ back, torch.eye(3).double().expand(3, 3, 3), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.decode(z, condition=told).detach(), x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("condition", GIVEN, ids=str)
@pytest.mark.parametrize("name", PICTURE_FLOWS)
def test_jacobians_of_a_flow_of_pictures_given_any_condition(name: str, condition: Domain) -> None:
    model = awake(PICTURE_FLOWS[name], condition, torch.float64)
    x = noise.normal((1, 1, 4, 4), stream("x"), dtype=torch.float64)
    told = model.read_condition(data(condition, torch.tensor([1])))
    z, log_det = model.flow(x, told)
    there = torch.autograd.functional.jacobian(lambda v: model.flow(v, told)[0], x).view(16, 16)
    back = torch.autograd.functional.jacobian(lambda v: model.flow.inverse(v, told), z.detach()).view(16, 16)
    torch.testing.assert_close(log_det[0], there.slogdet()[1], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(there @ back, torch.eye(16).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("condition", GIVEN, ids=str)
@pytest.mark.parametrize("name", WALKS)
def test_a_walk_gives_what_the_full_pass_does(name: str, condition: Domain) -> None:
    model = awake(WALKS[name], condition, torch.float64)
    assert isinstance(model, HasConditionals)
    x, told = (data(domain, torch.arange(3)) for domain in (model.domain, condition))
    walk, nats = model.chain_rule(3, condition=told), torch.zeros(3, dtype=torch.float64)
    place, logits = next(walk)
    for _ in range(model.domain.num_dims):
        entry = x.flatten(1)[:, place].long()
        nats += logits.double().log_softmax(-1).gather(-1, entry[:, None])[:, 0]
        try:
            place, logits = walk.send(entry)
        except StopIteration:
            break
    torch.testing.assert_close(nats, log_prob(model, x, told), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["gated_pixelcnn", "pixelcnn", "pixelrnn row", "pixelrnn diagonal", "pixelcnn_pp"])
def test_a_map_is_read_in_its_place(name: str) -> None:
    """The last row of the map does not reach the pixels above it: only a vector would, and it is held still."""
    model = awake(WALKS[name], Grid(1, (5, 7), 4))
    x = data(COLOUR, torch.arange(2))
    read = model.read_condition(data(model.condition, torch.tensor([0]))).repeat(2)
    maps = read.maps.detach().clone()
    maps[1, :, 4] += 1
    with torch.no_grad():
        logits = model.full_pass(model.planes(x[:1].expand(2, -1, -1, -1)), read._replace(maps=maps))
    rows = (logits[0] - logits[1]).abs().amax((0, 2)) > 1e-6
    assert rows[4] and not rows[:4].any()


def test_a_map_of_the_decoder_is_read_in_its_place() -> None:
    model = awake(lambda c: VAE(Grid(1, (8, 4), 9), c, **CONV), Grid(1, (8, 4), 4))
    read = model.read_condition(data(model.condition, torch.tensor([0]))).repeat(2)
    maps = read.maps.detach().clone()
    maps[1, :, 7] += 1
    with torch.no_grad():
        out = model.parameters_given(torch.zeros(2, 2), read._replace(maps=maps))
    rows = (out[0] - out[1]).abs().flatten(0, 1).amax((0, 2)) > 1e-6
    assert rows.tolist() == [False] * 4 + [True] * 4  # three convolutions of three


@pytest.mark.parametrize("name", MODELS)
def test_a_condition_is_read_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a batch, however many draws, and for a walk, however many entries."""
    model, rows = awake(MODELS[name], Vectors(3)), []
    forward = ConditionEncoder.forward

    def counted(self: ConditionEncoder, condition: Tensor, dropped: Tensor | None = None) -> object:
        rows.append(len(condition))
        return forward(self, condition, dropped)

    monkeypatch.setattr(ConditionEncoder, "forward", counted)
    batch, stages = Pairs(model).batch(torch.arange(6)), 1 + isinstance(model, TwoStage)
    model.sample(6, condition=batch.condition, generator=stream("x"))
    assert rows == [6] * (2 if "same" in name else 1)
    if stages > 1:
        return
    rows.clear()
    model.losses(batch, stream("x"))
    assert rows == [6]
    if isinstance(model, HasLogProb):
        rows.clear()
        model.log_prob(batch.x, condition=batch.condition, num_samples=5, generator=stream("x"))
        assert sum(rows) <= 12  # for the posterior and for the decoder


@pytest.mark.parametrize("name", registry.names())
def test_other_kinds_are_refused(name: str) -> None:
    """By what a class says of itself; a model of labels refuses rows, and every model an alien."""
    cls = registry.get(name)
    domain = next(
        d for d in (Grid(1, (8, 8), 2), Vectors(2), Points(16, 3), Tokens(4, 3), Pyramid((4, 4), 2, 4))
        if cls.refuses(d) is None
    )  # fmt: skip
    kinds = [NOT_MEANT, *([] if Vectors in cls.conditions else [Vectors(3)])]
    for wrong in (*kinds, Parts((("fine", Label(("a", "b"))), ("wrong", NOT_MEANT)))):
        with pytest.raises((ValueError, CapabilityError), match=r"is conditioned on|IsConditional"):
            cls.tiny(domain, wrong)


def test_these_models_take_any_kind() -> None:
    assert {type(condition) for condition in GIVEN} == {*CONDITIONS, Parts}
    assert all(model(None).conditions == CONDITIONS for name, model in MODELS.items() if "+" not in name)


def test_only_labels_can_be_coded_as_a_condition() -> None:
    for build in (STATES["gated_pixelcnn"], OTHERS["vae"]):
        assert codable(build(GIVEN[0]))
        with pytest.raises(CapabilityError, match=r"only labels can be coded as a condition; .* has vectors of 3 feat"):
            codable(build(Vectors(3)))


def test_slower_sequences_are_read_in_their_time() -> None:
    """A symbol or a sample of the condition moves the logits of its own time and later, not before."""
    for condition in (Tokens(3, 7), Waveform(3, 8000, 7)):
        model, x = awake(WALKS["wavenet"], condition), data(Waveform(9, 8000, 6), torch.zeros(2).long())
        told = torch.tensor([[1, 2, 3], [1, 2, 4]], dtype=condition.dtype)
        with torch.no_grad():
            logits = model.logits(x[:1].expand(2, -1), told)
        moved = (logits[0] - logits[1]).abs().amax(1) > 1e-6
        assert moved.tolist() == [False] * 6 + [True] * 3
    assert WaveNet(Tokens(5, 3), Waveform(12, 8000)).condition_encoder is not None  # longer: read as a whole


def test_decode_can_be_differentiated() -> None:
    model = awake(OTHERS["vae vamp"], Vectors(3))
    z = torch.zeros(2, 2, requires_grad=True)
    model.decode(z, condition=torch.ones(2, 3)).sum().backward()
    assert z.grad is not None and z.grad.any()


def ink(x: Tensor) -> Tensor:
    """What can be measured in a digit: how much ink, where it lies, how it leans. ``(B, 4)``."""
    x = x.double().squeeze(1)
    mass = x.sum((1, 2))
    rows, columns = (torch.arange(8.0, dtype=torch.float64) - 3.5).view(8, 1), torch.arange(8.0).double() - 3.5
    down, right, lean = ((x * by).sum((1, 2)) / mass.clamp(min=1) for by in (rows, columns, rows * columns))
    return torch.stack([mass, down, right, lean], 1).float()


def test_attributes_help_to_reproduce_digits() -> None:
    """A vae given four measures of a digit draws digits with these measures; trained on shuffled ones it does not."""
    source = open_source("digits")
    x, test = source.train.x, source.test.x[:200]

    def explained(told: Tensor) -> float:
        """The part of the measures' variance, over test digits, that samples given the measures reproduce."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = VAE(source.domain, Vectors(4), latent_features=8, hidden=(128,))
            model.condition_encoder.fit(told)
            model.bias.data.copy_(model.distribution.fit(x))
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for step in range(400):
            index = noise.integers(len(x), (100,), stream("batch", step))
            optimizer.zero_grad()
            model.losses(Batch(x[index], told[index]), stream("loss", step))["loss"].mean().backward()
            optimizer.step()
        drawn = ink(model.sample(200, condition=ink(test), generator=stream("drawn"), pixels="mode"))
        return float(1 - ((drawn - ink(test)).square().mean(0) / ink(test).var(0)).mean())

    right, wrong = explained(ink(x)), explained(ink(x)[noise.permutation(len(x), stream("shuffle"))])
    assert right > 0.4 and wrong < 0.1
