/**
 * A small assembler of WebAssembly, for code that depends on the layers of a network.
 *
 * Numbers are those of the specification, https://webassembly.github.io/spec/core/binary/.
 */

export const I32 = 0x7f;
export const V128 = 0x7b;

const SIMPLE = {
  'i32.eq': 0x46,
  'i32.ne': 0x47,
  'i32.lt_u': 0x49,
  'i32.add': 0x6a,
  'i32.sub': 0x6b,
  'i32.mul': 0x6c,
  select: 0x1b,
};
const VECTOR = {
  'v128.not': 0x4d,
  'v128.and': 0x4e,
  'v128.bitselect': 0x52,
  'f32x4.gt': 0x44,
  'f32x4.nearest': 0x6a,
  'i32x4.add': 0xae,
  'f32x4.add': 0xe4,
  'f32x4.sub': 0xe5,
  'f32x4.mul': 0xe6,
  'f32x4.pmax': 0xeb,
  'i32x4.trunc_sat_f32x4_s': 0xf8,
  'f32x4.relaxed_madd': 0x105,
};
const LOADS = { 'v128.load': 0x00, 'v128.load32_splat': 0x09, 'v128.store': 0x0b };

/** @param {number} value @returns {number[]} */
function unsigned(value) {
  const bytes = [];
  do {
    const low = value % 128;
    value = Math.floor(value / 128);
    bytes.push(value ? low | 0x80 : low);
  } while (value);
  return bytes;
}

/** @param {number} value @returns {number[]} */
function signed(value) {
  const bytes = [];
  for (;;) {
    const low = value & 0x7f;
    value >>= 7;
    if ((value === 0 && !(low & 0x40)) || (value === -1 && low & 0x40)) return [...bytes, low];
    bytes.push(low | 0x80);
  }
}

const sized = (bytes) => [...unsigned(bytes.length), ...bytes];
const listed = (items) => [...unsigned(items.length), ...items.flat()];
const text = (word) => sized([...new TextEncoder().encode(word)]);

/** Instructions of one function without a result. */
export class Code {
  /** @param {number} parameters number of its parameters, all i32 */
  constructor(parameters) {
    this.parameters = parameters;
    this.bytes = [];
    this.locals = [];
  }

  /** Declare a variable. @param {number} type @returns {number} its index */
  local(type) {
    this.locals.push(type);
    return this.parameters + this.locals.length - 1;
  }

  /** Append instructions without operands. @param {...string} names */
  op(...names) {
    for (const name of names) {
      if (name in SIMPLE) this.bytes.push(SIMPLE[name]);
      else this.bytes.push(0xfd, ...unsigned(VECTOR[name]));
    }
    return this;
  }

  get(index) {
    this.bytes.push(0x20, ...unsigned(index));
    return this;
  }

  set(index) {
    this.bytes.push(0x21, ...unsigned(index));
    return this;
  }

  i32(value) {
    this.bytes.push(0x41, ...signed(value));
    return this;
  }

  /** The same float32 in all lanes. @param {number} value */
  f32x4(value) {
    const lane = [...new Uint8Array(new Float32Array([value]).buffer)];
    this.bytes.push(0xfd, 0x0c, ...lane, ...lane, ...lane, ...lane);
    return this;
  }

  /** The same int32 in all lanes. @param {number} value */
  i32x4(value) {
    const lane = [...new Uint8Array(new Int32Array([value]).buffer)];
    this.bytes.push(0xfd, 0x0c, ...lane, ...lane, ...lane, ...lane);
    return this;
  }

  /** Shift lanes to the left. @param {number} bits */
  shl(bits) {
    this.i32(bits);
    this.bytes.push(0xfd, ...unsigned(0xab));
    return this;
  }

  /** `v128.load`, `v128.load32_splat` or `v128.store`. @param {string} name @param {number} offset */
  memory(name, offset) {
    this.bytes.push(0xfd, LOADS[name], 2, ...unsigned(offset));
    return this;
  }

  /** Repeat the instructions that `body` appends while the value that they leave is not 0. */
  loop(body) {
    this.bytes.push(0x03, 0x40);
    body();
    this.bytes.push(0x0d, 0x00, 0x0b);
    return this;
  }

  /** Run the instructions that `body` appends if the value on the stack is not 0. */
  when(body) {
    this.bytes.push(0x04, 0x40);
    body();
    this.bytes.push(0x0b);
    return this;
  }

  /** Add a number to a variable. @param {number} index @param {number} value */
  increase(index, value) {
    return value ? this.get(index).i32(value).op('i32.add').set(index) : this;
  }

  /** @returns {number[]} */
  get body() {
    const locals = listed(this.locals.map((type) => [1, type]));
    return sized([...locals, ...this.bytes, 0x0b]);
  }
}

/**
 * Assemble a module that imports `env.memory` and exports functions.
 * @param {Record<string, Code>} functions
 * @param {{ pages: number, shared: boolean }} memory
 * @returns {Uint8Array}
 */
export function assemble(functions, { pages, shared }) {
  const codes = Object.values(functions);
  const section = (id, content) => [id, ...sized(content)];
  const types = codes.map((code) => [0x60, ...listed(Array(code.parameters).fill([I32])), 0]);
  const limits = shared ? [0x03, ...unsigned(pages), ...unsigned(pages)] : [0x00, ...unsigned(pages)];
  return new Uint8Array([
    ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
    ...section(1, listed(types)),
    ...section(2, listed([[...text('env'), ...text('memory'), 0x02, ...limits]])),
    ...section(3, listed(codes.map((_, i) => unsigned(i)))),
    ...section(7, listed(Object.keys(functions).map((name, i) => [...text(name), 0, ...unsigned(i)]))),
    ...section(10, listed(codes.map((code) => code.body))),
  ]);
}

/** Whether this engine has 128-bit vectors, and among them fused multiplication and addition. */
export const features = (() => {
  const valid = (...names) => {
    const code = new Code(0);
    for (const [i, name] of names.entries()) {
      if (!i) code.f32x4(1).f32x4(1);
      if (name === 'f32x4.relaxed_madd') code.f32x4(1);
      code.op(name);
    }
    code.bytes.push(0x1a);
    return WebAssembly.validate(assemble({ test: code }, { pages: 1, shared: false }));
  };
  return { simd: valid('f32x4.add'), fused: valid('f32x4.relaxed_madd') };
})();
