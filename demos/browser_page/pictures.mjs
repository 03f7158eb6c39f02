// Pixels of picture files and of the camera: RGBA as the file has them, EXIF rotation applied.

const MOST_PIXELS = 40_000_000; // of a picture; its pixels are held several times

function pixelsOf(source, width, height, canvas = new OffscreenCanvas(width, height)) {
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  context.drawImage(source, 0, 0);
  return { pixels: context.getImageData(0, 0, width, height).data.buffer, height, width };
}

async function blobPixels(blob, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error(`${name} is no picture this browser can read; expected PNG, JPEG, WebP or BMP.`);
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) {
    throw new Error(`${name} has ${width} × ${height} pixels, expected at most ${MOST_PIXELS / 1e6} million; scale it down.`);
  }
  const result = pixelsOf(bitmap, width, height);
  bitmap.close();
  return result;
}

/** Return the pixels of a file the user chose. */
export function filePixels(file) {
  return blobPixels(file, file.name);
}

/** Return the pixels of a picture of this server. */
export async function urlPixels(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address} cannot be fetched: ${answer.status} ${answer.statusText}`);
  return blobPixels(await answer.blob(), address);
}

function cameraError(error) {
  const reasons = {
    NotAllowedError: "The camera was refused; allow it in the browser's settings for this page.",
    NotFoundError: "There is no camera here; open a picture instead.",
    NotReadableError: "The camera is in use by another program; close that one.",
  };
  return new Error(reasons[error.name] ?? `The camera cannot be used: ${error.message}`);
}

/** The camera: its newest frame goes to `use`, which is awaited; frames that come meanwhile are left out. */
export class Camera {
  #stream = null;

  constructor(use) {
    this.use = use;
  }

  get running() {
    return this.#stream !== null;
  }

  /** Run until stopped, or until the camera goes away. */
  async run() {
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      throw cameraError(error);
    }
    this.#stream = stream;
    try {
      const video = document.createElement("video");
      Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
      await video.play();
      let canvas = null;
      while (this.#stream === stream && stream.active) {
        await new Promise((resolve) => video.requestVideoFrameCallback(resolve));
        const { videoWidth: width, videoHeight: height } = video;
        if (canvas?.width !== width || canvas?.height !== height) canvas = new OffscreenCanvas(width, height);
        if (this.#stream === stream) await this.use(pixelsOf(video, width, height, canvas));
      }
    } finally {
      for (const track of stream.getTracks()) track.stop();
      if (this.#stream === stream) this.#stream = null;
    }
  }

  stop() {
    this.#stream = null;
  }
}
