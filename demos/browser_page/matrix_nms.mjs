// Matrix NMS on bit-packed masks, exact, as in runtime/matrix_nms.py: exp(-sigma * iou^2) or 1 - iou, among masks of
// one class, over pairs whose boxes overlap; a pair that does not overlap cannot lower a score.

function countBits(word) {
  word -= (word >>> 1) & 0x55555555;
  word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
  return Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

// Pixels common to two packed masks, looked for where their boxes overlap.
function common(a, b, words) {
  const top = Math.max(a.box.top, b.box.top);
  const bottom = Math.min(a.box.bottom, b.box.bottom);
  const first = Math.max(a.box.left, b.box.left) >> 5;
  const last = (Math.min(a.box.right, b.box.right) - 1) >> 5;
  let count = 0;
  for (let y = top; y < bottom; y++) {
    for (let word = y * words + first; word <= y * words + last; word++) count += countBits(a.bits[word] & b.bits[word]);
  }
  return count;
}

function touch(a, b) {
  return a.top < b.bottom && b.top < a.bottom && a.left < b.right && b.left < a.right;
}

/**
 * Return the decayed scores, in the order of the masks.
 * @param {object[]} masks packed, by falling score
 * @param {number[]} scores falling
 * @param {number[]} labels masks of different labels leave each other alone
 * @param {number} words 32-bit words per row of the bits
 * @param {{kernel: string, sigma: number}} options kernel gaussian or linear
 * @returns {number[]}
 */
export function matrixNms(masks, scores, labels, words, { kernel, sigma }) {
  const overlap = new Float32Array(masks.length); // largest IoU with a mask of higher score
  const excess = new Float32Array(masks.length); // gaussian: the largest iou^2 - overlap^2
  const ratio = new Float32Array(masks.length).fill(1); // linear: the smallest (1 - iou) / (1 - overlap)
  // By rows: every mask better than `first` has been compared with it, so its overlap is final.
  for (let first = 0; first < masks.length; first++) {
    const [a, settled] = [masks[first], overlap[first]];
    const square = Math.fround(settled * settled);
    for (let second = first + 1; second < masks.length; second++) {
      const b = masks[second];
      if (labels[first] !== labels[second] || !touch(a.box, b.box)) continue;
      const both = common(a, b, words);
      const iou = Math.fround(both / Math.max(a.area + b.area - both, 1));
      if (iou > overlap[second]) overlap[second] = iou;
      const gained = Math.fround(Math.fround(iou * iou) - square);
      if (gained > excess[second]) excess[second] = gained;
      // A further copy of a duplicate would give 0 / 0, which counts as 0.
      const left = iou === 1 ? 0 : Math.fround(Math.fround(1 - iou) / Math.fround(1 - settled));
      if (left < ratio[second]) ratio[second] = left;
    }
  }
  const decay = (n) => (kernel === "gaussian" ? Math.fround(Math.exp(-sigma * excess[n])) : ratio[n]);
  return scores.map((score, n) => Math.fround(score * decay(n)));
}
