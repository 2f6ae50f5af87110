"""What each model can do, read off the models themselves (never kept by hand)."""

import re
from dataclasses import dataclass

from genus import registry
from genus.contract import (
    FitsInClosedForm,
    GenerativeModel,
    HasLatents,
    HasLogProb,
    IsConditional,
    IsEditable,
    Likelihood,
)
from genus.kinds import Domain, table


@dataclass(frozen=True)
class Capability:
    """One row of ``genus models`` and of the README's table."""

    name: str
    family: str
    paper: str
    likelihood: dict[str, Likelihood]
    """By kind of domain; its keys are the kinds that the model takes."""
    latents: bool
    conditional: bool
    editable: bool
    closed_form: bool

    @property
    def likelihood_text(self) -> str:
        """``=``, or ``≤ grid, = vectors`` where the kind depends on the domain."""
        symbols = {kind.symbol for kind in self.likelihood.values()}
        if len(symbols) == 1:
            return symbols.pop()
        return ", ".join(f"{kind.symbol} {domain}" for domain, kind in self.likelihood.items())


def capability(name: str) -> Capability:
    """The row of one model; builds tiny instances to read their likelihoods."""
    cls = registry.get(name)
    fitting = [domain for kind in table().values() for domain in kind.tiny() if cls.refuses(domain) is None]
    return Capability(
        name=name,
        family=registry.family(name),
        paper=cls.paper,
        likelihood={domain.kind: _likelihood(cls, domain) for domain in fitting},
        latents=issubclass(cls, HasLatents),
        conditional=issubclass(cls, IsConditional),
        editable=issubclass(cls, IsEditable),
        closed_form=issubclass(cls, FitsInClosedForm),
    )


def capabilities() -> list[Capability]:
    """The rows of all models, family by family."""
    return [capability(name) for name in registry.names()]


def markdown() -> str:
    """The README's table: family by capability."""
    mark = {True: "✓", False: ""}
    rows = [
        f"| {c.family} | `{c.name}` | {', '.join(c.likelihood)} | {c.likelihood_text} | {mark[c.latents]} "
        f"| {mark[c.conditional]} | {mark[c.editable]} | {_linked(c.paper)} |"
        for c in capabilities()
    ]
    head = "| family | model | data | likelihood | latents | conditional | editable | paper |"
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *rows])


def _linked(paper: str) -> str:
    """``Authors (year). Title. URL`` as a Markdown link on authors and year."""
    matched = re.fullmatch(r"(.*?\(\d{4}\))\. (.*)\. (https?://\S+)", paper)
    return f"[{matched[1]}]({matched[3]}). {matched[2]}" if matched else paper


def _likelihood(cls: type[GenerativeModel], domain: Domain) -> Likelihood:
    return cls.tiny(domain).likelihood if issubclass(cls, HasLogProb) else Likelihood.NONE
