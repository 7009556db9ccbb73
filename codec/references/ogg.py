"""Sizes of the packets in an Ogg file (RFC 3533), without the container around them."""

from collections.abc import Iterator

_CAPTURE = b"OggS"
_HEADER = 27  # bytes before the segment table
_FULL = 255  # a segment of this size goes on in the next one


def packet_sizes(data: bytes) -> Iterator[int]:
    """Bytes of each packet of the one logical stream in `data`. Raises ValueError if it is cut or no Ogg."""
    position = size = 0
    open_packet = False
    while position < len(data):
        if data[position : position + 4] != _CAPTURE:
            raise ValueError(f"no Ogg page at byte {position}")
        if position + _HEADER > len(data):
            raise ValueError("an Ogg page is cut short")
        segments = data[position + _HEADER - 1]
        table = data[position + _HEADER : position + _HEADER + segments]
        position += _HEADER + segments + sum(table)
        if len(table) < segments or position > len(data):
            raise ValueError("an Ogg page is cut short")
        for segment in table:
            size += segment
            open_packet = segment == _FULL
            if not open_packet:
                yield size
                size = 0
    if open_packet:
        raise ValueError("the last Ogg packet is cut short")


def opus_payload_bits(data: bytes) -> int:
    """Bits of the audio packets of an Ogg Opus file (RFC 7845): all but its two headers."""
    return 8 * sum(list(packet_sizes(data))[2:])
