// The manifest of an ONNX artefact: the JSON text in its metadata, or the one beside it.

const KEY = "solov2_edge.manifest";
const SCHEMA_VERSION = 1;
const METADATA_PROPS = 14; // field of ModelProto
const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const FIXED32 = 5;

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.place = 0;
  }

  get ended() {
    return this.place >= this.bytes.length;
  }

  varint() {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      if (this.ended) throw new RangeError("cut short");
      const byte = this.bytes[this.place++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  }

  // Return the next field's number and, where it is delimited, its bytes.
  field() {
    const tag = this.varint();
    const [number, type] = [Math.floor(tag / 8), tag % 8];
    let content = null;
    if (type === VARINT) this.varint();
    else if (type === FIXED64) this.place += 8;
    else if (type === FIXED32) this.place += 4;
    else if (type === DELIMITED) {
      const length = this.varint();
      content = this.bytes.subarray(this.place, this.place + length);
      this.place += length;
    } else throw new RangeError("unknown wire type");
    if (this.place > this.bytes.length) throw new RangeError("cut short");
    return { number, content };
  }
}

function* fieldsOf(bytes) {
  const reader = new Reader(bytes);
  while (!reader.ended) yield reader.field();
}

/**
 * Return the manifest text inside an ONNX file, or null.
 * @param {Uint8Array} bytes
 */
export function embeddedManifest(bytes) {
  const text = new TextDecoder();
  try {
    for (const { number, content } of fieldsOf(bytes)) {
      if (number !== METADATA_PROPS || content === null) continue;
      const entry = {};
      for (const part of fieldsOf(content)) {
        if (part.content !== null) entry[part.number] = text.decode(part.content);
      }
      if (entry[1] === KEY) return entry[2] ?? "";
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new Error("This is no ONNX file, or one that is cut short; copy it again.");
  }
  return null;
}

/**
 * Return a manifest from its JSON text.
 * @param {string} text
 */
export function parseManifest(text) {
  let manifest;
  try {
    manifest = JSON.parse(text);
  } catch {
    throw new Error("The artefact's manifest is not JSON; convert the checkpoint again.");
  }
  if (manifest?.schema_version !== SCHEMA_VERSION) {
    throw new Error(
      `The manifest's schema version is ${manifest?.schema_version}, this page reads ${SCHEMA_VERSION}; ` +
        "open it with the solov2-edge that wrote it, or convert again.",
    );
  }
  if (manifest.format !== "onnx") throw new Error(`This page runs ONNX artefacts, got one for ${manifest.format}.`);
  return manifest;
}
