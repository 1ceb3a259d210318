"""The bytes and the likeness of JPEG variants, beside those that libjpeg's own tables make.

`python -m bench quality` makes the default recipe's variants of photos and takes the reduced pictures for the
truth. It says how many bytes each way of encoding takes, of those that the former way takes to be as good.
"""

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import exp, log, log10, sqrt
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import pyvips

from pipelines.decoder import render, vips
from pipelines.decoder.jpeg_options import jpeg_options
from pipelines.formats import BY_NAME
from pipelines.recipe import DEFAULT, Effort

FORMER, USUAL, SMALL = "libjpeg's tables", "as made", 'effort = "small"'
GOALS = {USUAL: 0.88, SMALL: 0.78}  # of the bytes of all variants that libjpeg's tables take for the same
PSNR, SSIM = "PSNR", "SSIM"
BUTTERAUGLI, SSIMULACRA2 = "Butteraugli", "SSIMULACRA2"
_AROUND = (-16, -8, 0, 8)  # qualities of the former way beside the one that is asked for
_SECOND = "medium"  # the variant that the second judges see: of a large one they take seconds
_REPEATS = 3
_EFFORTS: Mapping[str, Effort] = {USUAL: "fast", SMALL: "small"}

Image = Any
Score = Callable[[Image, Image], float]
"""Says of a reference and a picture how good that is: it rises about evenly with the logarithm of bytes."""


@dataclass(frozen=True)
class Encoded:
    """A variant of a photo, encoded in one way."""

    photo: str
    variant: str
    way: str
    quality: int
    bytes: int
    cpu_ms: float
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Row:
    """What a way of encoding takes for one size, or for all (""), beside the former way."""

    way: str
    variant: str
    bytes: float
    cpu_ms: float
    scores: Mapping[str, float]
    shares: Mapping[str, float]
    """Its bytes, of those of the former way at the same score."""

    @property
    def mean_share(self) -> float:
        """Its bytes by PSNR and SSIM, each as much as the other: their geometric mean."""
        return sqrt(self.shares[PSNR] * self.shares[SSIM])

    @property
    def is_kept(self) -> bool:
        """Whether all sizes together reach the goal."""
        return self.mean_share <= GOALS[self.way]


def run(photos: Sequence[Path], quality: int) -> Sequence[Encoded]:
    """Encode the variants of all photos in each way."""
    vips.set_up(("jpeg",))
    with TemporaryDirectory() as folder:
        seconds = dict(_second_judges(Path(folder)))
        return [one for photo in photos for one in _of_photo(photo, quality, seconds)]


def missing_judges() -> Sequence[str]:
    """Which second judges there are not, and what brings them."""
    missing = []
    if shutil.which("butteraugli_main") is None:
        missing.append(f"{BUTTERAUGLI} is skipped: there is no butteraugli_main (Debian's libjxl-devtools)")
    if importlib.util.find_spec("ssimulacra2") is None:
        missing.append(f"{SSIMULACRA2} is skipped: the package ssimulacra2 is not installed here")
    return missing


def _of_photo(photo: Path, quality: int, seconds: Mapping[str, Score]) -> Iterator[Encoded]:
    specs = [asdict(variant) | {"quality": quality} for variant in DEFAULT.variants]
    picture = vips.probe(BY_NAME["jpeg"], bytearray(photo.read_bytes()), "reject")
    image = None
    for target in render.targets(picture.width, picture.height, specs):
        image = (
            render.first(picture, target, {target.background})
            if image is None
            else render.smaller(image, *target.size)
        )
        judges = {PSNR: _psnr, SSIM: ssim, **(seconds if target.name == _SECOND else {})}
        ways: list[tuple[str, int, dict[str, Any]]] = [
            (FORMER, other, {"Q": other, "subsample_mode": "on"})
            for other in sorted({min(100, max(1, quality + more)) for more in _AROUND})
        ]
        ways += [
            (way, quality, jpeg_options(target.spec | {"effort": effort})) for way, effort in _EFFORTS.items()
        ]
        for way, asked, options in ways:
            content, cpu_ms = _encode(image, options)
            shown = _decode(content)
            scores = {name: judge(image, shown) for name, judge in judges.items()}
            yield Encoded(photo.name, target.name, way, asked, len(content), cpu_ms, scores)


def _encode(image: Image, options: Mapping[str, Any]) -> tuple[bytes, float]:
    """The file, and the least CPU time that it took."""
    times = []
    for _ in range(_REPEATS):
        since = time.process_time()
        content = bytes(image.jpegsave_buffer(keep="none", **options))
        times.append(time.process_time() - since)
    return content, 1000 * min(times)


def _decode(content: bytes) -> Image:
    source = pyvips.Source.new_from_memory(content)  # the only loader that a decoder allows
    return pyvips.Image.new_from_source(source, "").copy_memory()


def _psnr(reference: Image, shown: Image) -> float:
    """In dB, of all three colours."""
    error = ((reference.cast("float") - shown) ** 2).avg()
    return 10 * log10(255**2 / max(error, 1e-6))


def ssim(reference: Image, shown: Image) -> float:
    """Wang et al., 2004: the mean of red, green and blue, in Gaussian windows of sigma 1.5."""
    x, y = reference.cast("float"), shown.cast("float")
    mean_x, mean_y = _blurred(x), _blurred(y)
    across = _blurred(x * y) - mean_x * mean_y
    spread = _blurred(x * x) - mean_x * mean_x + _blurred(y * y) - mean_y * mean_y
    level, contrast = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    alike = (mean_x * mean_y * 2 + level) * (across * 2 + contrast)
    return float((alike / ((mean_x * mean_x + mean_y * mean_y + level) * (spread + contrast))).avg())


