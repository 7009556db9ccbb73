"""Formats of audio files: endings of names that are read, and endings that are only reported."""

from pathlib import PurePath

READABLE = frozenset(
    {
        *(".wav", ".wave", ".bwf", ".rf64", ".w64"),
        *(".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2"),
        *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf"),
        *(".sph", ".nist", ".voc", ".svx", ".8svx", ".ircam", ".avr"),
    }
)
"""Endings of audio that libsndfile reads. The contents of a file decide its format."""

FOREIGN = frozenset(
    {
        *(".m4a", ".m4b", ".m4p", ".m4r", ".mp4", ".aac", ".alac", ".3gp", ".3gpp", ".3g2"),
        *(".wma", ".asf", ".ac3", ".eac3", ".dts", ".mka", ".webm", ".weba", ".ra", ".rm", ".qcp"),
        *(".amr", ".awb", ".spx", ".gsm", ".vox", ".g722", ".g729", ".c2", ".raw", ".pcm"),
        *(".ape", ".wv", ".tta", ".tak", ".shn", ".mpc", ".ofr", ".dsf", ".dff"),
    }
)
"""Endings of audio that libsndfile does not read."""

CONTAINERS = frozenset(
    {
        *("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF"),
        *("NIST", "VOC", "SVX", "IRCAM", "AVR"),
    }
)
"""libsndfile's names of the formats that are read: not those of samplers and of numerical data."""


def is_readable(path: PurePath) -> bool:
    """Tell whether the ending of `path` is that of audio that is read."""
    return path.suffix.lower() in READABLE


def is_foreign(path: PurePath) -> bool:
    """Tell whether the ending of `path` is that of audio that is not read."""
    return path.suffix.lower() in FOREIGN


def foreign_reason(path: PurePath) -> str:
    """Reason for which a file of a foreign format is left out."""
    return f"{path.suffix} cannot be read: convert it to FLAC"
