// The page: what the user does, and what comes of it.

import { Camera, filePixels, urlPixels } from "./pictures.mjs";
import { drawInstances, shapesOf } from "./draw.mjs";
import { mostThreads } from "./engine.mjs";
import { element, showFacts, showTimes } from "./panel.mjs";
import { Segmenter } from "./segmenter.mjs";

const MOST_HEIGHT = 0.78; // share of the window's height a picture may take
const MOST_MAGNIFIED = 3;
const SMOOTH = 0.9; // weight of the past in the camera's frames per second

/** What the page shows now; the result's masks are as decode() returns them. */
export const shown = { result: null, shapes: [], picture: null, artefact: null, frames: 0 };

const config = await (await fetch("config.json")).json();
const wanted = new URLSearchParams(location.search);
const segmenter = new Segmenter();
const camera = new Camera(showFrame);
let shareOfPast = 0;
let lastFrame = 0;
let rate = 0;

function say(state, text) {
  document.body.dataset.state = state;
  element("status").textContent = text;
}

function fail(error) {
  say("failed", error.message);
}

function threshold() {
  return Number(element("threshold").value);
}

function draw() {
  const { result, picture, shapes } = shown;
  if (!result) return;
  const room = element("drop").clientWidth;
  const tall = Math.max(240, innerHeight * MOST_HEIGHT);
  const scale = Math.min(room / result.width, tall / result.height, MOST_MAGNIFIED);
  const visible = shapes.filter(({ score }) => score >= threshold());
  const canvas = element("canvas");
  const view = { scale, ratio: devicePixelRatio, tags: element("tags").checked };
  drawInstances(canvas, picture, result, visible, view);
  canvas.style.width = `${result.width * scale}px`;
  canvas.style.height = `${result.height * scale}px`;
  canvas.hidden = false;
  element("hint").hidden = true;
  element("count").textContent = String(visible.length);
  element("count-label").textContent = visible.length === 1 ? "instance" : "instances";
  const below = shapes.length - visible.length;
  element("hidden").textContent = below ? `${below} below the threshold` : "";
  element("save").disabled = false;
}

// Segment pixels and show them with what was found; the picture shown is always the one that was segmented.
async function segment(pixels) {
  const result = await segmenter.segment(pixels);
  const start = performance.now();
  const canvas = new OffscreenCanvas(result.width, result.height);
  const image = new ImageData(new Uint8ClampedArray(result.pixels), result.width, result.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  Object.assign(shown, { result, picture: canvas, frames: shown.frames + 1 });
  shown.shapes = shapesOf(result.instances, shown.artefact.manifest.spec.class_names);
  draw();
  showTimes({ ...result.timings, draw: performance.now() - start });
}

async function showPicture(load, name) {
  camera.stop();
  say("working", `Segmenting ${name}`);
  try {
    await segment(await load());
    element("rate").textContent = "";
    say("ready", `${name}, ${shown.result.width} × ${shown.result.height}`);
  } catch (error) {
    fail(error);
  }
}

async function showFrame(pixels) {
  await segment(pixels);
  const now = performance.now();
  if (lastFrame) rate = shareOfPast * rate + (1 - shareOfPast) * (1000 / (now - lastFrame));
  shareOfPast = lastFrame ? SMOOTH : 0;
  lastFrame = now;
  element("rate").textContent = rate ? `${rate.toFixed(1)} frames per second` : "";
  say("live", `Camera, ${shown.result.width} × ${shown.result.height}`);
}

async function toggleCamera() {
  if (camera.running) {
    camera.stop();
    say("ready", "Camera stopped");
    return;
  }
  say("working", "Waiting for the camera");
  [shareOfPast, lastFrame, rate] = [0, 0, 0];
  offerCamera(false);
  try {
    await camera.run();
  } catch (error) {
    fail(error);
  }
  if (!camera.running) offerCamera(true);
}

function offerCamera(free) {
  element("camera").textContent = free ? "Use camera" : "Stop camera";
  element("camera").setAttribute("aria-pressed", String(!free));
}

function openFile(file) {
  if (file) void showPicture(() => filePixels(file), file.name);
}

function save() {
  element("canvas").toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "segmented.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
}

// Another backend or number of threads needs the page anew: onnxruntime-web sets up its memory and workers once.
function reopen() {
  wanted.set("backend", element("backend").value);
  wanted.set("threads", element("threads").value);
  location.search = wanted.toString();
}

function listen() {
  element("file").addEventListener("change", ({ target }) => {
    openFile(target.files[0]);
    target.value = "";
  });
  element("camera").addEventListener("click", toggleCamera);
  element("save").addEventListener("click", save);
  for (const name of ["threshold", "tags"]) element(name).addEventListener("input", draw);
  element("threshold").addEventListener("input", () => {
    element("threshold-value").textContent = threshold().toFixed(2);
  });
  for (const name of ["backend", "threads"]) element(name).addEventListener("change", reopen);
  addEventListener("resize", draw);
  addEventListener("paste", ({ clipboardData }) => openFile(clipboardData.files[0]));
  const drop = element("drop");
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    openFile(event.dataTransfer.files[0]);
  });
  for (const name of ["dragenter", "dragleave"]) {
    drop.addEventListener(name, () => drop.classList.toggle("over", name === "dragenter"));
  }
}

function offerSamples() {
  for (const address of config.samples) {
    const name = decodeURIComponent(address.split("/").pop());
    const button = document.createElement("button");
    button.type = "button";
    button.title = name;
    button.append(Object.assign(new Image(), { src: address, alt: name }));
    button.addEventListener("click", () => showPicture(() => urlPixels(address), name));
    element("samples").append(button);
  }
}

function offer(name, choices, chosen) {
  element(name).replaceChildren(...choices.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

async function start() {
  const most = mostThreads();
  const threads = Math.min(Math.max(Math.trunc(Number(wanted.get("threads"))) || config.threads || Math.min(4, Math.ceil(most / 2)), 1), most);
  const backend = ["wasm", "webgpu"].includes(wanted.get("backend")) ? wanted.get("backend") : "auto";
  offer("threads", Array.from({ length: most }, (_, i) => [String(i + 1), String(i + 1)]), String(threads));
  offer("backend", [["auto", "Automatic"], ["wasm", "WebAssembly"], ["webgpu", "WebGPU"]], backend);
  listen();
  offerSamples();
  shown.artefact = await segmenter.open({ artefact: config.artefact, backend, threads });
  const names = { wasm: "WebAssembly", webgpu: "WebGPU" };
  const counted = shown.artefact.threads === 1 ? "1 thread" : `${shown.artefact.threads} threads`;
  const alone = globalThis.crossOriginIsolated ? "" : "; this page may not share memory, so one thread is all it gets";
  element("backend-note").textContent =
    `Runs on ${names[shown.artefact.backend]}, ${counted}; onnxruntime-web ${config.onnxruntime_web}${alone}`;
  showFacts(shown.artefact, config);
  say("ready", "Open a picture or use the camera");
  if (config.samples.length) await showPicture(() => urlPixels(config.samples[0]), config.samples[0].split("/").pop());
}

start().catch(fail);
