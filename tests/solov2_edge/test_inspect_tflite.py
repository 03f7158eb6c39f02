import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from solov2_edge.errors import InputError
from solov2_edge.inspect_tflite import describe_tflite
from solov2_edge.manifest import METADATA_KEY, InputContract, Manifest, manifest_path, sha256_of
from solov2_edge.variants import VARIANTS

MANIFEST = Manifest(VARIANTS["light-448-r18"], "tflite", "int8", InputContract("image", 448, 768))


@pytest.fixture
def artefact(tmp_path, tflite_builder):
    """A TFLite file with a manifest inside and one beside."""
    path = tmp_path / "model.bin"
    arrays = {"scores": np.ones((2, 3), np.float32), "features": np.ones((4, 5), np.float32)}
    metadata = {METADATA_KEY: MANIFEST.to_json().encode()}
    path.write_bytes(tflite_builder.tiny_tflite(arrays, (1, 8, 8, 3), metadata=metadata))
    full = replace(MANIFEST, sha256=sha256_of(path), size_bytes=path.stat().st_size)
    manifest_path(path).write_text(full.to_json())
    return path


def test_an_artefact(artefact):
    manifest, facts = describe_tflite(artefact)
    assert manifest.embedded() == MANIFEST
    assert manifest.sha256 == sha256_of(artefact)
    json.dumps(facts)
    assert facts["signatures"] == {"serving_default": "(image) -> (scores, features)"}
    assert facts["ops"] == {"MUL": 2, "ADD": 2, "CAST": 1, "REDUCE_MAX": 1}
    assert facts["tensors"]["uint8"] == 1
    assert facts["constants"] == {"float32 bytes": 4 * (6 + 20 + 2), "int32 bytes": 16}
    assert facts["largest_rank"] == 4
    assert facts["custom_ops"] == []


def test_a_model_without_manifest(artefact, tmp_path, tflite_builder):
    path = tmp_path / "other.tflite"
    path.write_bytes(tflite_builder.tiny_tflite({"x": np.ones(2, np.float32)}, (1, 2)))
    manifest, facts = describe_tflite(path)
    assert manifest is None
    assert facts["ops"]


def test_without_the_schema_the_manifest_is_still_read(artefact):
    code = (
        "import sys\n"
        "sys.modules['ai_edge_litert'] = None\n"
        "from pathlib import Path\n"
        "from solov2_edge.inspect_tflite import describe_tflite\n"
        "manifest, facts = describe_tflite(Path(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules\n"
        "print(manifest.precision, facts)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(artefact)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("int8 {'note': \"operators need ai-edge-litert: pip install 'solov2-edge[tflite]'\"}")


def test_damage_is_one_sentence(artefact):
    manifest_path(artefact).unlink()
    data = artefact.read_bytes()
    for length in range(8, len(data), len(data) // 40):
        artefact.write_bytes(data[:length])
        with pytest.raises(InputError) as caught:
            describe_tflite(artefact)
        assert str(artefact) in str(caught.value)
        assert "\n" not in str(caught.value)
