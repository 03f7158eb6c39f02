// The outline of a mask as polygons, so that it is crisp at any size it is drawn.

// Steps (x, y) along the edges of pixels, the mask on the right: east, south, west, north.
const STEPS = [[1, 0], [0, 1], [-1, 0], [0, -1]];
// Per direction, offsets (y, x) from a corner to the pixels ahead of it, on the left and on the right.
const AHEAD = [
  [[-1, 0], [0, 0]],
  [[0, 0], [0, -1]],
  [[0, -1], [-1, -1]],
  [[-1, -1], [-1, 0]],
];

/**
 * Return the outlines of a mask, outer ones and holes, through the middles of its pixels' edges: corners are cut by
 * half a pixel, which turns staircases into slopes.
 * @param {{y0: number, x0: number, height: number, width: number, data: Uint8Array}} mask
 * @returns {[number, number][][]} closed polygons of (x, y) in frame pixels
 */
export function outlines({ y0, x0, height, width, data }) {
  const inside = (y, x) => y >= 0 && y < height && x >= 0 && x < width && data[y * width + x] === 1;
  const seen = new Uint8Array(height * width); // pixels whose upper edge was walked along
  const found = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      // Every outline has an upper edge of a pixel, walked eastwards.
      if (!inside(y, x) || inside(y - 1, x) || seen[y * width + x]) continue;
      found.push(follow(inside, seen, width, y, x).map(([px, py]) => [x0 + px, y0 + py]));
    }
  }
  return found;
}

function follow(inside, seen, width, startY, startX) {
  const points = [];
  let [y, x, going] = [startY, startX, 0];
  do {
    if (going === 0) seen[y * width + x] = 1;
    const [dx, dy] = STEPS[going];
    points.push([x + dx / 2, y + dy / 2]);
    [x, y] = [x + dx, y + dy];
    const [left, right] = AHEAD[going].map(([oy, ox]) => inside(y + oy, x + ox));
    // Pixels that touch at a corner only stay apart.
    if (!right) going = (going + 1) % 4;
    else if (left) going = (going + 3) % 4;
  } while (y !== startY || x !== startX || going !== 0);
  return points;
}
