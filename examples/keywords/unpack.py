"""Lay out the Arabic Speech Commands archive as the example wants it.

    python unpack.py ARCHIVE FOLDER [--fold K --folds N]

ARCHIVE holds `<split>/<word>/*.wav`, whose names carry the speaker: eight digits. FOLDER gets
`train/<word>/`, `test/<word>/` and `noise/`. Without --fold the archive's own split stays; with it,
every N-th speaker from the K-th on is for testing. No speaker is in both.
"""

import argparse
import re
import tarfile
from pathlib import Path, PurePosixPath

NOISE = "_background_noise_"


def unpack(archive: Path, folder: Path, fold: int | None = None, folds: int = 1) -> None:
    """Write the WAV files of an archive into the folder."""
    with tarfile.open(archive) as tar:
        files = {PurePosixPath(m.name): m for m in tar.getmembers() if m.name.endswith(".wav")}
        speakers = sorted({speaker_of(path) for path in files if path.parts[0] != NOISE})
        held = None if fold is None else set(speakers[fold::folds])
        for path, member in files.items():
            target = folder / place_of(path, held)
            target.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None, path
            target.write_bytes(content.read())


def place_of(path: PurePosixPath, held: set[str] | None) -> PurePosixPath:
    """Where a file of the archive belongs. held: who tests, None for its own split."""
    if path.parts[0] == NOISE:
        return PurePosixPath("noise", path.name)
    split, word, name = path.parts
    testing = split != "train" if held is None else speaker_of(path) in held
    return PurePosixPath("test" if testing else "train", word, name)


def speaker_of(path: PurePosixPath) -> str:
    """The eight digits in a file's name."""
    found = re.search(r"(?<!\d)\d{8}(?!\d)", path.name)
    if found is None:
        raise SystemExit(f"{path}: no speaker in the name; expected eight digits")
    return found.group()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fold", type=int)
    parser.add_argument("--folds", type=int, default=4)
    args = parser.parse_args()
    unpack(args.archive, args.folder, args.fold, args.folds)


if __name__ == "__main__":
    main()
