/**
 * Convolutions of planes of a volume as WebAssembly, written for the sizes of each layer.
 *
 * Voxels are stored with their channels side by side, in multiples of four. A block of a few
 * voxels times a few vectors of output channels is kept in registers, while all elements of the
 * kernel and all input channels are added to it.
 */
import { Code, I32, V128 } from './wasm.js';

/** Floats in a vector. */
export const LANES = 4;
// Accumulators, which leave some of the 16 vector registers to weights and inputs.
const MOST = 12;

/**
 * Sizes of a layer's code.
 * @typedef {object} Layer
 * @property {number} size 1 or 3, the width of the kernel
 * @property {number} inputs number of input channels
 * @property {number} outputs number of output channels
 * @property {string} activation `linear`, `relu`, `leaky_relu` or `elu`
 * @property {number} alpha of the activation
 * @property {number} stepX bytes from a voxel to the next one that the kernel takes, along x
 * @property {number} stepY the same along y
 * @property {number} voxel bytes of an input voxel
 * @property {number} row bytes of an input row
 * @property {number} outRow bytes of an output row
 * @property {number} width number of voxels of a row that are computed
 */

/** Channels as they are stored. @param {number} count */
export const padded = (count) => (count === 1 ? 1 : Math.ceil(count / LANES) * LANES);

/**
 * Vectors of output channels, and voxels, that are computed at once.
 * @param {number} outputs
 * @param {number} width
 */
export function blocking(outputs, width) {
  const vectors = Math.ceil(outputs / LANES);
  let best = { vectors: 1, voxels: 1, cost: Infinity };
  for (let group = 1; group <= vectors; group++) {
    if (vectors % group) continue;
    for (let voxels = 1; voxels <= Math.min(width, MOST); voxels++) {
      if (group * voxels > MOST) break;
      // Loads for each multiplication; few accumulators wait for one another.
      const cost = 1 / group + 1 / voxels + (group * voxels < 8 ? 1 : 0);
      if (cost < best.cost) best = { vectors: group, voxels, cost };
    }
  }
  return best;
}

/**
 * Weights in the order in which the code reads them.
 * @param {Layer} layer
 * @param {(x: number, y: number, z: number, input: number, output: number) => number} weight
 * @param {Float32Array} bias
 * @param {number} beyond bias of the channels that only fill up a vector
 * @returns {Float32Array}
 */
export function arranged(layer, weight, bias, beyond = 0) {
  const { size, inputs, outputs } = layer;
  const lanes = blocking(outputs, layer.width).vectors * LANES;
  const values = [];
  for (let first = 0; first < outputs; first += lanes) {
    for (let i = 0; i < lanes; i++) values.push(first + i < outputs ? bias[first + i] : beyond);
    for (let z = 0; z < size; z++) {
      for (let y = 0; y < size; y++) {
        for (let x = 0; x < size; x++) {
          for (let c = 0; c < inputs; c++) {
            for (let i = 0; i < lanes; i++) {
              values.push(first + i < outputs ? weight(x, y, z, c, first + i) : 0);
            }
          }
        }
      }
    }
  }
  return Float32Array.from(values);
}

/**
 * Write the code that computes some rows of an output plane.
 *
 * Its parameters are the addresses of the first voxels that are read in the three input planes,
 * that of the first output voxel, that of the weights, and the number of rows.
 * @param {Layer} layer
 * @param {boolean} fused
 * @returns {Code}
 */