def _blurred(image: Image) -> Image:
    return image.gaussblur(1.5, min_ampl=0.01, precision="float")


def _second_judges(folder: Path) -> Iterator[tuple[str, Score]]:
    files = folder / "reference.png", folder / "shown.png"

    def saved(reference: Image, shown: Image) -> Sequence[str]:
        for image, file in zip((reference, shown), files, strict=True):
            file.write_bytes(image.pngsave_buffer(compression=0))
        return [str(file) for file in files]

    if program := shutil.which("butteraugli_main"):

        def butteraugli(reference: Image, shown: Image) -> float:
            """The norm of degree 3 of the distance, negated: less of it is better."""
            command = [program, *saved(reference, shown)]
            told = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
            return -float(told.stdout.split("3-norm:")[1])

        yield BUTTERAUGLI, butteraugli
    if importlib.util.find_spec("ssimulacra2"):
        judge = importlib.import_module("ssimulacra2").compute_ssimulacra2
        yield SSIMULACRA2, lambda reference, shown: float(judge(*saved(reference, shown)))


def summarise(found: Sequence[Encoded], quality: int) -> Sequence[Row]:
    """Each way in each size, and in all sizes together."""
    names = [variant.name for variant in DEFAULT.variants]
    ways = dict.fromkeys(one.way for one in found)
    return [
        _row(found, way, sizes, names[at] if len(sizes) == 1 else "", quality)
        for way in ways
        for at, sizes in enumerate([*([name] for name in names), names])
    ]


def _row(found: Sequence[Encoded], way: str, sizes: Sequence[str], variant: str, quality: int) -> Row:
    own = [one for one in found if one.way == way and one.quality == quality and one.variant in sizes]
    judges = [name for name in own[0].scores if all(name in one.scores for one in own)]
    photos = len({one.photo for one in own})
    shares = {}
    for judge in judges:
        as_good = [_former_bytes(found, one, judge) for one in own]
        shares[judge] = sum(one.bytes for one in own) / sum(as_good)
    return Row(
        way,
        variant,
        sum(one.bytes for one in own) / photos,
        sum(one.cpu_ms for one in own) / photos,
        {judge: fmean(one.scores[judge] for one in own) for judge in judges},
        shares,
    )


def _former_bytes(found: Sequence[Encoded], made: Encoded, judge: str) -> float:
    """How many bytes the former way takes for that photo in that size to be as good."""
    same = [
        one for one in found if one.way == FORMER and (one.photo, one.variant) == (made.photo, made.variant)
    ]
    known = sorted((_even(judge, one.scores[judge]), log(one.bytes)) for one in same)
    wanted = _even(judge, made.scores[judge])
    steps = [*pairwise(known)]
    low, high = next((step for step in steps if wanted <= step[1][0]), steps[-1])
    if low[0] == high[0]:
        return exp(low[1])
    return exp(low[1] + (wanted - low[0]) * (high[1] - low[1]) / (high[0] - low[0]))


def _even(judge: str, score: float) -> float:
    return -log(max(1 - score, 1e-9)) if judge == SSIM else score


def table(rows: Sequence[Row], count: int, quality: int) -> str:
    """The rows as Markdown, with the goals."""
    judges = list(dict.fromkeys(judge for row in rows for judge in row.scores))
    titles = ["encoded", "variant", "kB", "CPU ms", *judges, *(f"share, {judge}" for judge in judges)]
    lines = [
        f"{count} photos, quality {quality}. Shares are of the bytes that {FORMER} take for the same score.",
        "",
        f"| {' | '.join(titles)} |",
        f"|---|---|{'---:|' * (len(titles) - 2)}",
    ]
    for row in rows:
        told = {judge: f"{score:.{4 if judge == SSIM else 2}f}" for judge, score in row.scores.items()}
        shares = {judge: f"{share:.3f}" for judge, share in row.shares.items()}
        cells = [row.way, row.variant or "all", f"{row.bytes / 1000:.1f}", f"{row.cpu_ms:.1f}"]
        cells += [column.get(judge, "") for column in (told, shares) for judge in judges]
        lines.append(f"| {' | '.join(cells)} |")
    if BUTTERAUGLI in judges:
        lines += ["", f"{BUTTERAUGLI} is its distance, negated: as of the others, more is better."]
    lines += [
        "",
        "| goal: all variants, the mean of the shares at equal PSNR and SSIM | at most | found | |",
        "|---|---:|---:|---|",
    ]
    for row in rows:
        if row.way in GOALS and not row.variant:
            both = f"{row.mean_share:.3f} ({row.shares[PSNR]:.3f} and {row.shares[SSIM]:.3f})"
            kept = "yes" if row.is_kept else "no"
            lines.append(f"| {row.way} | {GOALS[row.way]} | {both} | {kept} |")
    lines += ["", *(f"{words}." for words in missing_judges()), ""]
    return "\n".join(lines)


def main(photos: Sequence[Path], quality: int) -> tuple[str, bool]:
    """The table, and whether the goals are kept."""
    rows = summarise(run(photos, quality), quality)
    kept = all(row.is_kept for row in rows if row.way in GOALS and not row.variant)
    return table(rows, len(photos), quality), kept
