"""Colour profiles that no library at hand makes."""

import struct

_D50 = struct.pack(">3i", 63_190, 65_536, 54_061)  # ICC.1, 7.2.16: the white of all profiles


def grey_profile(gamma: float) -> bytes:
    """A profile of grey pictures (ICC.1:2001), as those that image editors embed."""
    tags = {
        b"wtpt": b"XYZ " + bytes(4) + _D50,
        b"kTRC": b"curv" + bytes(4) + struct.pack(">IH2x", 1, round(gamma * 256)),
    }
    table, values, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, at + len(values), len(value))
        values += value
    size = at + len(values)
    head = struct.pack(">I4sI12s", size, b"none", 0x02100000, b"mntrGRAYXYZ ") + bytes(12) + b"acsp"
    return head + bytes(28) + _D50 + bytes(48) + table + values
