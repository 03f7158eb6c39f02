// Everything that takes time, off the page's own thread: {open} opens the artefact, {segment} segments one picture.

import { decode, decodedInstances } from "./decode.mjs";
import { openEngine } from "./engine.mjs";
import { embeddedManifest, parseManifest } from "./manifest.mjs";
import { fixedGeometry, preprocess } from "./preprocess.mjs";

let manifest = null;
let engine = null;

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address} cannot be fetched: ${answer.status} ${answer.statusText}`);
  return answer;
}

async function open({ artefact, backend, threads }) {
  const bytes = new Uint8Array(await (await fetched(artefact)).arrayBuffer());
  const text = embeddedManifest(bytes) ?? (await (await fetched(`${artefact}.json`)).text());
  manifest = parseManifest(text);
  engine = await openEngine(bytes, manifest, { backend, threads });
  return { manifest, backend: engine.backend, threads: engine.threads, bytes: bytes.length };
}

async function segment({ pixels, height, width }) {
  const times = [performance.now()];
  const geometry = fixedGeometry(height, width, manifest.input);
  const input = preprocess(new Uint8ClampedArray(pixels), geometry, manifest);
  times.push(performance.now());
  const outputs = await engine.run(input);
  times.push(performance.now());
  const instances = manifest.decode
    ? decodedInstances(outputs, geometry, manifest.decode)
    : await decode(outputs, geometry, manifest.spec, {}, engine.product);
  times.push(performance.now());
  const [preprocessing, network, decoding] = times.slice(1).map((time, i) => time - times[i]);
  return { instances, height, width, pixels, timings: { preprocess: preprocessing, network, decode: decoding } };
}

async function answer(data) {
  try {
    const result = data.kind === "open" ? await open(data) : await segment(data);
    postMessage({ id: data.id, answer: result }, result.pixels ? [result.pixels] : []);
  } catch (error) {
    postMessage({ id: data.id, failure: error.message });
  }
}

let turn = Promise.resolve(); // a session runs once at a time
addEventListener("message", ({ data }) => {
  turn = turn.then(() => answer(data));
});
