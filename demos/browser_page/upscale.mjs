// From quarter-scale logits to a mask in frame pixels, on the box where there is anything, as in runtime/upscale.py:
// probabilities resized by 4 to the padded input, cut to the resized frame, resized to the frame.

import { probability } from "./quarter_masks.mjs";

export const SCALE = 4; // input pixels per pixel of the mask features

// Both taps and the second one's weight of a bilinear resize with half-pixel centres, in float32.
function taps(size, result) {
  const step = Math.fround(size / result);
  return Array.from({ length: result }, (_, i) => {
    const centre = Math.fround(Math.fround(step * Math.fround(i + 0.5)) - 0.5);
    const position = Math.max(centre, 0);
    const near = Math.min(Math.floor(position), size - 1);
    const weight = Math.min(Math.fround(position - near), 1);
    return [near, Math.min(near + 1, size - 1), weight];
  });
}

/**
 * The two resizes along one axis as one table.
 * @param {number} quarter pixels of the mask features
 * @param {number} resized pixels of the frame in the input
 * @param {number} frame pixels of the frame
 * @returns {{first: Int32Array, end: Int32Array, weights: Float32Array[]}} per frame pixel its taps [first, end), which
 *   never fall, and their weights
 */
export function axisTable(quarter, resized, frame) {
  const inner = taps(quarter, SCALE * quarter);
  const table = { first: new Int32Array(frame), end: new Int32Array(frame), weights: [] };
  taps(resized, frame).forEach(([near, far, farWeight], pixel) => {
    const sums = new Map();
    for (const [middle, outer] of [[near, 1 - farWeight], [far, farWeight]]) {
      const [a, b, weight] = inner[middle];
      for (const [tap, share] of [[a, outer * (1 - weight)], [b, outer * weight]]) {
        if (share > 0) sums.set(tap, (sums.get(tap) ?? 0) + share);
      }
    }
    const used = [...sums.keys()].sort((a, b) => a - b);
    table.first[pixel] = used[0];
    table.end[pixel] = used[used.length - 1] + 1;
    table.weights.push(Float32Array.from({ length: table.end[pixel] - used[0] }, (_, i) => sums.get(used[0] + i) ?? 0));
  });
  return table;
}

// The frame pixels [first, end) with a tap in quarter-scale pixels [start, stop).
function reach(table, start, stop) {
  let first = 0;
  while (first < table.end.length && table.end[first] <= start) first++;
  let end = first;
  while (end < table.first.length && table.first[end] < stop) end++;
  return stop > start && first < end ? [first, end] : [0, 0];
}

/**
 * Return the mask of one instance in frame pixels.
 * @param {Float32Array} logits (height, width) at quarter scale
 * @param {number} width of the mask features
 * @param {{top: number, bottom: number, left: number, right: number}} box of the pixels above the threshold
 * @param {object} rows table of the vertical axis
 * @param {object} columns table of the horizontal axis
 * @param {number} threshold probability a frame pixel must exceed
 * @returns {{y0: number, x0: number, height: number, width: number, data: Uint8Array}} a crop of 0 and 1 and its
 *   corner in the frame; 0 x 0 where the mask lies in the padding
 */
export function upscaleMask(logits, width, box, rows, columns, threshold) {
  const [y0, y1] = reach(rows, box.top, box.bottom);
  const [x0, x1] = reach(columns, box.left, box.right);
  if (y0 === y1 || x0 === x1) return { y0: 0, x0: 0, height: 0, width: 0, data: new Uint8Array(0) };
  const [top, bottom] = [rows.first[y0], rows.end[y1 - 1]];
  const [left, right] = [columns.first[x0], columns.end[x1 - 1]];
  const limit = Math.fround(threshold);
  const above = new Float32Array(right - left); // interpolating p - t keeps plateaus of exactly t at exactly 0
  const across = x1 - x0;
  const wide = new Float32Array((bottom - top) * across);
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) above[x - left] = probability(logits[y * width + x]) - limit;
    for (let x = x0, to = (y - top) * across; x < x1; x++, to++) {
      const weights = columns.weights[x];
      const from = columns.first[x] - left;
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += above[from + i] * weights[i];
      wide[to] = sum;
    }
  }
  const data = new Uint8Array((y1 - y0) * across);
  for (let y = y0, to = 0; y < y1; y++) {
    const weights = rows.weights[y];
    const from = (rows.first[y] - top) * across;
    for (let x = 0; x < across; x++, to++) {
      let sum = 0;
      for (let i = 0; i < weights.length; i++) sum += wide[from + i * across + x] * weights[i];
      data[to] = sum > 0 ? 1 : 0;
    }
  }
  return { y0, x0, height: y1 - y0, width: across, data };
}
