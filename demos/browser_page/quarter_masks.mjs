// Masks at quarter scale: the dynamic 1x1 convolution, binary masks with one bit per pixel, areas and maskness, as in
// runtime/quarter_masks.py.

const KEPT_BYTES = 48 << 20; // logits kept for the resize to the frame; beyond it they are computed again
const WORD = 32; // bits

// The sigmoid in float32.
export function probability(logit) {
  return Math.fround(1 / Math.fround(1 + Math.fround(Math.exp(-logit))));
}

/**
 * Return the largest float32 logit whose probability does not exceed the threshold, so that comparing needs no sigmoid.
 * @param {number} threshold in (0, 1)
 */
export function logitBound(threshold) {
  const limit = Math.fround(threshold);
  if (!(limit < 1)) return Infinity;
  let [below, above] = [-104, 104]; // probability 0 and 1
  for (;;) {
    const middle = Math.fround((below + above) / 2);
    if (middle === below || middle === above) return below;
    if (probability(middle) > limit) above = middle;
    else below = middle;
  }
}

/**
 * Write the mask logits of one kernel over the mask features.
 * @param {Float32Array} kernel (E)
 * @param {Float32Array} features (E, pixels)
 * @param {Float32Array} logits (pixels), overwritten
 */
export function maskLogits(kernel, features, logits) {
  const pixels = logits.length;
  logits.fill(0);
  let channel = 0;
  // Eight channels a pass: the sum is read and written once for eight products.
  for (; channel + 8 <= kernel.length; channel += 8) {
    const [a, b, c, d, e, f, g, h] = kernel.subarray(channel, channel + 8);
    const part = features.subarray(channel * pixels, (channel + 8) * pixels);
    for (let i = 0; i < pixels; i++) {
      logits[i] +=
        a * part[i] + b * part[i + pixels] + c * part[i + 2 * pixels] + d * part[i + 3 * pixels] +
        e * part[i + 4 * pixels] + f * part[i + 5 * pixels] + g * part[i + 6 * pixels] + h * part[i + 7 * pixels];
    }
  }
  for (; channel < kernel.length; channel++) {
    const weight = kernel[channel];
    const part = features.subarray(channel * pixels, (channel + 1) * pixels);
    for (let i = 0; i < pixels; i++) logits[i] += weight * part[i];
  }
}

/**
 * Pack a mask: logits above the bound are foreground.
 * @returns {{bits: Uint32Array, area: number, box: {top: number, bottom: number, left: number, right: number},
 *   maskness: number}} bits (height, ceil(width / 32)); the box's ends are exclusive, zeros for an empty mask;
 *   maskness is the mean probability over the foreground, 0 for an empty mask
 */
export function packMask(logits, height, width, bound) {
  const words = Math.ceil(width / WORD);
  const bits = new Uint32Array(height * words);
  let [area, sum] = [0, 0];
  let [top, bottom, left, right] = [height, 0, width, 0];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!(logits[i] > bound)) continue;
      bits[y * words + (x >> 5)] |= 1 << (x & 31);
      area++;
      sum += probability(logits[i]);
      if (y < top) top = y;
      bottom = y + 1;
      if (x < left) left = x;
      if (x >= right) right = x + 1;
    }
  }
  const box = area ? { top, bottom, left, right } : { top: 0, bottom: 0, left: 0, right: 0 };
  return { bits, area, box, maskness: area ? Math.fround(sum / area) : 0 };
}

// The product of kernels (rows, inner) and mask features (inner, columns), where nothing faster is at hand.
function plainProduct(kernels, features, rows, inner, columns) {
  const result = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const logits = result.subarray(row * columns, (row + 1) * columns);
    maskLogits(kernels.subarray(row * inner, (row + 1) * inner), features, logits);
  }
  return result;
}

/**
 * The masks of some cells, computed once each.
 * @param {object} raw class scores, kernels (cells, E) and mask features (E, height, width)
 * @param {number[]} cells
 * @param {{channels: number, height: number, width: number}} size of the mask features
 * @param {number} bound from logitBound
 * @param {function} product of matrices: (a, b, rows, inner, columns), row-major
 * @returns {Promise<{masks: object[], logitsOf: function(number): Float32Array}>} one packed mask per cell; the logits
 *   of the n-th cell
 */
export async function measureMasks(raw, cells, size, bound, product = plainProduct) {
  const { channels, height, width } = size;
  const pixels = height * width;
  const kernel = (cell) => raw.kernels.subarray(cell * channels, (cell + 1) * channels);
  const step = Math.max(1, Math.floor(KEPT_BYTES / (4 * pixels)));
  const masks = [];
  let logits = null;
  for (let start = 0; start < cells.length; start += step) {
    const part = cells.slice(start, start + step);
    const kernels = new Float32Array(part.length * channels);
    part.forEach((cell, n) => kernels.set(kernel(cell), n * channels));
    logits = await product(kernels, raw.maskFeatures, part.length, channels, pixels);
    part.forEach((_, n) => masks.push(packMask(logits.subarray(n * pixels, (n + 1) * pixels), height, width, bound)));
  }
  const kept = (n) => logits.subarray(n * pixels, (n + 1) * pixels);
  const again = (n) => plainProduct(kernel(cells[n]), raw.maskFeatures, 1, channels, pixels);
  return { masks, logitsOf: cells.length <= step ? kept : again };
}
