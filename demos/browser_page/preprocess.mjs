// From a picture to the network's input, as solov2_edge/runtime/preprocess.py does it.

import { resize, roundHalfEven } from "./resize.mjs";

/**
 * Where a picture lies inside the input: scaled as far as fits, at the top left, padded on the right and below.
 * @param {number} height of the picture in pixels
 * @param {number} width of the picture in pixels
 * @param {{height: number, width: number}} input
 */
export function fixedGeometry(height, width, input) {
  const factor = Math.min(input.height / height, input.width / width);
  const scaled = (side, limit) => Math.min(Math.max(Math.floor(side * factor + 0.5), 1), limit);
  return {
    frameHeight: height,
    frameWidth: width,
    resizedHeight: scaled(height, input.height),
    resizedWidth: scaled(width, input.width),
    inputHeight: input.height,
    inputWidth: input.width,
  };
}

/**
 * Build the network's input.
 * @param {Uint8ClampedArray|Uint8Array} pixels RGBA, of the geometry's frame size
 * @param {object} geometry from fixedGeometry
 * @param {object} manifest the artefact's
 * @returns {{type: string, data: Uint8Array|Float32Array, dims: number[]}}
 */
export function preprocess(pixels, geometry, manifest) {
  const { frameHeight, frameWidth, resizedHeight, resizedWidth } = geometry;
  const rgb = resize(pixels, frameHeight, frameWidth, resizedHeight, resizedWidth);
  return (manifest.input.kind === "image" ? imageInput : tensorInput)(rgb, geometry, manifest.spec);
}

// (1, H, W, 3) uint8 RGB; the padding is the rounded mean, which normalisation in the graph brings close to 0.
function imageInput(rgb, { resizedHeight, resizedWidth, inputHeight, inputWidth }, spec) {
  const mean = spec.channel_order === "rgb" ? spec.mean : [...spec.mean].reverse();
  const fill = mean.map(roundHalfEven);
  const data = new Uint8Array(inputHeight * inputWidth * 3);
  for (let i = 0; i < data.length; i++) data[i] = fill[i % 3];
  for (let y = 0; y < resizedHeight; y++) {
    data.set(rgb.subarray(y * resizedWidth * 3, (y + 1) * resizedWidth * 3), y * inputWidth * 3);
  }
  return { type: "uint8", data, dims: [1, inputHeight, inputWidth, 3] };
}

// (1, 3, H, W) float32, normalised, in the spec's channel order, padded with 0.
function tensorInput(rgb, { resizedHeight, resizedWidth, inputHeight, inputWidth }, spec) {
  const data = new Float32Array(3 * inputHeight * inputWidth);
  for (let plane = 0; plane < 3; plane++) {
    const channel = spec.channel_order === "rgb" ? plane : 2 - plane;
    const [mean, std] = [Math.fround(spec.mean[plane]), Math.fround(spec.std[plane])];
    const table = Float32Array.from({ length: 256 }, (_, value) => Math.fround(value - mean) / std);
    for (let y = 0; y < resizedHeight; y++) {
      const to = (plane * inputHeight + y) * inputWidth;
      const from = y * resizedWidth * 3 + channel;
      for (let x = 0; x < resizedWidth; x++) data[to + x] = table[rgb[from + 3 * x]];
    }
  }
  return { type: "float32", data, dims: [1, 3, inputHeight, inputWidth] };
}
