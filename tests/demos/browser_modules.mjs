// Calls functions of the browser page's modules: a list of {module, name, args} on stdin, their results on stdout, in
// JSON; typed arrays travel as {"$Float32Array": base64}.

const coded = [Float32Array, Uint8Array, Uint8ClampedArray, Int32Array, Uint32Array];

function revive(_, value) {
  const found = coded.find((kind) => value?.[`$${kind.name}`] !== undefined);
  if (!found) return value;
  const bytes = Buffer.from(value[`$${found.name}`], "base64");
  return new found(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
}

function encode(value) {
  const found = coded.find((kind) => value instanceof kind);
  if (found) return { [`$${found.name}`]: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") };
  if (Array.isArray(value)) return value.map(encode);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, encode(item)]));
}

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const results = [];
for (const { module, name, args } of JSON.parse(Buffer.concat(chunks).toString(), revive)) {
  const functions = await import(module);
  try {
    results.push({ result: encode((await functions[name](...args)) ?? null) });
  } catch (error) {
    results.push({ error: error.message });
  }
}
process.stdout.write(JSON.stringify(results));
