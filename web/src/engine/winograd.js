/**
 * Dilated 3 x 3 x 3 convolutions with a quarter of the multiplications.
 *
 * Along x and y a tile of 4 x 4 voxels is computed by Winograd's minimal filtering F(4, 3) (Lavin
 * and Gray 2016, https://doi.org/10.1109/CVPR.2016.435), along z directly. The voxels of a tile are
 * as far apart as the dilation. A work item is four rows of an output plane.
 */
import { activate, blocking, LANES, multiplier, padded } from './kernel.js';
import { Code, I32, V128 } from './wasm.js';

/** Output voxels and input voxels of a tile along an axis. */
const [MADE, GIVEN] = [4, 6];
const POINTS = GIVEN * GIVEN;
// Least and most tiles that are computed at once, so that their features stay in the cache.
const [FEWEST, MOST] = [12, 24];
// From 3 weights to 6.
const WEIGHTS = [
  [1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6],
  [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1],
];

/**
 * How the rows of an output plane are divided into tiles.
 * @param {number} width
 * @param {number} height
 * @param {number} dilation
 */
export function tiling(width, height, dilation) {
  const span = MADE * dilation;
  const groups = Math.ceil(width / span);
  let each = Math.min(groups, Math.ceil(MOST / dilation));
  // With the fewest tiles beyond the end of the row.
  const beyond = (n) => Math.ceil(groups / n) * n;
  for (let n = each - 1; n * dilation >= FEWEST; n--) if (beyond(n) < beyond(each)) each = n;
  return {
    dilation,
    /** Groups of `dilation` neighbouring tiles in a block, and blocks in a row. */
    groups: each,
    blocks: Math.ceil(groups / each),
    /** Tiles in a block. */
    tiles: each * dilation,
    /** Voxels of an input row and rows of an input plane, with zeros around. */
    sides: [beyond(each) * span + 2 * dilation, Math.ceil(height / span) * span + 2 * dilation],
    /** Work items of a plane. */
    items: Math.ceil(height / span) * dilation,
  };
}

/** First row of a work item. @param {number} item @param {number} dilation */
export const firstRow = (item, dilation) =>
  Math.floor(item / dilation) * MADE * dilation + (item % dilation);

/**
 * Bytes of the parts of a thread's memory.
 * @param {ReturnType<typeof tiling>} grid
 * @param {number} inputs
 * @param {number} outputs
 */
export function memoryOf({ tiles, groups, dilation }, inputs, outputs) {
  const row = (groups * MADE + 2) * dilation * padded(inputs) * 4;
  const point = tiles * padded(inputs) * 4;
  const made = tiles * padded(outputs) * 4;
  const points = GIVEN * row;
  const products = points + 3 * POINTS * point;
  return { row, point, made, points, products, total: products + POINTS * made };
}

/**
 * Weights in the order in which the code reads them: for each group of output channels those of
 * each point of a tile, z, input channel.
 */
export function transformedWeights({ inputs, outputs }, tiles, weight) {
  const lanes = blocking(outputs, tiles).vectors * LANES;
  const groups = Math.ceil(outputs / lanes);
  const values = new Float32Array(groups * POINTS * 3 * inputs * lanes);
  for (let o = 0; o < outputs; o++) {
    for (let c = 0; c < inputs; c++) {
      for (let z = 0; z < 3; z++) {
        for (let point = 0; point < POINTS; point++) {
          const [down, across] = [WEIGHTS[Math.floor(point / GIVEN)], WEIGHTS[point % GIVEN]];
          let sum = 0;
          for (let y = 0; y < 3; y++) {
            for (let x = 0; x < 3; x++) sum += down[y] * across[x] * weight(x, y, z, c, o);
          }
          const group = Math.floor(o / lanes);
          values[(((group * POINTS + point) * 3 + z) * inputs + c) * lanes + (o % lanes)] = sum;
        }
      }
    }
  }
  return values;
}

/**
 * The functions of a layer.
 *
 * `down(from, to)` and `across(from, to)` transform input rows, `products(points, weights, to)`
 * multiplies, `up(products)` and `out(products, bias, to, valid, rows)` transform back.
 * @param {import('./kernel.js').Layer} layer
 * @param {ReturnType<typeof tiling>} grid
 * @param {boolean} fused
 * @returns {Record<string, Code>}
 */
