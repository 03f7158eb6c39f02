// The artefact in onnxruntime-web: which backend and how many threads, and one run of the network.

import { openProduct } from "./product.mjs";

const PACKAGE = "./onnxruntime-web/";
const ENTRY = { wasm: "ort.wasm.min.mjs", webgpu: "ort.webgpu.min.mjs" };

/** Threads of WebAssembly that this page may use; more than one needs memory shared between workers. */
export function mostThreads() {
  return globalThis.crossOriginIsolated ? navigator.hardwareConcurrency || 1 : 1;
}

// WebGPU's adapter here: "hardware", "software", which is slower than WebAssembly, or null.
async function gpuKind() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  if (!adapter) return null;
  return adapter.info?.isFallbackAdapter || adapter.info?.architecture === "swiftshader" ? "software" : "hardware";
}

async function open(bytes, backend, threads) {
  const ort = await import(PACKAGE + ENTRY[backend]);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = new URL(PACKAGE, import.meta.url).href;
  ort.env.wasm.numThreads = threads;
  const options = { executionProviders: [backend], graphOptimizationLevel: "all" };
  return { ort, session: await ort.InferenceSession.create(bytes, options) };
}

function sentence(error) {
  return String(error?.message ?? error).trim().split("\n")[0];
}

/**
 * Open an artefact.
 * @param {Uint8Array} bytes of the .onnx file
 * @param {object} manifest
 * @param {{backend: string, threads: number}} wanted exactly that backend; "auto" is WebGPU where a graphics processor
 *   runs a float artefact with it, else WebAssembly
 * @returns {Promise<{backend: string, threads: number, product: function, run: function(object): Promise<object>}>} run
 *   takes what preprocess returns and gives raw outputs, or decoded ones where the graph decodes; product as in
 *   product.mjs
 */
export async function openEngine(bytes, manifest, { backend, threads }) {
  const gpu = backend === "wasm" ? null : await gpuKind();
  if (backend === "webgpu" && gpu === null) throw new Error("This browser offers no WebGPU here; choose WebAssembly.");
  // Integer artefacts are made for the integer kernels of a CPU.
  const preferred = gpu === "hardware" && manifest.precision.startsWith("fp") ? ["webgpu", "wasm"] : ["wasm"];
  const choices = backend === "auto" ? preferred : [backend];
  let failure;
  for (const choice of choices) {
    try {
      const { ort, session } = await open(bytes, choice, threads);
      checkNames(session, manifest);
      const product = await openProduct(ort);
      const engine = { backend: choice, threads, product, run: (input) => run(ort, session, manifest, input) };
      // WebGPU reports an operator it cannot run, and compiles its shaders, only when it runs.
      await engine.run(blank(manifest.input));
      return engine;
    } catch (error) {
      failure = new Error(`onnxruntime-web cannot run this artefact with ${choice}: ${sentence(error)}`);
    }
  }
  throw failure;
}

function checkNames(session, manifest) {
  const missing = [manifest.input.name].filter((name) => !session.inputNames.includes(name));
  missing.push(...manifest.outputs.filter((name) => !session.outputNames.includes(name)));
  if (missing.length) throw new Error(`the graph lacks ${missing.join(", ")}, which its manifest names`);
}

function blank({ kind, height, width }) {
  return kind === "image"
    ? { type: "uint8", data: new Uint8Array(height * width * 3), dims: [1, height, width, 3] }
    : { type: "float32", data: new Float32Array(height * width * 3), dims: [1, 3, height, width] };
}

async function run(ort, session, manifest, { type, data, dims }) {
  const results = await session.run({ [manifest.input.name]: new ort.Tensor(type, data, dims) });
  const [first, second, third] = await Promise.all(manifest.outputs.map((name) => results[name].getData()));
  for (const name of manifest.outputs) results[name].dispose();
  return manifest.decode === null
    ? { classScores: floats(first), kernels: floats(second), maskFeatures: floats(third) }
    : { scores: floats(first), labels: second, masks: floats(third) };
}

// float16 outputs arrive as numbers where the browser has Float16Array, else as their bits.
function floats(values) {
  if (values instanceof Float32Array) return values;
  if (!(values instanceof Uint16Array)) return Float32Array.from(values);
  const parts = (bits) => [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return Float32Array.from(values, (bits) => {
    const [sign, exponent, fraction] = parts(bits);
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -24 * fraction;
  });
}
