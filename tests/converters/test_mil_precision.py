import numpy as np
from coremltools.converters.mil.mil import Builder as mb

RNG = np.random.default_rng(5)


def test_float16_rounds_every_result_once(interpret):
    x, y = (RNG.standard_normal((3, 100)).astype(np.float16) for _ in range(2))
    got = interpret(lambda x, y: mb.mul(x=mb.add(x=x, y=y), y=y), x, y)
    wide = (x.astype(np.float32) + y.astype(np.float32)).astype(np.float16)
    expected = (wide.astype(np.float32) * y.astype(np.float32)).astype(np.float16).astype(np.float32)
    assert (got == expected).all()
    assert (got != (x.astype(np.float32) + y.astype(np.float32)) * y.astype(np.float32)).any()


def test_float16_accumulates_in_float32_and_overflows_between_ops(interpret):
    ones = np.full((1, 4096), 1.0, np.float16)
    ones[0, 0] = 2048  # in float16, 2048 + 1 is 2048
    assert interpret(lambda x: mb.reduce_sum(x=x, axes=[1]), ones).tolist() == [float(np.float16(6143))]
    large = np.full((1, 4), 300, np.float16)
    assert np.isinf(interpret(lambda x: mb.square(x=x), large)).all()
    assert (interpret(lambda x: mb.reduce_l2_norm(x=x, axes=[1]), large) == 600).all()  # the square stays inside one op
