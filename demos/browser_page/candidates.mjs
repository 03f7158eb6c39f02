// Candidates: (cell, class) pairs whose score passes the threshold and points NMS, as in runtime/candidates.py.

/**
 * @param {Float32Array} classScores (cells, classes), in [0, 1]
 * @param {number[]} grids S per level; their squares sum to the number of cells
 * @param {number} classes
 * @param {number} threshold lowest score, exclusive
 * @param {boolean} pointsNms keep a score only where no left, upper or upper-left neighbour exceeds it
 * @returns {{cell: number, label: number, score: number, level: number}[]} levels, then cells row-major, then classes
 */
export function findCandidates(classScores, grids, classes, threshold, pointsNms) {
  const bound = Math.fround(threshold);
  const found = [];
  let cell = 0;
  grids.forEach((side, level) => {
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++, cell++) {
        const up = row > 0 ? side : 0; // at a border a cell stands in for its missing neighbour
        const left = column > 0 ? 1 : 0;
        for (let label = 0; label < classes; label++) {
          const score = classScores[cell * classes + label];
          if (!(score > bound)) continue;
          const beaten = (step) => classScores[(cell - step) * classes + label] > score;
          if (pointsNms && (beaten(up) || beaten(left) || beaten(up + left))) continue;
          found.push({ cell, label, score, level });
        }
      }
    }
  });
  return found;
}
