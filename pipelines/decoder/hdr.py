"""From light by number to sRGB: wide gamuts are converted, and PQ and HLG become standard range.

One table gives the light of a sample, a matrix that of sRGB's primaries, another table the levels. Of HDR the
brightest band decides by how much all three are dimmed, so that hues stay.
"""

import math
from functools import lru_cache

import pyvips

from pipelines.decoder import cicp, primaries
from pipelines.decoder.cicp import HLG, PQ, REFERENCE_WHITE, Code
from pipelines.decoder.picture import Image

# Light is in units of reference white. Below the knee it stays as it is; above, its logarithm continues with
# the same slope, and the peak becomes white: the shape of ITU-R BT.2446-1, method C.
_KNEE = 0.8
_BRIGHTEST = 10_000 / REFERENCE_WHITE
_LEVELS = 65_535

# SMPTE ST 2084, and ITU-R BT.2100, table 4.
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
# ITU-R BT.2100, table 5: the nominal peak of HLG, and the system gamma that belongs to it.
_HLG_PEAK, _GAMMA = 1000 / REFERENCE_WHITE, 1.2
_A = 0.17883277
_B, _C = 1 - 4 * _A, 0.5 - _A * math.log(4 * _A)
_POWERS = {4: 2.2, 5: 2.8, 17: 2.6}
_CINEMA = 52.37 / 48  # SMPTE ST 428-1: its white lies below the largest sample


def to_srgb(image: Image, code: Code) -> Image:
    """Convert colours without opacity, in memory, of eight or sixteen bits, to eight-bit sRGB or grey."""
    grey = image.bands == 1
    light = image.maplut(_light(code.transfer, code.full, deep=image.format == "ushort"))
    if code.transfer == HLG:
        light = _as_displayed(light, code.primaries)
    if not grey:
        light = light.recomb(pyvips.Image.new_from_array(primaries.to_srgb(code.primaries)))
    if code.is_hdr:
        light = _dimmed(light, _HLG_PEAK if code.transfer == HLG else code.peak / REFERENCE_WHITE)
    shown = (light * _LEVELS + 0.5).cast("ushort").maplut(_encoded())
    return shown.copy(interpretation="b-w" if grey else "srgb")


def _as_displayed(scene: Image, number: int) -> Image:
    """Return the light that a display of 1000 cd/m2 makes of the scene's (ITU-R BT.2100, table 5: OOTF)."""
    scene = _read_again(scene)
    weights = primaries.luminance(number)
    luminance = scene if scene.bands == 1 else scene.recomb(pyvips.Image.new_from_array([weights]))
    return scene * (luminance * _LEVELS + 0.5).cast("ushort").maplut(_system_gamma())


def _dimmed(light: Image, peak: float) -> Image:
    light = _read_again(light)
    brightest = light[0]
    for band in range(1, light.bands):
        brightest = brightest.maxpair(light[band])
    return light * (brightest * (_LEVELS / _BRIGHTEST) + 0.5).cast("ushort").maplut(_knee(peak))


def _read_again(image: Image) -> Image:
    """Keep the last rows, since what follows asks for each more than once."""
    return image.linecache(tile_height=16, access="sequential")


def _ramp(top: float) -> Image:
    return pyvips.Image.identity(ushort=True) * (top / _LEVELS)


@lru_cache(16)
def _light(transfer: int, full: bool, deep: bool) -> Image:
    """The table of the light that each sample stands for; of HLG, of the light of the scene."""
    samples = pyvips.Image.identity(ushort=deep)
    step = 256 if deep else 1
    signal = samples / (_LEVELS if deep else 255) if full else (samples - 16 * step) / (219 * step)
    signal = (signal > 0).ifthenelse(signal, 0)
    signal = (signal < 1).ifthenelse(signal, 1)
    return _table(_decoded(signal, transfer))


def _decoded(signal: Image, transfer: int) -> Image:
    if transfer == PQ:
        power = signal ** (1 / _M2)
        above = (power > _C1).ifthenelse(power - _C1, 0)
        return (above / (power * -_C3 + _C2)) ** (1 / _M1) * _BRIGHTEST
    if transfer == HLG:
        return (signal > 0.5).ifthenelse((((signal - _C) / _A).exp() + _B) / 12, signal * signal / 3)
    if transfer == cicp.LINEAR:
        return signal
    if transfer in _POWERS:
        return signal ** _POWERS[transfer] * (_CINEMA if transfer == 17 else 1)
    if transfer == 1:  # BT.709, BT.601 and BT.2020: the inverse of the camera's curve
        return (signal > 0.0812428583).ifthenelse(
            ((signal + 0.0992968268) / 1.0992968268) ** (1 / 0.45), signal / 4.5
        )
    return (signal > 0.04045).ifthenelse(((signal + 0.055) / 1.055) ** 2.4, signal / 12.92)


@lru_cache(1)
def _system_gamma() -> Image:
    return _table(_ramp(1) ** (_GAMMA - 1) * _HLG_PEAK)


@lru_cache(1)
def _encoded() -> Image:
    """The table from light to eight-bit sRGB (IEC 61966-2-1)."""
    light = _ramp(1)
    signal = (light > 0.0031308).ifthenelse(light ** (1 / 2.4) * 1.055 - 0.055, light * 12.92)
    return (signal * 255 + 0.5).cast("uchar").copy_memory()


@lru_cache(16)
def _knee(peak: float) -> Image:
    """The table of the factor that dims each light, such that the peak becomes white."""
    light = _ramp(_BRIGHTEST)
    if peak <= 1:
        return _table(light * 0 + 1)
    bend = _bend(peak)
    dimmed = ((light - _KNEE) / bend + 1).log() * bend + _KNEE
    return _table((light > _KNEE).ifthenelse(dimmed / light, 1))


def _bend(peak: float) -> float:
    """Return the factor of the logarithm above the knee with which the peak becomes 1, by halving."""
    low, high = 1e-6, 1e6
    for _ in range(64):
        middle = math.sqrt(low * high)
        if middle * math.log1p((peak - _KNEE) / middle) < 1 - _KNEE:
            low = middle
        else:
            high = middle
    return low


def _table(values: Image) -> Image:
    return values.cast("float").copy_memory()
