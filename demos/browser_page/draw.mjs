// A picture and its instances on a canvas: tinted masks, thin outlines, tags where they hide little, as demos/draw.py.

import { outlines } from "./outlines.mjs";

const TINT = 0.38;
const MOST_COVERED = 0.3; // share of its instance's box that a tag may hide
const MOST_OVERLAP = 0.1; // share of an earlier tag
const TAG_FONT = 11; // CSS pixels

/** The CSS colour of instance n: hues step by the golden angle, in a space where equal steps look equal. */
export function colour(n, lightness = [0.74, 0.64, 0.82][n % 3], alpha = 1) {
  return `oklch(${lightness} 0.17 ${(200 + n * 137.50776) % 360} / ${alpha})`;
}

function pathOf(mask) {
  const path = new Path2D();
  for (const points of outlines(mask)) {
    points.forEach(([x, y], i) => (i ? path.lineTo(x, y) : path.moveTo(x, y)));
    path.closePath();
  }
  return path;
}

function boxOf({ y0, x0, height, width, data }) {
  let [top, bottom, left, right] = [height, 0, width, 0];
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (!data[i]) continue;
      [top, bottom] = [Math.min(top, y), y + 1];
      [left, right] = [Math.min(left, x), Math.max(right, x + 1)];
    }
  }
  return bottom ? { x: x0 + left, y: y0 + top, width: right - left, height: bottom - top } : null;
}

/** Return what drawing needs of each instance that has pixels, computed once per picture. */
export function shapesOf({ scores, labels, masks }, classNames) {
  const shapes = masks.map((mask, n) => {
    const area = mask.data.reduce((sum, pixel) => sum + pixel, 0);
    return { n, area, score: scores[n], name: classNames[labels[n]], box: boxOf(mask), path: pathOf(mask) };
  });
  return shapes.filter(({ box }) => box !== null);
}

/**
 * Draw a picture with its instances.
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasImageSource} picture
 * @param {{height: number, width: number}} size of the picture in pixels
 * @param {object[]} shapes from shapesOf, those to be shown, scores falling
 * @param {{scale: number, ratio: number, tags: boolean}} view CSS pixels per picture pixel; device pixels per CSS pixel
 */
export function drawInstances(canvas, picture, size, shapes, { scale, ratio, tags }) {
  canvas.width = Math.max(1, Math.round(size.width * scale * ratio));
  canvas.height = Math.max(1, Math.round(size.height * scale * ratio));
  const context = canvas.getContext("2d");
  const zoom = canvas.width / size.width;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.setTransform(zoom, 0, 0, canvas.height / size.height, 0, 0);
  context.lineJoin = "round";
  // Large ones first, so that a small one on top of a large one stays visible.
  for (const { n, path } of [...shapes].sort((a, b) => b.area - a.area)) {
    context.fillStyle = colour(n, undefined, TINT);
    context.fill(path, "evenodd");
    // A dark line under a light one shows on bright and on dark ground.
    for (const [lightness, width] of [[0.28, 2.4], [0.88, 1.3]]) {
      context.strokeStyle = colour(n, lightness);
      context.lineWidth = (width * ratio) / zoom;
      context.stroke(path);
    }
  }
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (tags) drawTags(context, shapes, scale, { width: canvas.width / ratio, height: canvas.height / ratio });
}

function drawTags(context, shapes, scale, size) {
  context.font = `600 ${TAG_FONT}px system-ui, "DejaVu Sans", sans-serif`;
  context.textBaseline = "middle";
  const placed = [];
  for (const { n, name, score, box } of shapes) {
    const text = `${name} ${score.toFixed(2)}`;
    const tag = { width: context.measureText(text).width + 10, height: TAG_FONT + 7 };
    if (!place(tag, box, scale, size, placed)) continue;
    placed.push(tag);
    context.fillStyle = colour(n, 0.92);
    context.beginPath();
    context.roundRect(tag.x, tag.y, tag.width, tag.height, 4);
    context.fill();
    context.fillStyle = colour(n, 0.22);
    context.fillText(text, tag.x + 5, tag.y + tag.height / 2 + 0.5);
  }
}

// Set the tag's place, above its instance, inside its upper edge or below it; false where it would hide too much.
function place(tag, box, scale, size, placed) {
  const [width, height] = [box.width * scale, box.height * scale];
  if (tag.width > size.width || tag.height > size.height) return false;
  if (tag.width * tag.height > MOST_COVERED * width * height) return false;
  const clip = (value, limit) => Math.min(Math.max(value, 0), limit);
  tag.x = clip(box.x * scale + (width - tag.width) / 2, size.width - tag.width);
  for (const y of [box.y * scale - tag.height, box.y * scale, box.y * scale + height]) {
    tag.y = clip(y, size.height - tag.height);
    if (placed.every((other) => overlap(tag, other) <= MOST_OVERLAP)) return true;
  }
  return false;
}

function overlap(a, b) {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  return (Math.max(width, 0) * Math.max(height, 0)) / Math.min(a.width * a.height, b.width * b.height);
}
