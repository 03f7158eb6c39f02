// Bilinear resize of 8-bit pixels with OpenCV's arithmetic (cv2.resize, INTER_LINEAR): weights of 11 bits, rows in
// between in whole numbers. A canvas scales by another rule, which changes scores in the second digit.

const WEIGHT_ONE = 2048;

// Round to the nearest whole number, halves to the even one, as OpenCV and Python do.
export function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
}

// Return per result pixel its first tap and both weights. Beyond an edge, columns give the edge pixel all the weight,
// rows share it between two taps that are then the same row: the sums differ in their last bit.
function taps(size, result, columns) {
  const step = 1 / (result / size);
  const first = new Int32Array(result);
  const weights = new Int32Array(2 * result);
  for (let i = 0; i < result; i++) {
    let position = Math.fround((i + 0.5) * step - 0.5);
    let near = Math.floor(position);
    position = Math.fround(position - near);
    if (columns && (near < 0 || near >= size - 1)) {
      near = near < 0 ? 0 : size - 1;
      position = 0;
    }
    first[i] = near;
    weights[2 * i] = roundHalfEven(Math.fround(Math.fround(1 - position) * WEIGHT_ONE));
    weights[2 * i + 1] = roundHalfEven(Math.fround(position * WEIGHT_ONE));
  }
  return { first, weights };
}

// Blend one row of RGBA pixels along x into whole numbers of 11 bits more, RGB.
function blendRow(pixels, width, row, { first, weights }, blended) {
  const start = row * width * 4;
  for (let x = 0, to = 0; x < first.length; x++) {
    const near = start + 4 * first[x];
    const far = first[x] < width - 1 ? near + 4 : near;
    const nearWeight = weights[2 * x];
    const farWeight = weights[2 * x + 1];
    blended[to++] = pixels[near] * nearWeight + pixels[far] * farWeight;
    blended[to++] = pixels[near + 1] * nearWeight + pixels[far + 1] * farWeight;
    blended[to++] = pixels[near + 2] * nearWeight + pixels[far + 2] * farWeight;
  }
}

// Halving both sides is the mean of four pixels.
function halve(pixels, width, newHeight, newWidth) {
  const result = new Uint8Array(newHeight * newWidth * 3);
  for (let y = 0, to = 0; y < newHeight; y++) {
    for (let x = 0; x < newWidth; x++) {
      const above = 4 * (2 * y * width + 2 * x);
      const below = above + 4 * width;
      for (let c = 0; c < 3; c++, to++) {
        result[to] = (pixels[above + c] + pixels[above + 4 + c] + pixels[below + c] + pixels[below + 4 + c] + 2) >> 2;
      }
    }
  }
  return result;
}

function dropAlpha(pixels) {
  const result = new Uint8Array((pixels.length / 4) * 3);
  for (let from = 0, to = 0; to < result.length; from += 4) {
    result[to++] = pixels[from];
    result[to++] = pixels[from + 1];
    result[to++] = pixels[from + 2];
  }
  return result;
}

/**
 * Resize a picture.
 * @param {Uint8ClampedArray|Uint8Array} pixels RGBA, (height, width, 4); alpha is dropped
 * @param {number} height
 * @param {number} width
 * @param {number} newHeight
 * @param {number} newWidth
 * @returns {Uint8Array} RGB, (newHeight, newWidth, 3)
 */
export function resize(pixels, height, width, newHeight, newWidth) {
  if (height === newHeight && width === newWidth) return dropAlpha(pixels);
  if (height === 2 * newHeight && width === 2 * newWidth) return halve(pixels, width, newHeight, newWidth);
  const across = taps(width, newWidth, true);
  const down = taps(height, newHeight, false);
  const result = new Uint8Array(newHeight * newWidth * 3);
  let upper = { row: -1, values: new Int32Array(newWidth * 3) };
  let lower = { row: -1, values: new Int32Array(newWidth * 3) };
  for (let y = 0, to = 0; y < newHeight; y++) {
    const top = Math.min(Math.max(down.first[y], 0), height - 1);
    const bottom = Math.min(Math.max(down.first[y] + 1, 0), height - 1);
    if (lower.row === top) [upper, lower] = [lower, upper];
    for (const [line, row] of [[upper, top], [lower, bottom]]) {
      if (line.row !== row) blendRow(pixels, width, row, across, line.values);
      line.row = row;
    }
    const topWeight = down.weights[2 * y];
    const bottomWeight = down.weights[2 * y + 1];
    for (let i = 0; i < upper.values.length; i++) {
      const sum = ((topWeight * (upper.values[i] >> 4)) >> 16) + ((bottomWeight * (lower.values[i] >> 4)) >> 16);
      result[to++] = (sum + 2) >> 2;
    }
  }
  return result;
}
