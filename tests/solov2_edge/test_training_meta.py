"""What frameworks write beside the weights, and what a stranger might."""

import io
import pickle

import numpy as np
import pytest

from solov2_edge.coco_classes import COCO_CLASSES
from solov2_edge.errors import InputError
from solov2_edge.training_meta import class_names_for, training_meta
from solov2_edge.unpickle import read_pickle

CONFIG_1X = """
bbox_head = dict(
    scale_ranges=((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048)),
    num_grids=[40, 36, 24, 16, 12],
    cate_down_pos=0)
train_pipeline = [dict(type='Resize', img_scale=[(852, 512), (852, 480)], keep_ratio=True)]
test_pipeline = [
    dict(
        type='MultiScaleFlipAug',
        img_scale=(852, 512),
        flip=False)]
"""
CONFIG_3X = """
train_pipeline = [dict(type='RandomChoiceResize', scales=[(768, 512), (768, 480)], keep_ratio=True)]
test_pipeline = [
    dict(backend_args=None, type='LoadImageFromFile'),
    dict(keep_ratio=True, scale=(448, 768), type='Resize'),
]
"""


@pytest.mark.parametrize(("key", "config", "box"), [("config", CONFIG_1X, (512, 852)), ("cfg", CONFIG_3X, (448, 768))])
def test_test_size(key, config, box):
    assert training_meta({"meta": {key: config}}).resize_box == box


def test_head_settings():
    meta = training_meta({"meta": {"config": CONFIG_1X}})
    assert meta.grids == (40, 36, 24, 16, 12)
    assert meta.scale_ranges == ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))


@pytest.mark.parametrize(
    "text",
    [
        "num_grids=[40, 36], scale_ranges=((1, 2),),",
        "num_grids=[1, 2, 3, 4, 0],",
        "num_grids=__import__('os').system('true'),",
        "num_grids=[1, 2, 3, 4, open('x')],",
        "num_grids=[" + "(" * 5000 + "],",
        "scale_ranges=((9, 1), (1, 2), (1, 2), (1, 2), (1, 2)),",
        "test_pipeline = scale=(1, 2)",
    ],
)
def test_odd_settings_count_as_absent(text):
    meta = training_meta({"meta": {"config": text}})
    assert (meta.grids, meta.scale_ranges, meta.resize_box) == (None, None, None)


@pytest.mark.parametrize(
    ("meta", "names"),
    [
        ({"CLASSES": ("a", "b")}, ("a", "b")),
        ({"CLASSES": "cell"}, ("cell",)),
        ({"dataset_meta": {"classes": ["a"]}}, ("a",)),
        ({"dataset_meta": {"CLASSES": ("a",)}}, ("a",)),
        ({"CLASSES": (1, 2)}, None),
        ({"CLASSES": ()}, None),
        ({"dataset_meta": 3}, None),
        ({}, None),
        ("text", None),
    ],
)
def test_class_names(meta, names):
    assert training_meta({"meta": meta}).class_names == names


@pytest.mark.parametrize("root", [None, 3, [], {}, {"meta": None}])
def test_no_meta_at_all(root):
    assert training_meta(root).facts == {}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numpy_scalars_are_read(protocol):
    data = pickle.dumps({"meta": {"epoch": np.int64(36), "iter": np.float32(1.5)}}, protocol=protocol)
    assert training_meta(read_pickle(io.BytesIO(data))).facts == {"epoch": 36, "iter": 1.5}


@pytest.mark.parametrize(
    ("count", "names", "expected"),
    [
        (80, None, COCO_CLASSES),
        (80, tuple(name.replace(" ", "_") for name in COCO_CLASSES), COCO_CLASSES),
        (2, None, ("class_0", "class_1")),
        (2, ("red_cell", "dog"), ("red_cell", "dog")),  # only COCO's own underscores become spaces
    ],
)
def test_names_for_outputs(count, names, expected):
    assert class_names_for(count, names) == expected


@pytest.mark.parametrize(("count", "text"), [(81, "background"), (79, "79 outputs but the file names 80"), (3, "3")])
def test_another_number_of_names_is_refused(count, text):
    with pytest.raises(InputError, match=text):
        class_names_for(count, COCO_CLASSES)
