"""Command lines that contradict themselves, ask for the impossible, or name what is not there."""

from __future__ import annotations

from pathlib import Path

from hostile_case import Case, Kit, write

__all__ = ["ARGUMENTS"]

SEGMENT = "segment {onnx} {picture} -o {out}"
EVAL = "eval {onnx} --annotations {annotations} --images {pictures}"
CONVERT = "convert {checkpoint} --input-size 64x96 -o {out}"
VERIFY = "verify {onnx} --against {checkpoint} --images {pictures}"
BENCH = "bench {onnx} --seconds 1 --frames 1"
TRAIN = "train --annotations {annotations} --images {pictures} --input-size 64x96 -o {out}"
LIVE = "live {onnx} --headless --frames 1 --source test://64x48?frames=1"
ADVISE = "advise {onnx} {onnx}"
SENSITIVITY = "sensitivity {checkpoint} --calibrate {pictures} --allow-small --images {pictures} -o {out}"
REPORT = "report {onnx} --against {checkpoint} --images {pictures} --annotations {annotations} -o {out}"


def linked_to_itself(folder: Path, kit: Kit) -> None:
    """A symbolic link that leads to itself, under each name a case uses."""
    for name in ("bad.pth", "bad.onnx", "bad.png", "bad.json"):
        (folder / name).symlink_to(folder / name)


def folders(folder: Path, kit: Kit) -> None:
    """Folders where files are expected."""
    for name in ("bad.pth", "bad.onnx", "bad.png", "bad.json"):
        (folder / name).mkdir()


def empty_files(folder: Path, kit: Kit) -> None:
    """Files without a byte."""
    for name in ("bad.pth", "bad.onnx", "bad.png", "bad.json", "bad.tflite"):
        (folder / name).touch()


