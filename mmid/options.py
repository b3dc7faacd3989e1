"""The names that options take, in one place that is quick to import.

Conventions: the first name of each is what mmid does by default.
"""

from __future__ import annotations

from typing import Literal

FARTHEST = 24
"""Semitones that a query may be transposed by, either way: two octaves."""

Scale = Literal["log", "mel", "fine"]
"""Spacing of a spectrogram's bands: 16 to the octave, the 2020 report's mel scale, or the three a
semitone that a transcriber of harmonics takes."""

RollRate = Literal["exact", "adaptive"]
"""Frames of a roll a second: the spectrogram's, or the 2020 report's fit to song lengths."""

Task = Literal["retrieval", "transcription", "audio-autoencoder", "midi-autoencoder"]
"""What a run learns: both pathways together, the notes that sound, or one modality by itself."""

Encoder = Literal["notes", "conv", "dorfer"]
"""The pathways: mmid's, from the notes transcribed or the spectrogram, or Dorfer et al.'s."""

Learn = Literal["both", "audio"]
"""Which pathways learn."""

Performance = Literal["varied", "plain", "mixed"]
"""Renderings as varied as performances are, just as the file is written, or mixed as kinds of music
are: melody and accompaniment by other players, singers, sections, drums, rooms."""

Sampling = Literal["random", "grid"]
"""Where snippets begin: anywhere, or end to end."""

Loss = Literal["info-nce", "ranking", "ranking-both"]
"""Symmetric InfoNCE, or pairwise ranking from MIDI to audio alone or both ways."""

Negatives = Literal["batch", "sampled"]
"""What a match is compared with: the rest of its batch, or as many snippets from outside it."""

Preset = Literal["default", "transcription", "report-2020"]
"""Ways to train that have a name."""

Collapse = Literal["none", "kmeans"]
"""What becomes of snippets with one label: all are kept, or their centroid."""

Search = Literal["auto", "exact", "hnsw"]
"""How the nearest snippets are found: by size, among all, or in the nearest inverted lists."""

Vote = Literal["consistent", "majority"]
"""Which votes count: those that agree on the position, or all."""

Kind = Literal["midi", "recordings"]
"""What a library holds, or what a question is: scores, or performances."""

LibraryKind = Literal["auto", "midi", "recordings"]
"""What to index; auto is MIDI files where there are any, else recordings."""

Reason = Literal["no_notes", "too_short", "nothing_fits", "not_confident"]
"""Why nothing was found: hardly a note was transcribed, for too short a time, no piece explains
them, or one does, but not surely enough."""

Verdict = Literal["found", "perhaps", "absent"]
"""What an answer comes to: the first match is it, may well be it, or nothing was found."""

Direction = Literal["recordings", "scores"]
"""What an evaluation queries with."""

Side = Literal["test", "valid", "train", "all"]
"""Parts of a split."""

Damage = Literal["noise-10", "noise-0", "room", "phone", "mp3", "flat", "sharp"]
"""What the sound of recordings may suffer."""

Form = Literal["introduction", "skip", "repeat"]
"""How recordings may depart from the form of their score."""

Degradation = Literal[Damage, Form]
"""What recordings may suffer before they are queried."""

AudioFormat = Literal["wav", "flac"]
"""Files that renderings are written as."""

BaselineName = Literal["majority", "chroma", "fingerprints"]
"""What mmid is measured beside."""
