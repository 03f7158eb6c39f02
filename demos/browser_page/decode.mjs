// From raw outputs to instances, step by step as in runtime/decode.py: candidates, masks at quarter scale, score times
// maskness, Matrix NMS, masks in frame pixels. Sorts are stable.

import { findCandidates } from "./candidates.mjs";
import { matrixNms } from "./matrix_nms.mjs";
import { logitBound, measureMasks, packMask } from "./quarter_masks.mjs";
import { SCALE, axisTable, upscaleMask } from "./upscale.mjs";

export const DEFAULTS = Object.freeze({
  score_threshold: 0.1,
  keep_threshold: 0.05,
  mask_threshold: 0.5,
  max_candidates: 500,
  max_instances: 100,
  nms_kernel: "gaussian",
  nms_sigma: 2,
  points_nms: true,
  area_filter: true,
});

function checkFinite(name, values) {
  let sum = 0; // of squares: finite only if every value is
  for (let i = 0; i < values.length; i++) sum += values[i] * values[i];
  if (!Number.isFinite(sum)) {
    throw new Error(`The artefact produced non-finite values in its ${name}; convert it again at a higher precision.`);
  }
}

function checkLength(name, values, expected) {
  if (values.length !== expected) {
    throw new Error(`Expected ${expected} values of ${name}, got ${values.length}; the manifest describes another network.`);
  }
}

function frameTables(geometry) {
  const { inputHeight, inputWidth, resizedHeight, resizedWidth, frameHeight, frameWidth } = geometry;
  return {
    rows: axisTable(inputHeight / SCALE, resizedHeight, frameHeight),
    columns: axisTable(inputWidth / SCALE, resizedWidth, frameWidth),
  };
}

/**
 * Return the instances of one frame, scores falling.
 * @param {{classScores: Float32Array, kernels: Float32Array, maskFeatures: Float32Array}} raw
 * @param {object} geometry from fixedGeometry
 * @param {object} spec the manifest's
 * @param {object} options fields of DEFAULTS
 * @param {function} product of matrices, as measureMasks takes it
 * @returns {Promise<{scores: number[], labels: number[], masks: object[]}>} masks as upscaleMask returns them
 */
export async function decode(raw, geometry, spec, options = {}, product = undefined) {
  const chosen = { ...DEFAULTS, ...options };
  const size = { channels: spec.mask_channels, height: geometry.inputHeight / SCALE, width: geometry.inputWidth / SCALE };
  const cells = spec.grids.reduce((sum, side) => sum + side * side, 0);
  checkLength("class scores", raw.classScores, cells * spec.class_names.length);
  checkLength("kernels", raw.kernels, cells * size.channels);
  checkLength("mask features", raw.maskFeatures, size.channels * size.height * size.width);
  checkFinite("class scores", raw.classScores);
  checkFinite("kernels", raw.kernels);
  checkFinite("mask features", raw.maskFeatures);

  const classes = spec.class_names.length;
  const found = findCandidates(raw.classScores, spec.grids, classes, chosen.score_threshold, chosen.points_nms);
  const distinct = [...new Set(found.map(({ cell }) => cell))]; // candidates come by rising cell
  const rowOf = new Map(distinct.map((cell, row) => [cell, row]));
  const bound = logitBound(chosen.mask_threshold);
  const { masks, logitsOf } = await measureMasks(raw, distinct, size, bound, product);

  const large = found
    .map(({ cell, label, score, level }) => {
      const row = rowOf.get(cell);
      const smallest = chosen.area_filter ? spec.strides[level] : 0;
      return { row, label, smallest, score: Math.fround(score * masks[row].maskness) };
    })
    .filter(({ row, smallest }) => masks[row].area > smallest)
    .sort((a, b) => b.score - a.score)
    .slice(0, chosen.max_candidates);
  const decayed = matrixNms(
    large.map(({ row }) => masks[row]),
    large.map(({ score }) => score),
    large.map(({ label }) => label),
    Math.ceil(size.width / 32),
    { kernel: chosen.nms_kernel, sigma: chosen.nms_sigma },
  );
  const kept = large
    .map(({ row, label }, n) => ({ row, label, score: decayed[n] }))
    .filter(({ score }) => score >= Math.fround(chosen.keep_threshold))
    .sort((a, b) => b.score - a.score)
    .slice(0, chosen.max_instances);

  const { rows, columns } = frameTables(geometry);
  const upscaled = new Map(); // one cell may be kept in several classes
  for (const { row } of kept) {
    if (upscaled.has(row)) continue;
    const mask = upscaleMask(logitsOf(row), size.width, masks[row].box, rows, columns, chosen.mask_threshold);
    upscaled.set(row, mask);
  }
  return {
    scores: kept.map(({ score }) => score),
    labels: kept.map(({ label }) => label),
    masks: kept.map(({ row }) => upscaled.get(row)),
  };
}

/**
 * Return the instances of a graph that decodes, scores falling.
 * @param {{scores: Float32Array, labels: Int32Array, masks: Float32Array}} outputs a score of 0 marks an unused row;
 *   masks are logits (rows, height, width)
 * @param {object} geometry from fixedGeometry
 * @param {object} options what was baked into the graph
 */
export function decodedInstances(outputs, geometry, options) {
  const [height, width] = [geometry.inputHeight / SCALE, geometry.inputWidth / SCALE];
  const keep = Math.fround(options.keep_threshold);
  const count = Math.min(outputs.scores.filter((score) => score >= keep).length, options.max_instances);
  const bound = logitBound(options.mask_threshold);
  const { rows, columns } = frameTables(geometry);
  const masks = Array.from({ length: count }, (_, n) => {
    const logits = outputs.masks.subarray(n * height * width, (n + 1) * height * width);
    checkFinite("masks", logits);
    const { box } = packMask(logits, height, width, bound);
    return upscaleMask(logits, width, box, rows, columns, options.mask_threshold);
  });
  return { scores: [...outputs.scores.subarray(0, count)], labels: [...outputs.labels.subarray(0, count)], masks };
}
