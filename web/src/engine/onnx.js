/**
 * Reader of ONNX files, as far as chains of convolutions need it.
 *
 * Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
 */
import { UserError } from './errors.js';

const FLOAT = 1;
const INT64 = 7;

/** Fields of a protobuf message. @param {Uint8Array} bytes */
function* fields(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = view.getUint8(at++);
      value += (byte & 0x7f) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const kind = key & 7;
    if (kind === 0) {
      yield [key >>> 3, varint()];
    } else if (kind === 2 || kind === 5 || kind === 1) {
      const length = kind === 2 ? varint() : kind === 5 ? 4 : 8;
      if (at + length > bytes.length) throw new RangeError('a field is cut short');
      yield [key >>> 3, bytes.subarray(at, (at += length))];
    } else {
      throw new RangeError('it is no protobuf message');
    }
  }
}

const text = (bytes) => new TextDecoder().decode(bytes);

/** Numbers that are packed, or one by one. Negative numbers have ten bytes. */
function integers(value) {
  if (typeof value === 'number') return [value];
  return [...numbersIn(value)];
}

function* numbersIn(bytes) {
  for (let at = 0; at < bytes.length; ) {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 128) break;
    }
    yield Number(BigInt.asIntN(64, value));
  }
}

function tensor(bytes) {
  const found = { name: '', dims: [], values: null };
  let type = 0;
  let raw = null;
  const floats = [];
  for (const [field, value] of fields(bytes)) {
    if (field === 1) found.dims.push(...integers(value));
    else if (field === 2) type = value;
    else if (field === 4) floats.push(value);
    else if (field === 8) found.name = text(value);
    else if (field === 9) raw = value;
  }
  const content = raw ?? joined(floats);
  if (type === FLOAT) found.values = new Float32Array(content.slice().buffer);
  if (type === INT64 && raw) {
    found.values = Array.from(new BigInt64Array(raw.slice().buffer), Number);
  }
  return found;
}

function joined(parts) {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

function attribute(bytes) {
  const found = { name: '', value: null };
  const list = [];
  for (const [field, value] of fields(bytes)) {
    if (field === 1) found.name = text(value);
    else if (field === 2) found.value = new DataView(value.slice().buffer).getFloat32(0, true);
    else if (field === 3) found.value = value;
    else if (field === 4) found.value = text(value);
    else if (field === 8) list.push(...integers(value));
  }
  if (list.length) found.value = list;
  return found;
}

function node(bytes) {
  const found = { kind: '', inputs: [], outputs: [], attributes: {} };
  for (const [field, value] of fields(bytes)) {
    if (field === 1) found.inputs.push(text(value));
    else if (field === 2) found.outputs.push(text(value));
    else if (field === 4) found.kind = text(value);
    else if (field === 5) {
      const one = attribute(value);
      found.attributes[one.name] = one.value;
    }
  }
  return found;
}

/** Name of an input or output. */
function named(bytes) {
  for (const [field, value] of fields(bytes)) if (field === 1) return text(value);
  return '';
}

/**
 * Read the graph of an ONNX file.
 * @param {Uint8Array} bytes
 * @param {string} name of the file, for messages
 */
export function readOnnx(bytes, name) {
  const graph = { nodes: [], tensors: new Map(), inputs: [], outputs: [] };
  try {
    for (const [field, value] of fields(bytes)) {
      if (field !== 7) continue;
      for (const [inner, content] of fields(value)) {
        if (inner === 1) graph.nodes.push(node(content));
        else if (inner === 5) {
          const one = tensor(content);
          graph.tensors.set(one.name, one);
        } else if (inner === 11) graph.inputs.push(named(content));
        else if (inner === 12) graph.outputs.push(named(content));
      }
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new UserError(`${name}: is not a valid ONNX file (${error.message}); write it again`);
  }
  if (!graph.nodes.length) {
    throw new UserError(`${name}: is not a valid ONNX file; write it again`);
  }
  graph.inputs = graph.inputs.filter((input) => !graph.tensors.has(input));
  return graph;
}