export function rowsOf(layer, fused) {
  const { size, inputs, outputs, width, voxel } = layer;
  const { vectors, voxels } = blocking(outputs, width);
  const groups = Math.ceil(outputs / LANES) / vectors;
  const bytes = vectors * LANES * 4;
  const outVoxel = padded(outputs) * 4;
  const code = new Code(6);
  const [plane0, plane1, plane2, out, weights, rows] = [0, 1, 2, 3, 4, 5];
  const int = () => code.local(I32);
  const [x, past, base, line, place, number, countY, countX] = Array.from({ length: 8 }, int);
  const [group, groupOut, weight] = Array.from({ length: 3 }, int);
  const spare = [code.local(V128), code.local(V128), code.local(V128)];
  const shape = { inputs, vectors, voxels, voxel, place, weight, fused };
  const { sums, factor, multiply } = multiplier(code, shape);
  /** Count a variable up to a number; leaves whether it is not reached. */
  const counted = (index, end) => code.increase(index, 1).get(index).i32(end).op('i32.ne');

  code.loop(() => {
    code.get(weights).set(weight).i32(0).set(group).get(out).set(groupOut);
    code.loop(() => {
      const first = code.local(I32);
      code.get(weight).set(first).i32(0).set(x);
      code.loop(() => {
        code.get(first).set(weight);
        for (let j = 0; j < vectors; j++) {
          code.get(weight).memory('v128.load', j * 16).set(factor);
          for (let v = 0; v < voxels; v++) code.get(factor).set(sums[j * voxels + v]);
        }
        code.increase(weight, bytes);
        code.get(x).i32(voxel).op('i32.mul').set(past);
        if (size === 1) {
          code.get(plane0).get(past).op('i32.add').set(place);
          multiply();
        } else {
          code.get(plane0).get(past).op('i32.add').set(base).i32(0).set(number);
          code.loop(() => {
            code.get(base).set(line).i32(0).set(countY);
            code.loop(() => {
              code.get(line).set(place).i32(0).set(countX);
              code.loop(() => {
                multiply();
                code.increase(place, layer.stepX);
                counted(countX, size);
              });
              code.increase(line, layer.stepY);
              counted(countY, size);
            });
            code.get(plane2).get(plane1).get(number).op('select');
            code.get(past).op('i32.add').set(base);
            counted(number, size);
          });
        }
        code.get(groupOut).get(x).i32(outVoxel).op('i32.mul', 'i32.add').set(place);
        for (let v = 0; v < voxels; v++) {
          for (let j = 0; j < vectors; j++) {
            activate(code, layer, sums[j * voxels + v], spare);
            code.get(place).get(sums[j * voxels + v]).memory('v128.store', v * outVoxel + j * 16);
          }
        }
        // The last block ends with the row, and may compute voxels again.
        code.get(x).set(past).increase(x, voxels);
        code.get(x).i32(width - voxels).get(x).i32(width - voxels).op('i32.lt_u', 'select').set(x);
        code.get(past).i32(width - voxels).op('i32.ne');
      });
      code.increase(groupOut, bytes);
      counted(group, groups);
    });
    for (const plane of [plane0, plane1, plane2]) code.increase(plane, layer.row);
    code.increase(out, layer.outRow);
    code.get(rows).i32(1).op('i32.sub').set(rows).get(rows);
  });
  return code;
}

/**
 * Variables for the sums of a block, and a function that writes the code which adds the products
 * of all input channels to them and moves on to the next weights.
 */
export function multiplier(code, { inputs, vectors, voxels, voxel, place, weight, fused }) {
  const bytes = vectors * LANES * 4;
  const sums = Array.from({ length: vectors * voxels }, () => code.local(V128));
  const given = Array.from({ length: voxels }, () => code.local(V128));
  const factor = code.local(V128);
  const multiply = () => {
    for (let c = 0; c < inputs; c++) {
      for (let v = 0; v < voxels; v++) {
        code.get(place).memory('v128.load32_splat', v * voxel + c * 4).set(given[v]);
      }
      for (let j = 0; j < vectors; j++) {
        code.get(weight).memory('v128.load', c * bytes + j * 16).set(factor);
        for (let v = 0; v < voxels; v++) {
          const sum = sums[j * voxels + v];
          if (fused) code.get(factor).get(given[v]).get(sum).op('f32x4.relaxed_madd').set(sum);
          else code.get(factor).get(given[v]).op('f32x4.mul').get(sum).op('f32x4.add').set(sum);
        }
      }
    }
    code.increase(weight, inputs * bytes);
  };
  return { sums, factor, multiply };
}

/** Apply the activation to a variable. */
export function activate(code, { activation, alpha }, value, spare) {
  if (activation === 'relu') {
    code.get(value).f32x4(0).op('f32x4.pmax').set(value);
  } else if (activation === 'leaky_relu') {
    code.get(value).get(value).f32x4(alpha).op('f32x4.mul');
    code.get(value).f32x4(0).op('f32x4.gt', 'v128.bitselect').set(value);
  } else if (activation === 'elu') {
    exponential(code, value, spare);
    code.get(value).get(spare[0]).f32x4(1).op('f32x4.sub').f32x4(alpha).op('f32x4.mul');
    code.get(value).f32x4(0).op('f32x4.gt', 'v128.bitselect').set(value);
  }
}

/**
 * Compute exp(x) for x <= 0 into the first spare variable: a power of two by the exponent, times
 * a polynomial (Cephes' coefficients, https://www.netlib.org/cephes/).
 */
function exponential(code, value, [result, power, rest]) {
  // Zero for positive values, whose result is not used.
  code.f32x4(0).get(value).get(value).f32x4(0).op('f32x4.gt', 'v128.bitselect');
  code.f32x4(-87).op('f32x4.pmax').set(rest);
  code.get(rest).f32x4(Math.LOG2E).op('f32x4.mul', 'f32x4.nearest').set(power);
  code.get(rest).get(power).f32x4(0.693359375).op('f32x4.mul', 'f32x4.sub');
  code.get(power).f32x4(-2.12194440e-4).op('f32x4.mul', 'f32x4.sub').set(rest);
  code.f32x4(1.9875691500e-4);
  for (const term of [
    1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1,
  ]) {
    code.get(rest).op('f32x4.mul').f32x4(term).op('f32x4.add');
  }
  code.get(rest).op('f32x4.mul').get(rest).op('f32x4.mul').get(rest).op('f32x4.add');
  code.f32x4(1).op('f32x4.add');
  code.get(power).op('i32x4.trunc_sat_f32x4_s').i32x4(127).op('i32x4.add').shl(23);
  code.op('f32x4.mul').set(result);
}