export function codesOf(layer, grid, fused) {
  const { inputs, outputs, voxel, stepX, stepY } = layer;
  const { row, point, made } = memoryOf(grid, inputs, outputs);
  const tileRun = (grid.dilation * voxel) / 16;
  return {
    down: transform((voxel * (grid.groups * MADE + 2) * grid.dilation) / 16, 1, 1, stepY, row, 0, 0, 0, 0),
    across: transform(
      tileRun, grid.groups, GIVEN, stepX, point,
      MADE * stepX, grid.dilation * voxel, row, GIVEN * point,
    ),
    products: products(layer, grid, point, made, fused),
    up: inverseDown((GIVEN * made) / 16, GIVEN * made),
    out: inverseAcross(layer, grid, made),
  };
}

/** Six vectors that are so many bytes apart become six others, run by run. */
function transform(run, groups, rows, load, store, groupFrom, groupTo, rowFrom, rowTo) {
  const code = new Code(2);
  const [from, to] = [0, 1];
  const int = () => code.local(I32);
  const [group, line, left, at, into, first, second] = Array.from({ length: 7 }, int);
  const r = Array.from({ length: GIVEN }, () => code.local(V128));
  const [even, odd] = [code.local(V128), code.local(V128)];
  const scaled = (index, factor) => code.get(index).f32x4(factor).op('f32x4.mul');
  const store_ = (k) => code.memory('v128.store', k * store);
  /** even + odd and even - odd */
  const both = (k) => {
    code.get(into).get(even).get(odd).op('f32x4.add');
    store_(k);
    code.get(into).get(even).get(odd).op('f32x4.sub');
    store_(k + 1);
  };
  const ends = (k, a, b, c) => {
    code.get(into);
    scaled(r[a], 4);
    scaled(r[b], 5).op('f32x4.sub').get(r[c]).op('f32x4.add');
    store_(k);
  };
  code.i32(0).set(line);
  code.loop(() => {
    code.get(from).set(first).get(to).set(second).i32(0).set(group);
    code.loop(() => {
      code.get(first).set(at).get(second).set(into).i32(run).set(left);
      code.loop(() => {
        for (let k = 0; k < GIVEN; k++) code.get(at).memory('v128.load', k * load).set(r[k]);
        ends(0, 0, 2, 4);
        code.get(r[4]);
        scaled(r[2], 4).op('f32x4.sub').set(even).get(r[3]);
        scaled(r[1], 4).op('f32x4.sub').set(odd);
        both(1);
        code.get(r[4]).get(r[2]).op('f32x4.sub').set(even);
        code.get(r[3]).get(r[1]).op('f32x4.sub').f32x4(2).op('f32x4.mul').set(odd);
        both(3);
        ends(5, 1, 3, 5);
        code.increase(at, 16).increase(into, 16);
        code.get(left).i32(1).op('i32.sub').set(left).get(left);
      });
      code.increase(first, groupFrom).increase(second, groupTo);
      code.increase(group, 1).get(group).i32(groups).op('i32.ne');
    });
    code.increase(from, rowFrom).increase(to, rowTo);
    code.increase(line, 1).get(line).i32(rows).op('i32.ne');
  });
  return code;
}

/** Sums over z and input channels for each point, tile and output channel. */
function products({ inputs, outputs, voxel }, { tiles }, point, made, fused) {
  const { vectors, voxels } = blocking(outputs, tiles);
  const groups = Math.ceil(outputs / LANES) / vectors;
  const bytes = vectors * LANES * 4;
  const outVoxel = padded(outputs) * 4;
  const code = new Code(3);
  const [given, weights, out] = [0, 1, 2];
  const int = () => code.local(I32);
  const [group, number, tile, past, place, weight, z] = Array.from({ length: 7 }, int);
  const [fromPoint, toPoint, toGroup] = Array.from({ length: 3 }, int);
  const { sums, multiply } = multiplier(code, { inputs, vectors, voxels, voxel, place, weight, fused });
  code.get(out).set(toGroup).i32(0).set(group);
  code.loop(() => {
    code.get(given).set(fromPoint).get(toGroup).set(toPoint).i32(0).set(number);
    code.loop(() => {
      code.i32(0).set(tile);
      code.loop(() => {
        for (const sum of sums) code.f32x4(0).set(sum);
        code.get(weights).set(weight).i32(0).set(z);
        code.get(tile).i32(voxel).op('i32.mul').get(fromPoint).op('i32.add').set(place);
        code.loop(() => {
          multiply();
          code.increase(place, POINTS * point);
          code.increase(z, 1).get(z).i32(3).op('i32.ne');
        });
        code.get(tile).i32(outVoxel).op('i32.mul').get(toPoint).op('i32.add').set(place);
        for (let v = 0; v < voxels; v++) {
          for (let j = 0; j < vectors; j++) {
            code.get(place).get(sums[j * voxels + v]).memory('v128.store', v * outVoxel + j * 16);
          }
        }
        // The last block ends with the last tile, and may compute tiles again.
        code.get(tile).set(past).increase(tile, voxels);
        code.get(tile).i32(tiles - voxels).get(tile).i32(tiles - voxels).op('i32.lt_u', 'select').set(tile);
        code.get(past).i32(tiles - voxels).op('i32.ne');
      });
      code.increase(fromPoint, point).increase(toPoint, made).increase(weights, 3 * inputs * bytes);
      code.increase(number, 1).get(number).i32(POINTS).op('i32.ne');
    });
    code.increase(toGroup, bytes);
    code.increase(group, 1).get(group).i32(groups).op('i32.ne');
  });
  return code;
}

