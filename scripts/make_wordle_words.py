"""Makes the word list of the environment wordle from Debian's package of SCOWL, and puts its licence beside it.

    apt-get download scowl
    dpkg-deb -x scowl_*.deb scowl
    python scripts/make_wordle_words.py scowl

The committed list comes from scowl 2020.12.07-2. SCOWL grades English words by how well they are known; the list
takes those up to grade 35 that both sides of the Atlantic share or that are American spelling. Names, abbreviations,
Roman numerals and variant spellings are lists of their own there, and are left out.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

DATA = Path(__file__).parents[1] / "envpool" / "envs" / "wordle" / "data"
LISTS = [f"{kind}-words.{grade}" for kind in ("american", "english") for grade in (10, 20, 35)]


def five_letter_words(package: Path) -> list[str]:
    """Returns the words of exactly five letters a-z, sorted, each once."""
    folder = package / "usr" / "share" / "dict" / "scowl"
    texts = [(folder / name).read_text("latin-1") for name in LISTS]
    return sorted({word for text in texts for word in text.splitlines() if re.fullmatch("[a-z]{5}", word)})


def main() -> None:
    """Writes ``words.txt`` and ``LICENSE.txt``."""
    parser = argparse.ArgumentParser(description="Makes the word list of the environment wordle.")
    parser.add_argument("package", type=Path, help="the folder into which the package scowl was unpacked")
    package: Path = parser.parse_args().package
    if not (package / "usr" / "share" / "dict" / "scowl").is_dir():
        parser.error(f"{package} holds no unpacked package scowl: see the top of this file")
    words = five_letter_words(package)
    DATA.mkdir(exist_ok=True)
    (DATA / "words.txt").write_text("\n".join(words) + "\n", "ascii")
    notice = (package / "usr" / "share" / "doc" / "scowl" / "copyright").read_text("utf-8")
    head = (
        "words.txt: five-letter words of SCOWL, chosen by scripts/make_wordle_words.py. The notice of SCOWL follows.\n"
    )
    (DATA / "LICENSE.txt").write_text(f"{head}\n{notice}", "utf-8")
    print(f"{len(words)} words")


if __name__ == "__main__":
    main()
