"""Write the generated tables of the README, or check with --check that they are current."""

import re
import sys
from pathlib import Path

from genus.report.capabilities import markdown

README = Path(__file__).parent.parent / "README.md"
PLACE = re.compile(r"(<!-- models -->\n).*?(\n<!-- /models -->)", re.DOTALL)


def main() -> int:
    """Rewrite the README's table of models; with --check only say whether it is stale."""
    before = README.read_text(encoding="utf-8")
    after = PLACE.sub(lambda match: match[1] + markdown() + match[2], before)
    if "--check" in sys.argv:
        if before != after or not PLACE.search(before):
            print("README.md: the table of models is stale; run 'make docs'.", file=sys.stderr)
            return 1
        return 0
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