# Words behind a verb that are refused before anything is done.
WORDS = {
    "no verb": ("", "name a verb"),
    "an unknown verb": ("segmnet x", "did you mean segment"),
    "a verb of another tool": ("predict x", "unknown verb"),
    "an empty verb": ("''", "unknown verb"),
    "an option before the verb": ("--frobnicate segment", "unknown argument"),
    "no artefact": ("segment", "required"),
    "no picture": ("segment {onnx} -o {out}", "required"),
    "no output": ("segment {onnx} {picture}", "required"),
    "an option of another verb": (f"{SEGMENT} --opset 18", "unknown argument"),
    "a misspelt option": (f"{SEGMENT} --score-treshold 0.1", "did you mean --score-threshold"),
    "an option twice cut": (f"{SEGMENT} --score", "unknown argument|ambiguous|did you mean"),
    "a threshold above 1": (f"{SEGMENT} --score-threshold 1.5", "score.threshold"),
    "a threshold below 0": (f"{SEGMENT} --score-threshold -0.5", "score.threshold"),
    "a threshold of NaN": (f"{SEGMENT} --score-threshold nan", "score.threshold"),
    "a threshold of infinity": (f"{SEGMENT} --keep-threshold inf", "keep.threshold"),
    "a threshold in words": (f"{SEGMENT} --mask-threshold half", "invalid float"),
    "a mask threshold of 0": (f"{SEGMENT} --mask-threshold 0", "mask.threshold"),
    "a mask threshold of NaN": (f"{SEGMENT} --mask-threshold nan", "mask.threshold"),
    "no instances": (f"{SEGMENT} --max-instances 0", "max-instances"),
    "instances below 0": (f"{SEGMENT} --max-instances -3", "max-instances"),
    "half an instance": (f"{SEGMENT} --max-instances 1.5", "invalid int"),
    "an unknown kernel": (f"{SEGMENT} --nms-kernel cubic", "invalid choice"),
    "no threads": (f"{SEGMENT} --threads 0", "threads"),
    "threads beyond int64": (f"{SEGMENT} --threads 99999999999999999999", "threads"),
    "an unknown engine": (f"{SEGMENT} --engine tensorrt-lite", "engine"),
    "an engine of another format": (f"{SEGMENT} --engine litert", "."),
    "an unknown provider": (f"{SEGMENT} --providers NoSuchProvider", "provider"),
    "an overlay magnified 0 times": (f"{SEGMENT} --overlay-scale 0", "overlay-scale"),
    "an overlay magnified a billion times": (f"{SEGMENT} --overlay-scale 1000000000", "overlay-scale must be at most"),
    "a shown score of NaN": (f"{SEGMENT} --shown-score nan", "shown.score"),
    "a shown score of 7": (f"{SEGMENT} --shown-score 7", "shown.score"),
    "nothing to write": (f"{SEGMENT} --no-overlay --no-labelme --no-coco", "nothing to write"),
    "an artefact that is not there": ("segment {case}/none.onnx {picture} -o {out}", "no such file"),
    "an artefact without a suffix": ("segment {case}/none {picture} -o {out}", "."),
    "a picture that is not there": ("segment {onnx} {case}/none.png -o {out}", "does not exist"),
    "a NUL in a picture's name": ("segment {onnx} 'a\0b.png' -o {out}", "."),
    "a NUL in an artefact's name": ("segment 'a\0b.onnx' {picture} -o {out}", "."),
    "a NUL in the output": ("segment {onnx} {picture} -o 'a\0b'", "."),
    "a NUL in a checkpoint's name": ("inspect 'a\0b.pth'", "."),
    "a NUL in the annotations' name": ("eval {onnx} --annotations 'a\0b' --images {pictures}", "."),
    "a NUL in a folder's name": ("eval {onnx} --annotations {annotations} --images 'a\0b'", "."),
    "a name of 5,000 letters": (f"inspect {'x' * 5000}.pth", "."),
    "a name of 5,000 letters for the output": (f"segment {{onnx}} {{picture}} -o {'x' * 5000}", "."),
    "a name that is no UTF-8": ("inspect 'bad\udcff.pth'", "."),
    "an output below a file": ("segment {onnx} {picture} -o {picture}/out", "folder|directory"),
    "an output that is a file": ("convert {checkpoint} --input-size 64x96 -o {picture}", "folder"),
    "an output below /proc": ("convert {checkpoint} --input-size 64x96 -o /proc/none/out", "."),
    "an evaluation limited to 0": (f"{EVAL} --limit 0", "limit"),
    "an evaluation of -1 detections": (f"{EVAL} --max-detections -1", "max-detections"),
    "a gate without a baseline": (f"{EVAL} --max-drop 0.5", "baseline"),
    "a gate of NaN": (f"{EVAL} --baseline {{onnx}} --max-drop nan", "max-drop"),
    "a gate below 0": (f"{EVAL} --baseline {{onnx}} --max-drop -1", "max-drop"),
    "a baseline that is not there": (f"{EVAL} --baseline {{case}}/none.onnx", "."),
    "an input size for artefacts": (f"{EVAL} --input-size 64x96", "input-size|checkpoint"),
    "an input size without a height": ("convert {checkpoint} --input-size x96 -o {out}", "size"),
    "an input size without a width": ("convert {checkpoint} --input-size 448x -o {out}", "size"),
    "an input size of 33": ("convert {checkpoint} --input-size 33x96 -o {out}", "multiple"),
    "an input size of 0": ("convert {checkpoint} --input-size 0x96 -o {out}", "."),
    "an input size below 0": ("convert {checkpoint} --input-size -64x96 -o {out}", "."),
    "a format twice": (f"{CONVERT} --to onnx onnx --precision int8", "."),
    "an unknown precision": (f"{CONVERT} --precision int7", "int7"),
    "a precision of another format": (f"{CONVERT} --to tflite --precision palette4", "palette4"),
    "int8 without calibration": (f"{CONVERT} --precision int8", "calibrate"),
    "calibration without int8": (f"{CONVERT} --calibrate {{pictures}}", "calibrat"),
    "one calibration picture": (f"{CONVERT} --precision int8 --calibrate {{pictures}}", "32|allow-small"),
    "calibration from nowhere": (f"{CONVERT} --precision int8 --calibrate {{case}}/none", "."),
    "an opset for TFLite": (f"{CONVERT} --to tflite --opset 18", "opset"),
    "a deployment target for ONNX": (f"{CONVERT} --deployment-target iOS17", "deployment-target"),
    "candidates for a host's decoding": (f"{CONVERT} --max-candidates 5", "decode graph"),
    "no candidates": (f"{CONVERT} --decode graph --max-candidates 0", "max.candidates"),
    "more instances than candidates": (
        f"{CONVERT} --decode graph --max-candidates 5 --max-instances 9",
        "max.instances",
    ),
    "an opset of 3": (f"{CONVERT} --opset 3", "opset must be 18..22, got 3"),
    "an opset of 999": (f"{CONVERT} --opset 999", "opset must be 18..22, got 999"),
    "a system of 2015": (f"{CONVERT} --to coreml --deployment-target iOS9", "one of iOS16, iOS17, iOS18, got 'iOS9'"),
    "a system older than the precision": (
        f"{CONVERT} --to coreml --precision int4 --deployment-target iOS16",
        "int4 needs iOS18 or later",
    ),
    "a billion candidates": (
        f"{CONVERT} --decode graph --max-candidates 1000000000",
        "max-candidates must be at most 10000",
    ),
    "more candidates than cells": (f"{CONVERT} --decode graph --max-candidates 9999999", "max-candidates must be"),
    "an empty name for files": (f"{CONVERT} --name ''", "--name must be a bare file name, got ''"),
    "a name of 300 letters for files": (f"{CONVERT} --name {'n' * 300}", "at most 180 bytes long, got 300"),
    "a layer nobody has": (
        f"{CONVERT} --precision int8 --calibrate {{pictures}} --allow-small --keep-float nekk.fpn_convs.0",
        "no layer is called 'nekk.fpn_convs.0'.*neck.fpn_convs.0",
    ),
    "a million threads": (f"{SEGMENT} --threads 1000000", "threads must be an integer from 1 to 1024"),
    "a million threads for a checkpoint": (
        "segment {checkpoint} {picture} -o {out} --threads 1000000",
        "threads must be an integer from 1 to 1024",
    ),
    "a number with an underscore": (f"{SEGMENT} --threads 1_0", "invalid int value: '1_0'"),
    "a number in Arabic digits": (f"{SEGMENT} --threads ٤", "invalid int value: '٤'"),
    "a threshold with an underscore": (f"{SEGMENT} --score-threshold 0_0.1", "invalid float value"),
    "a size in Arabic digits": ("convert {checkpoint} --input-size ٦٤x٩٦ -o {out}", "HEIGHTxWIDTH"),
    "validation annotations that are not there": (
        f"{TRAIN} --epochs 1 --val-annotations {{case}}/none.json",
        "none.json",
    ),
    "a name that climbs": (f"{CONVERT} --name ../../ran", "name"),
    "a name that is a path": (f"{CONVERT} --name a/b", "name"),
    "an unknown variant": (f"{CONVERT} --variant light-449", "variant|light-449"),
    "a variant of another shape": (f"{CONVERT} --variant light-448-r18", "not those of"),
    "layers to keep for float32": (f"{CONVERT} --keep-float neck", "keep-float"),
    "a drop without validation": (f"{CONVERT} --precision int8 --calibrate {{pictures}} --max-drop 0.5", "val"),
    "an artefact to convert": ("convert {onnx} -o {out}", "ONNX"),
    "an artefact as the checkpoint of a proof": ("verify {onnx} --against {onnx} --images {pictures}", "."),
    "a proof against another network": (VERIFY, "."),
    "a proof limited to 0": (f"{VERIFY} --limit 0", "limit"),
    "a proof of -1 worst pictures": (f"{VERIFY} --worst-pictures {{out}} --worst -1", "worst"),
    "frames below 0": ("bench {onnx} --frames -1", "frames"),
    "a bench of no time": ("bench {onnx} --seconds 0", "seconds"),
    "a bench of NaN seconds": ("bench {onnx} --seconds nan", "seconds"),
    "a frame of 10^6 squared": (f"{BENCH} --frame-size 1000000x1000000", "."),
    "a frame size in words": (f"{BENCH} --frame-size big", "size"),
    "instances of -1 to time": (f"{BENCH} --instances -1", "instances"),
    "a billion instances to time": (f"{BENCH} --instances 1000000000", "instances"),
    "a bench of nothing": ("bench", "."),
    "a comparison of what is not there": ("bench --compare {case}/a.json {case}/b.json", "."),
    "a comparison of other JSON": ("bench --compare {annotations} {annotations}", "."),
    "a stream of depth 0": (f"{BENCH} --stream 0", "stream|depth"),
    "advice on one artefact": ("advise {onnx}", "2|two"),
    "advice on the same file twice": (ADVISE, "two artefacts"),
    "epochs below 1": (f"{TRAIN} --epochs 0", "epochs"),
    "a batch of 0": (f"{TRAIN} --batch-size 0", "batch"),
    "a rate of NaN": (f"{TRAIN} --learning-rate nan", "rate"),
    "a rate below 0": (f"{TRAIN} --learning-rate -1", "rate"),
    "a weight decay of NaN": (f"{TRAIN} --weight-decay nan", "decay"),
    "workers below 0": (f"{TRAIN} --workers -1", "workers"),
    "a seed below 0": (f"{TRAIN} --seed -1", "seed"),
    "a scale of 0": (f"{TRAIN} --scale 0 1", "scale"),
    "a scale the wrong way round": (f"{TRAIN} --scale 2 1", "scale"),
    "a scale of NaN": (f"{TRAIN} --scale nan 1", "scale"),
    "a colour of 9": (f"{TRAIN} --colour 9", "colour"),
    "a copy-paste share of 2": (f"{TRAIN} --copy-paste 2", "copy.paste"),
    "a variant nobody made": (f"{TRAIN} --variant huge", "huge"),
    "a training without annotations": ("train --images {pictures} -o {out}", "annotations"),
    "fine-tuning from nothing": (f"{TRAIN} --qat", "init|qat"),
    "calibration for plain training": (f"{TRAIN} --calibrate {{pictures}}", "qat"),
    "a download of nothing known": ("download light-999", "light-999"),
    "a download that climbs": ("download ../../etc/passwd", "."),
    "a download without a name": ("download ''", "."),
    "a served port of 99999": (f"{LIVE} --serve 99999", "port"),
    "a served port below 0": (f"{LIVE} --serve -1", "port"),
    "a host without a port": (f"{LIVE} --host 0.0.0.0", "serve"),
    "a token with a line break": (f"{LIVE} --serve 0 --token 'a\nb'", "token"),
    "a token beyond ASCII": (f"{LIVE} --serve 0 --token 'pässword…'", "token"),
    "a class the model lacks": (f"{LIVE} --classes unicorn", "unicorn"),
    "a record of another kind": (f"{LIVE} --record {{case}}/a.gif", "mp4|mkv"),
    "a record in no folder": (f"{LIVE} --record {{case}}/none/a.mp4", "."),
    "frames of a live view below 0": ("live {onnx} --headless --frames -1 --source test://64x48", "frames"),
    "a report of a missing sensitivity": (f"{REPORT} --sensitivity {{case}}/none.json", "."),
    "a report limited to 0": (f"{REPORT} --limit 0", "limit"),
    "a sensitivity by channel": (f"{SENSITIVITY} --by channel", "invalid choice"),
    "a sensitivity on its calibration pictures": (SENSITIVITY, "calibrat"),
    "a page of a checkpoint": ("browser {checkpoint}", "."),
    "a doctor with a picture": ("doctor {picture}", "unknown argument"),
}
FILES = {
    "inspect": ("inspect {case}/bad.pth", "inspect {case}/bad.onnx"),
    "convert": ("convert {case}/bad.pth -o {out}",),
    "segment": ("segment {case}/bad.onnx {picture} -o {out}", "segment {onnx} {case}/bad.png -o {out}"),
    "eval": ("eval {onnx} --annotations {case}/bad.json --images {pictures}",),
    "train": ("train --annotations {case}/bad.json --images {pictures} -o {out}",),
    "live": ("live {onnx} --headless --frames 1 --source {case}/bad.png",),
}
PLACES = {"a folder": folders, "an empty file": empty_files, "a link to itself": linked_to_itself}

ARGUMENTS = [
    *(Case(f"arguments: {name}", argv, says) for name, (argv, says) in WORDS.items()),
    *(
        Case(f"arguments: {place} for {verb}, {index}", argv, ".", make)
        for place, make in PLACES.items()
        for verb, lines in FILES.items()
        for index, argv in enumerate(lines)
    ),
    Case(
        "arguments: a text as a sensitivity", f"{REPORT} --sensitivity {{case}}/bad.json", ".", write("bad.json", "no")
    ),
]