/** From six vectors to the four of a tile; leaves them in variables. */
function inverse(code, m, s) {
  const [sum, difference, sum4, difference4] = s;
  code.get(m[1]).get(m[2]).op('f32x4.add').set(sum);
  code.get(m[1]).get(m[2]).op('f32x4.sub').set(difference);
  code.get(m[3]).get(m[4]).op('f32x4.add').set(sum4);
  code.get(m[3]).get(m[4]).op('f32x4.sub').set(difference4);
  code.get(m[0]).get(sum).op('f32x4.add').get(sum4).op('f32x4.add').set(m[0]);
  code.get(difference).get(difference4).f32x4(2).op('f32x4.mul', 'f32x4.add').set(m[1]);
  code.get(sum).get(sum4).f32x4(4).op('f32x4.mul', 'f32x4.add').set(m[2]);
  code.get(difference).get(difference4).f32x4(8).op('f32x4.mul', 'f32x4.add');
  code.get(m[5]).op('f32x4.add').set(m[3]);
}

/** Transform back along y, in place. */
function inverseDown(run, stride) {
  const code = new Code(1);
  const left = code.local(I32);
  const m = Array.from({ length: GIVEN }, () => code.local(V128));
  const s = Array.from({ length: 4 }, () => code.local(V128));
  code.i32(run).set(left);
  code.loop(() => {
    for (let k = 0; k < GIVEN; k++) code.get(0).memory('v128.load', k * stride).set(m[k]);
    inverse(code, m, s);
    for (let k = 0; k < MADE; k++) code.get(0).get(m[k]).memory('v128.store', k * stride);
    code.increase(0, 16);
    code.get(left).i32(1).op('i32.sub').set(left).get(left);
  });
  return code;
}

/** Transform back along x, add the bias, apply the activation and store the voxels of the row. */
function inverseAcross(layer, { dilation, groups }, made) {
  const { outputs, outRow } = layer;
  const outVoxel = padded(outputs) * 4;
  const code = new Code(5);
  const [from, bias, out, valid, rows] = [0, 1, 2, 3, 4];
  const int = () => code.local(I32);
  const [at, into, x, group, phase] = Array.from({ length: 5 }, int);
  const m = Array.from({ length: GIVEN }, () => code.local(V128));
  const s = Array.from({ length: 4 }, () => code.local(V128));
  code.loop(() => {
    code.get(from).set(at).i32(0).set(x).i32(0).set(group);
    code.loop(() => {
      code.i32(0).set(phase);
      code.loop(() => {
        code.get(x).i32(outVoxel).op('i32.mul').get(out).op('i32.add').set(into);
        for (let j = 0; j < outVoxel / 16; j++) {
          for (let k = 0; k < GIVEN; k++) code.get(at).memory('v128.load', k * made + j * 16).set(m[k]);
          inverse(code, m, s);
          for (let k = 0; k < MADE; k++) {
            code.get(x).i32(k * dilation).op('i32.add').get(valid).op('i32.lt_u');
            code.when(() => {
              code.get(m[k]).get(bias).memory('v128.load', j * 16).op('f32x4.add').set(m[k]);
              activate(code, layer, m[k], s);
              code.get(into).get(m[k]).memory('v128.store', k * dilation * outVoxel + j * 16);
            });
          }
        }
        code.increase(at, outVoxel).increase(x, 1);
        code.increase(phase, 1).get(phase).i32(dilation).op('i32.ne');
      });
      code.increase(x, (MADE - 1) * dilation);
      code.increase(group, 1).get(group).i32(groups).op('i32.ne');
    });
    code.increase(from, GIVEN * made).increase(out, outRow);
    code.get(rows).i32(1).op('i32.sub').set(rows).get(rows);
  });
  return code;
}
