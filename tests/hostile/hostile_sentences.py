"""What the sentence about a bad input says, by the kind of input, for the cases that name no words of their own."""

from __future__ import annotations

import re

__all__ = ["expected_words"]

DAMAGED = "truncated|damaged|cut short"
SENTENCES: tuple[tuple[str, str], ...] = (
    (r"checkpoint cut|checkpoint with a byte", DAMAGED + "|unknown kind of binary file"),
    (r"checkpoint that would run", "it holds no tensors, only state_dict"),
    (r"checkpoint pickle", DAMAGED + "|not a dictionary of weights|holds no tensors|no checkpoint needs|unknown kind"),
    (r"checkpoint that claims", "more than the file|cannot be read|reaches beyond|no storage|elements are|no tensors"),
    (
        r"checkpoint safetensors",
        DAMAGED + "|unknown kind|not a whole SOLOv2|no SOLOv2 of a|cannot be read",
    ),
    (
        r"checkpoint zip",
        DAMAGED + "|no tensors|looks like|compressed or larger|big-endian",
    ),
    (r"checkpoint with", "not a whole SOLOv2|shape|tensors|looks like|rows|numbers"),
    (r"artefact .* cut at .* made anew", "cannot be opened by|truncated or damaged|is empty"),
    (r"artefact .* output missing|artefact onnx with another input", "differ in outputs|input kind must be"),
    (r"artefact onnx with|artefact tflite with", "cannot be opened by|not a TFL3 FlatBuffer"),
    (r"artefact inspection", "looks like|not a TFL3|" + DAMAGED),
    (r"artefact use", "cannot be opened by|not a TFL3|" + DAMAGED),
    (
        r"artefact Core ML",
        DAMAGED + "|cannot be read|outside|names no model|was written for|ML Program|version",
    ),
    (r"artefact .* beside the manifest", "was written for"),
    (r"artefact .* named", "cannot be opened by|not a TFL3|is a file, expected|not a checkpoint|suffix|expected"),
    (r"manifest with|manifest without", "differ in|must|not valid|lacks or misspells|was written for|unknown|schema"),
    (r"picture", "cannot be read|damaged|truncated|pixels|JPEG, PNG|claims|decode|cut short"),
    (
        r"annotations",
        "must|not a COCO json|not JSON|holds no|no object|mend it|not in|cannot|its picture|not UTF-8|not there"
        "|too long|annotat",
    ),
    (r"source video", "neither a picture nor a video|no frame|cut short|damaged|is empty"),
    (r"source", "expected|got |is no|must|cannot|gives|does not|not understood|nothing|leave|unknown|too long|choice"),
    (r"arguments: an empty file for train", "is empty|is not a|truncated|looks like"),
    (r"arguments", "expected|must|cannot|does not|no such|leave|unknown|too long|folder|empty|check|needs|name|give"),
)


def expected_words(name: str) -> str:
    """Return the pattern that the sentence about a case has to match.

    Raises:
        LookupError: no kind of input has such a name.
    """
    for kind, words in SENTENCES:
        if re.match(kind, name):
            return words
    raise LookupError(name)
