"""The table of commands. Nothing heavy is imported before a command is known."""

import difflib
import keyword
import os
import pkgutil
import sys

from genus import __version__
from genus.errors import GenusError

COMMANDS = {
    "models": "what models there are, and all about one of them",
    "data": "what genus sees in a data source, a file or a folder",
    "train": "train a model on data; the same command again resumes",
    "sample": "draw samples from a run",
    "interpolate": "pictures from one datum to another, through a run's latents",
    "traverse": "pictures along the directions in which a run's latents vary most",
    "arithmetic": "what a group has and another has not, added to data in the latents",
    "edit": "move real data along named directions, or complete what is kept of them",
    "reconstruct": "what a run's latents keep of data, beside the originals",
    "evaluate": "score a run, or any folder of samples, on held-out data",
    "diagnose": "what a bound hides (unused latents, gaps); samplers by network calls",
    "report": "write the HTML report of a run",
    "compare": "train and score several models under one budget",
    "chain": "a Markov chain from sequences: its graph, its long run, forecasts",
    "compress": "code data without loss, as short as the run's likelihood says",
    "decompress": "the data of such a file, bit for bit",
    "export": "a run as a folder of another library",
    "import": "a model of another library as a run",
    "verify": "check the mathematics of a model on this machine",
}

EXAMPLES = """examples:
  genus models vae                                    what it is, its settings, examples
  genus data digits                                   look at the data first
  genus train vae --data digits --minutes 1           train; writes runs/vae-digits-...
  genus sample runs/vae-digits-... --count 64         a picture of samples
  genus edit runs/gated_pixelcnn-... --keep top       complete half pictures
  genus interpolate runs/glow-... --items 3 17        from one picture to another
  genus evaluate runs/vae-digits-...                  held-out scores, with their floors
  genus evaluate path/to/samples --against mnist      samples of any origin
  genus compare --data digits --models vae,ddpm,nade --minutes 1
  genus chain weather.csv --column weather            what follows what, and the long run
  genus compress runs/nade-binarized-... pictures.npy lossless, with the run as the code book
  genus train ddpm --data path/to/pictures --size 32  your own pictures

'genus COMMAND --help' explains a command, 'genus train MODEL --help' every setting of a model."""


def usage() -> str:
    """The text of ``genus --help``."""
    rows = "\n".join(f"  {name:<13}{text}" for name, text in COMMANDS.items())
    head = "usage: genus COMMAND ...\n\nEvery family of deep generative model behind one contract."
    return f"{head}\n\ncommands:\n{rows}\n\n{EXAMPLES}"


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 only where the work was done."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] == "--version":
        print(__version__)
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        print(f"genus: unknown command {name!r}; expected one of {', '.join(COMMANDS)}.{hint}", file=sys.stderr)
        return 2
    try:
        module = f"genus.cli.{name}{'_' * keyword.iskeyword(name)}"
        return int(pkgutil.resolve_name(module).main(rest) or 0)
    except (GenusError, ValueError, OSError) as error:
        if os.environ.get("GENUS_TRACEBACK"):
            raise
        print(f"genus {name}: {' '.join(str(error).split())}{able(error)}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        print(f"genus {name}: interrupted.", file=sys.stderr)
        return 130


def able(error: Exception) -> str:
    """The models that have the role which an error misses, as a sentence; empty for other errors."""
    role = getattr(error, "role", None)
    if role is None:
        return ""
    from genus import registry

    signed = [model for model in registry.names() if role in (c.__name__ for c in registry.get(model).__mro__)]
    return f" Models that can: {', '.join(signed) or 'none'}."


if __name__ == "__main__":
    sys.exit(main())
